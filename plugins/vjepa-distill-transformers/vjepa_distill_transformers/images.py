"""Image models on each frame of a clip: DINOv2, DINOv3, SigLIP and SigLIP 2; their tokens see one frame."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from vjepa_distill_transformers.encoder import Encoder

TIMES = ("first", "mean")
Patches = Callable[[Any, Tensor], Tensor]
"""(model, normalised images [N, 3, H, W]) gives patch tokens [N, h*w, D] after the model's last norm."""


class PerFrame(Encoder):
    """A token is a patch of one frame of its tubelet (`time` "first") or of all, averaged ("mean")."""

    def __init__(self, model: Any, patches: Patches, time: str, *args: Any) -> None:
        super().__init__(model, *args)
        self.patches = patches
        self.time = time

    def forward(self, clip: Tensor) -> Tensor:
        """clip [B, 3, T, H, W] in [0, 1] -> tokens [B, L, D] in (t, h, w) order."""
        grid = self.grid(*clip.shape[2:])
        frames = self.normalised(clip).transpose(1, 2).unflatten(1, (grid.t, self.cell[0]))
        frames = frames[:, :, :1] if self.time == "first" else frames
        tokens = self.patches(self.model, frames.flatten(0, 2))
        return tokens.unflatten(0, frames.shape[:3]).mean(2).flatten(1, 2)


def after_prefix(model: Any, images: Tensor) -> Tensor:
    """DINOv2 and DINOv3, ViT or ConvNeXt: the tokens that follow the class token and the registers."""
    prefix = 1 + getattr(model.config, "num_register_tokens", 0)
    return model(images).last_hidden_state[:, prefix:]


def all_tokens(model: Any, images: Tensor) -> Tensor:
    """SigLIP, and SigLIP 2 of a fixed resolution: no prefix; positions interpolated to the images' size."""
    return model(images, interpolate_pos_encoding=True).last_hidden_state


def naflex(model: Any, images: Tensor) -> Tensor:
    """SigLIP 2 NaFlex: takes cut patches and the shape they were cut from (Tschannen et al. 2025).

    All images have one shape here, so nothing is padded and the positions are resampled once, not N times.
    """
    size = model.config.patch_size
    grid = images.shape[-2] // size, images.shape[-1] // size
    cut = images.unflatten(-1, (grid[1], size)).unflatten(-3, (grid[0], size))  # [N, 3, h, p, w, p]
    cut = cut.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)  # rows, columns, channels fastest
    layer = model.embeddings
    side = layer.position_embedding_size
    table = layer.position_embedding.weight.unflatten(0, (side, side))
    shape = torch.tensor([grid])
    positions = layer.resize_positional_embeddings(table, shape, max_length=grid[0] * grid[1])
    x = layer.patch_embedding(cut) + positions
    return model.post_layernorm(model.encoder(inputs_embeds=x).last_hidden_state)
