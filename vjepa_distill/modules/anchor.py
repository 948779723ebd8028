"""The predictor's anchor: a smoothed copy of what was seen, so that only the change has to be learned.

A kernel regression (Nadaraya 1964, Watson 1964) of the seen tokens over their places, shrunk to their mean.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vjepa_distill.tokens import Grid, coordinates, promote, take

TIME, SPACE, SHRINK, FORGET = 0.5, 0.3, 0.02, 0.01
"""First values: tubelets after which a copy has faded by e, cells of its blur, pull to the mean, to what is
usual."""
FAST = 10
"""By so much a step of the optimizer moves what is usual further than other weights."""


class Anchor(nn.Module):
    """``g · (Σ_k κ(q,k) z_k + ε z̄) / (Σ_k κ(q,k) + ε)`` at every asked place q, over the seen tokens z_k.

    ``κ = exp(-(|Δt| - min_k |Δt|) / τ - (Δh² + Δw²) / 2σ²)``: time counts from the seen tubelet nearest to q,
    so that the last one is copied at any horizon; z̄ is the mean of what was seen, which is said far from all
    of it. g [D] starts at one; τ, σ in cells of the grid and ε are learned, and stay positive. No gradient
    goes into the tokens.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(dim))
        self.log_time = nn.Parameter(torch.tensor(TIME).log())
        self.log_space = nn.Parameter(torch.tensor(SPACE).log())
        self.log_shrink = nn.Parameter(torch.tensor(SHRINK).log())

    def forward(self, seen: Tensor, keep: Tensor, query: Tensor, grid: Grid) -> Tensor:
        """seen [B, K, D] at places keep [B, K]; asked places query [B, M]. Returns [B, M, D], fp32 or more.

        Every axis has a kernel of its own: t² + h² + w² weights and not one for every pair of tokens.
        """
        with torch.autocast(seen.device.type, enabled=False):
            return self._copied(promote(seen.detach()), keep, query, grid)

    def _copied(self, z: Tensor, keep: Tensor, query: Tensor, grid: Grid) -> Tensor:
        weighted = torch.cat([z, torch.ones_like(z[..., :1])], dim=-1)
        volume = z.new_zeros(len(z), grid.length, weighted.shape[-1])
        volume = volume.scatter(1, keep.unsqueeze(-1).expand_as(weighted), weighted).unflatten(1, grid)
        volume = torch.einsum("btu,buhwd->bthwd", self._in_time(keep, grid).to(z.dtype), volume)
        for axis, size in ((2, grid.h), (3, grid.w)):
            volume = _along(axis, self._in_space(size, z.device).to(z.dtype), volume)
        found = take(volume.flatten(1, 3), query)
        shrink, pull = self.log_shrink.exp().to(z.dtype), self._pull().to(z.dtype)
        mean = z.mean(dim=1, keepdim=True)
        return self.gain.to(z.dtype) * (found[..., :-1] + shrink * mean) / (found[..., -1:] + pull)

    def _pull(self) -> Tensor:
        """What stands beside the weights of the seen tokens below the line."""
        return self.log_shrink.exp()

    def _in_time(self, keep: Tensor, grid: Grid) -> Tensor:
        """[B, t, t]: the weight of a tubelet (last) for one that asks, for rows see different tubelets."""
        tubelet = coordinates(grid, keep.device)[:, 0]
        has = torch.zeros(len(keep), grid.t, dtype=torch.bool, device=keep.device)
        has = has.scatter(1, tubelet[keep], True)
        place = torch.arange(grid.t, device=keep.device)
        away = (place[:, None] - place[None]).abs().expand(len(keep), -1, -1)
        nearest = away.masked_fill(~has[:, None], grid.t).amin(dim=2, keepdim=True)
        later = (away - nearest).clamp_min(0).to(self.log_time.dtype)  # of integers fp64 would make fp32
        return torch.exp(-later / self.log_time.exp())

    def _in_space(self, size: int, device: torch.device) -> Tensor:
        """[size, size]: the weight of a row (or column) for one that asks."""
        place = torch.arange(size, device=device).to(self.log_space.dtype)
        return torch.exp(-((place[:, None] - place[None]) ** 2) / 2 / self.log_space.exp() ** 2)


class AnomalyAnchor(Anchor):
    """The same copy, of anomalies: of how the seen tokens differ from what is usual in their cells.

    ``m(q) + g · (Σ_k κ(q,k) y_k + ε ȳ) / (Σ_k κ(q,k) + ε + δ)``, ``y_k = z_k - m(k)``. m [D, h, w], one token
    for each cell of the picture at any time, is learned from zero, ten times as fast as other parts;
    forecasters of weather call it climatology, and such a copy anomaly persistence. δ, learned from 0.01,
    pulls to m what lies far from all that was seen. On another grid m is read between its cells.
    """

    def __init__(self, dim: int, cells: tuple[int, int]) -> None:
        super().__init__(dim)
        self.log_forget = nn.Parameter(torch.tensor(FORGET).log())
        self.usual = nn.Parameter(torch.zeros(dim, *cells))

    def forward(self, seen: Tensor, keep: Tensor, query: Tensor, grid: Grid) -> Tensor:
        """As above: seen [B, K, D] at places keep [B, K], asked places query [B, M]. Returns [B, M, D]."""
        with torch.autocast(seen.device.type, enabled=False):
            usual = self._on(grid).to(promote(seen).dtype)
            apart = promote(seen.detach()) - usual[keep % grid.cells]
            return usual[query % grid.cells] + self._copied(apart, keep, query, grid)

    def _pull(self) -> Tensor:
        return super()._pull() + self.log_forget.exp()

    def _on(self, grid: Grid) -> Tensor:
        """What is usual in every cell of a grid: [cells, D]."""
        usual, size = FAST * self.usual, (grid.h, grid.w)
        if usual.shape[1:] != size:
            usual = F.interpolate(usual[None], size, mode="bilinear", align_corners=False)[0]
        return usual.flatten(1).T


def _along(axis: int, weights: Tensor, volume: Tensor) -> Tensor:
    """Apply [n, n] weights along one axis of a volume."""
    return torch.movedim(torch.tensordot(weights, volume, dims=([1], [axis])), 0, axis)
