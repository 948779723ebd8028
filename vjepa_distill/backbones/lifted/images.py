"""What every image model on a clip shares: which frames it sees, its own normalisation, its description."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from vjepa_distill.errors import UserError
from vjepa_distill.tokens import Grid

TIMES = ("first", "mean", "concat")


class Images(nn.Module):
    """An image model on the frames of a clip, which never see each other; a subclass says how it is asked.

    Args:
        config: timm's `pretrained_cfg`, of which mean and standard deviation are used.
        width: of the model's tokens.
        tubelet: frames that share one token.
        time: which of them the token stands for: the "first", the "mean", or all by "concat" (D x tubelet).
    """

    mean: Tensor
    std: Tensor

    def __init__(self, config: dict[str, Any], width: int, tubelet: int, time: str) -> None:
        super().__init__()
        self.tubelet = tubelet
        self.time = time
        self.embed_dim = width * (tubelet if time == "concat" else 1)
        self.origin: dict[str, str] = {}
        mean, std = (torch.tensor(config[key]).view(3, 1, 1) for key in ("mean", "std"))
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("std", std, persistent=False)

    def grid(self, T: int, H: int, W: int) -> Grid:
        """The cells of a clip; UserError, in words, for sizes the model cannot take."""
        raise NotImplementedError

    def tokens(self, images: Tensor) -> Tensor:
        """Normalised images [N, 3, H, W] -> [N, h*w, width]."""
        raise NotImplementedError

    def sizes(self) -> str:
        """In words, the sizes it takes."""
        raise NotImplementedError

    def describe(self) -> dict[str, str]:
        """Its sizes and normalisation, and where its weights are from, for `backbones show`."""
        mean, std = (
            " ".join(f"{x:.4g}" for x in value.flatten().tolist()) for value in (self.mean, self.std)
        )
        return {"sizes": self.sizes(), "normalisation": f"mean {mean}, std {std}", **self.origin}

    def smallest_clip(self) -> Tensor:
        """Zeros [1, 3, tubelet, H, W] of a size that the model takes."""
        raise NotImplementedError

    def seen(self, clip: Tensor) -> Tensor:
        """The frames that are looked at: [B, 3, T, H, W] -> [B * t, 1 or tubelet, 3, H, W]."""
        frames = clip.transpose(1, 2).unflatten(1, (-1, self.tubelet))
        return (frames[:, :, :1] if self.time == "first" else frames).flatten(0, 1)

    def encode(self, frames: Tensor) -> Tensor:
        """frames [N, f, 3, H, W] -> tokens [N, h*w, embed_dim], the f of a tubelet made one."""
        tokens = self.tokens((frames.flatten(0, 1) - self.mean) / self.std).unflatten(0, frames.shape[:2])
        return tokens.transpose(1, 2).flatten(2) if self.time == "concat" else tokens.mean(1)

    def forward(self, clip: Tensor) -> Tensor:
        """clip [B, 3, T, H, W] in [0, 1] -> tokens [B, L, embed_dim]."""
        grid = self.grid(*clip.shape[2:])
        return self.encode(self.seen(clip)).unflatten(0, (-1, grid.t)).flatten(1, 2)


def checkpointing(model: Any, on: bool) -> None:
    """timm's own activation checkpointing; UserError where the model has none."""
    try:
        model.set_grad_checkpointing(on)
    except (AttributeError, AssertionError) as error:
        if on:
            raise UserError(
                f"timm's {type(model).__name__} cannot recompute its activations; leave it off"
            ) from error
