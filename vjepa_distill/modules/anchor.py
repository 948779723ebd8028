"""The predictor's anchor: a smoothed copy of what was seen, so that only the change has to be learned.

A kernel regression (Nadaraya 1964, Watson 1964) of the seen tokens over their places, shrunk to their mean.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vjepa_distill.tokens import Grid, coordinates, promote, take

TIME, SPACE, SHRINK = 0.5, 0.3, 0.02
"""First values: tubelets after which a copy has faded by e, cells of its blur, pull to the mean."""


class Anchor(nn.Module):
    """``g · (Σ_k κ(q,k) z_k + ε z̄) / (Σ_k κ(q,k) + ε)`` at every asked place q, over the seen tokens z_k.

    ``κ = exp(-(|Δt| - min_k |Δt|) / τ - (Δh² + Δw²) / 2σ²)``: time counts from the seen tubelet nearest to q,
    so that the last one is copied at any horizon; z̄ is the mean of what was seen, which is said far from all
    of it. g [D] starts at one; τ, σ in cells of the grid and ε are learned, and stay positive. No gradient
    goes into the tokens.

    future_only: zero at places in tubelets of which something was seen: what is hidden among the seen is
        another question than what comes, and a copy of its neighbours a worse start.
    """

    def __init__(self, dim: int, future_only: bool = False) -> None:
        super().__init__()
        self.future_only = future_only
        self.gain = nn.Parameter(torch.ones(dim))
        self.log_time = nn.Parameter(torch.tensor(TIME).log())
        self.log_space = nn.Parameter(torch.tensor(SPACE).log())
        self.log_shrink = nn.Parameter(torch.tensor(SHRINK).log())

    def forward(self, seen: Tensor, keep: Tensor, query: Tensor, grid: Grid) -> Tensor:
        """seen [B, K, D] at places keep [B, K]; asked places query [B, M]. Returns [B, M, D], fp32 or more.

        Every axis has a kernel of its own: t² + h² + w² weights and not one for every pair of tokens.
        """
        with torch.autocast(seen.device.type, enabled=False):
            z = promote(seen.detach())
            weighted = torch.cat([z, torch.ones_like(z[..., :1])], dim=-1)
            volume = z.new_zeros(len(z), grid.length, weighted.shape[-1])
            volume = volume.scatter(1, keep.unsqueeze(-1).expand_as(weighted), weighted).unflatten(1, grid)
            nearest, weights = self._in_time(keep, grid)
            volume = torch.einsum("btu,buhwd->bthwd", weights.to(z.dtype), volume)
            for axis, size in ((2, grid.h), (3, grid.w)):
                volume = _along(axis, self._in_space(size, z.device).to(z.dtype), volume)
            found = take(volume.flatten(1, 3), query)
            shrink = self.log_shrink.exp().to(z.dtype)
            mean = z.mean(dim=1, keepdim=True)
            copied = self.gain.to(z.dtype) * (found[..., :-1] + shrink * mean) / (found[..., -1:] + shrink)
            if self.future_only:
                ahead = nearest.gather(1, coordinates(grid, query.device)[:, 0][query]) > 0
                copied = copied * ahead.unsqueeze(-1)
            return copied

    def _in_time(self, keep: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
        """For each tubelet of a row [B, t] how far the nearest seen one is, and the weights of all [B, t, t]
        (seen last) for it."""
        tubelet = coordinates(grid, keep.device)[:, 0]
        has = torch.zeros(len(keep), grid.t, dtype=torch.bool, device=keep.device)
        has = has.scatter(1, tubelet[keep], True)
        place = torch.arange(grid.t, device=keep.device)
        away = (place[:, None] - place[None]).abs().expand(len(keep), -1, -1)
        nearest = away.masked_fill(~has[:, None], grid.t).amin(dim=2, keepdim=True)
        later = (away - nearest).clamp_min(0).to(self.log_time.dtype)  # of integers fp64 would make fp32
        return nearest.squeeze(2), torch.exp(-later / self.log_time.exp())

    def _in_space(self, size: int, device: torch.device) -> Tensor:
        """[size, size]: the weight of a row (or column) for one that asks."""
        place = torch.arange(size, device=device).to(self.log_space.dtype)
        return torch.exp(-((place[:, None] - place[None]) ** 2) / 2 / self.log_space.exp() ** 2)


def _along(axis: int, weights: Tensor, volume: Tensor) -> Tensor:
    """Apply [n, n] weights along one axis of a volume."""
    return torch.movedim(torch.tensordot(weights, volume, dims=([1], [axis])), 0, axis)
