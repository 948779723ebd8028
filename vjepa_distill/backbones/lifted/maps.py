"""Any timm model frame by frame through its last feature map: convolutional, hierarchical, mixers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from vjepa_distill.backbones.cells import cut
from vjepa_distill.backbones.lifted.images import Images, checkpointing
from vjepa_distill.backbones.lifted.shapes import Shapes, cells
from vjepa_distill.tokens import Grid


class Maps(Images):
    """clip [B, 3, T, H, W] -> [B, L, D]: the cells of the last map of each frame are the tokens.

    It mixes pixels of all cells before any token exists: wrap it in `Hidden`. The grid of a size is what
    comes out, which padding convolutions round up, so that no size has to divide.
    """

    model: Any

    def __init__(self, model: Any, shapes: Shapes, tubelet: int, time: str) -> None:
        super().__init__(model.pretrained_cfg, shapes(*shapes.native).width, tubelet, time)
        self.model = model
        self.shapes = shapes

    def grid(self, T: int, H: int, W: int) -> Grid:
        """What comes out for a clip of that size; UserError for sizes the model cannot take."""
        output = self.shapes(H, W)
        return Grid(cut(T, H, W, (self.tubelet, 1, 1)).t, output.h, output.w)

    def tokens(self, images: Tensor) -> Tensor:
        """Normalised images [N, 3, H, W] -> [N, h*w, width]."""
        return cells(self.model, images, self.shapes(*images.shape[2:]))

    def set_checkpointing(self, on: bool = True) -> None:
        """timm's own activation checkpointing; UserError where the model has none."""
        checkpointing(self.model, on)

    def sizes(self) -> str:
        """The native size, and whether another is taken too."""
        H, W = self.shapes.native
        h, w, *_ = self.shapes(H, W)
        built = f"{H} x {W} pixels ({h} x {w} cells)"
        if self.shapes.takes(2 * H, 3 * W):
            return f"any that the model takes; made for {built}"
        return f"{built}; others: build it with size: [H, W]"

    def smallest_clip(self) -> Tensor:
        """Zeros [1, 3, tubelet, H, W] of the model's native size."""
        return torch.zeros(1, 3, self.tubelet, *self.shapes.native)
