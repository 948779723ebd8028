"""Tokens on a grid: how many there are, where each one sits, how to pick some and how to resample them.

Shape legend, used everywhere: B clips, T frames, H and W pixels; a grid of t tubelets by h by w cells;
L = t·h·w tokens of width D, in (t, h, w) order with w fastest; K kept tokens, M asked (masked) ones.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Grid(NamedTuple):
    """The token grid of a clip: t tubelets by h rows by w columns."""

    t: int
    h: int
    w: int

    @property
    def length(self) -> int:
        """L, the number of tokens."""
        return self.t * self.h * self.w

    @property
    def cells(self) -> int:
        """The number of tokens in one tubelet."""
        return self.h * self.w


def coordinates(grid: Grid, device: torch.device | None = None) -> Tensor:
    """The (t, h, w) index of every token: int64 [L, 3], in token order."""
    axes = [torch.arange(n, device=device) for n in grid]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).flatten(0, 2)


def take(tokens: Tensor, index: Tensor) -> Tensor:
    """Pick tokens: [B, L, D] at index [B, K] gives [B, K, D]."""
    return tokens.gather(1, index.unsqueeze(-1).expand(-1, -1, tokens.shape[-1]))


def resample(tokens: Tensor, grid: Grid, target: Grid) -> Tensor:
    """Trilinear interpolation of [B, L, D] from one grid onto another: [B, target.length, D].

    Raises ValueError when the tokens do not fill the grid they are said to lie on.
    """
    if tokens.shape[1] != grid.length:
        raise ValueError(f"{tokens.shape[1]} tokens do not fill the grid {tuple(grid)} of {grid.length}")
    if grid == target:
        return tokens
    volume = tokens.unflatten(1, grid).permute(0, 4, 1, 2, 3)
    volume = F.interpolate(volume.float(), size=tuple(target), mode="trilinear", align_corners=False)
    return volume.flatten(2).transpose(1, 2).to(tokens.dtype)


def promote(x: Tensor) -> Tensor:
    """bf16 and fp16 to fp32; fp64 is never demoted."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
