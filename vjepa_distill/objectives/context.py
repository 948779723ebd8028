"""Context: the tokens that were seen are predicted too, so that they stay about their own places."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from vjepa_distill.errors import UserError
from vjepa_distill.modules.masks import Blocks, Layout, short_and_long
from vjepa_distill.protocols import Latents, Split, Timeline, View
from vjepa_distill.tokens import Grid, coordinates, promote, take


class Context(nn.Module):
    """The loss on visible tokens of V-JEPA 2.1 (Mur-Labadia et al. 2026, arXiv 2603.14482).

    L1 of the predictor's tokens at the places it was shown, each weighted by one over the square root of its
    distance (in cells) to the nearest hidden place. The masks are NOW's: with the same options both share the
    student's passes.

    Where the encoder offers its layers (``Layered``), each of the last ``levels`` before the output says the
    same tokens through a linear layer of its own (deep supervision); else the output alone is supervised.
    The paper's predictor reads and predicts all levels at once; ours reads the output.

    Args:
        levels: how many inner layers at most.
        layers: the widths of the layers that the encoder offers, the output's last.
        short, long, aspect, layout: of the masks, as for ``now``.
    """

    deep = True

    def __init__(
        self,
        embed_dim: int,
        timeline: Timeline,
        levels: int = 3,
        short: Sequence[float] = (8, 0.15),
        long: Sequence[float] = (2, 0.7),
        aspect: Sequence[float] = (0.75, 1.5),
        layout: Layout = "exact",
        layers: Sequence[int] = (),
        target_dim: int | None = None,
    ) -> None:
        super().__init__()
        if levels < 0:
            raise UserError(f"levels={levels}: the number of inner layers is 0 or more")
        self.blocks = short_and_long(short, long, aspect, layout)
        inner = list(layers[:-1])[-levels:] if levels else []
        self.heads = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, target_dim or embed_dim)) for width in inner
        )

    def views(self) -> Sequence[View]:
        return self.blocks

    def forward(self, latents: Latents) -> Tensor:
        return torch.stack([self._visible(latents, view) for view in self.blocks]).mean()

    def _visible(self, latents: Latents, view: Blocks) -> Tensor:
        split = latents.splits[view]
        weights = nearness(split, latents.grid)
        target = take(latents.target, split.keep)
        said = [latents.predict(view, split.keep)]
        if self.heads:
            inner = latents.layers[view][-1 - len(self.heads) : -1]
            said += [head(tokens) for head, tokens in zip(self.heads, inner, strict=True)]
        return torch.stack([weighted_l1(z, target, weights) for z in said]).mean()


def nearness(split: Split, grid: Grid) -> Tensor:
    """1 / √(distance in cells to the nearest hidden place), for every kept one: [B, K]."""
    places = coordinates(grid, split.keep.device).float()
    # by differences, and not by a matrix product: TF32 would round squares of places to other places
    exact = "donot_use_mm_for_euclid_dist"
    away = torch.cdist(places[split.keep], places[split.rest], compute_mode=exact)
    return away.amin(dim=2).rsqrt()


def weighted_l1(z: Tensor, target: Tensor, weights: Tensor) -> Tensor:
    """Mean absolute difference of [B, M, D], tokens weighted by [B, M]."""
    return weighted((promote(z) - promote(target)).abs().mean(dim=-1), weights)


def weighted(each: Tensor, weights: Tensor) -> Tensor:
    """The mean of [B, M], weighted by [B, M] whose scale does not matter.

    Every clip counts the same, so that ranks may be averaged; one whose weights are all 0 adds 0.
    """
    total = weights.sum(dim=1).clamp_min(torch.finfo(weights.dtype).tiny)
    return ((each * weights).sum(dim=1) / total).mean()
