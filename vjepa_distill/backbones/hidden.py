"""Makes any clip encoder leak-free: hidden cells are blanked in the pixels, tokens gathered afterwards."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from vjepa_distill.errors import UserError
from vjepa_distill.tokens import Grid, take


class Hidden(nn.Module):
    """Wraps a module clip -> [B, L, D] that has `embed_dim` and `grid`, and cannot drop tokens itself.

    An encoder that mixes tokens before they are selected leaks what was hidden. Here nothing hidden is left
    to leak, whatever the module does with its input. The price: the whole clip is encoded every time.

    Args:
        module: the encoder; called with the clip alone.
        fill: RGB value in [0, 1] that stands for "hidden"; grey surprises pretrained weights least.
    """

    module: Any

    def __init__(self, module: nn.Module, fill: float = 0.5) -> None:
        super().__init__()
        self.module = module
        self.fill = fill

    @property
    def embed_dim(self) -> int:
        return self.module.embed_dim

    def grid(self, T: int, H: int, W: int) -> Grid:
        """The module's own grid."""
        return self.module.grid(T, H, W)

    def set_checkpointing(self, on: bool = True) -> None:
        """Passed on to the module; ValueError when it cannot recompute its activations."""
        if not hasattr(self.module, "set_checkpointing"):
            raise UserError(f"{type(self.module).__name__} has no activation checkpointing; leave it off")
        self.module.set_checkpointing(on)

    def describe(self) -> dict[str, str]:
        """What the module says of itself, if it does."""
        return self.module.describe() if hasattr(self.module, "describe") else {}

    def forward(self, clip: Tensor, keep: Tensor | None = None) -> Tensor:
        """clip [B, 3, T, H, W] in [0, 1], keep [B, K] or None -> tokens [B, K or L, D]."""
        if keep is None:
            return self.module(clip)
        grid = self.grid(*clip.shape[2:])
        return take(self.module(blank(clip, keep, grid, self.fill)), keep)


def blank(clip: Tensor, keep: Tensor, grid: Grid, fill: float) -> Tensor:
    """clip [B, 3, T, H, W] with every cell of `grid` that is not in keep [B, K] set to `fill`.

    A pixel belongs to the cell it falls into when the clip is cut into t x h x w equal parts, whether or not
    the parts are whole pixels. Hidden values are replaced, not multiplied: even a NaN there stays hidden.
    """
    shown = torch.zeros(len(clip), grid.length, dtype=torch.bool, device=clip.device).scatter_(1, keep, True)
    shown = shown.view(-1, 1, *grid)
    for axis, cells in enumerate(grid, start=2):
        size = clip.shape[axis]
        shown = shown.index_select(axis, torch.arange(size, device=clip.device) * cells // size)
    return torch.where(shown, clip, fill)
