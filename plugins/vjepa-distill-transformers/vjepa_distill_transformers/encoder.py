"""What all encoders here share: normalised pixels, the cells of a clip, checkpointing, a description."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from vjepa_distill import Grid, UserError


class Encoder(nn.Module):
    """A model of transformers and the cells that its tokens stand for.

    Args:
        model: the model; only what its tokens depend on.
        embed_dim: width of a token.
        cell: frames, rows and columns of pixels of a token.
        mean, std: of each channel in [0, 1].
        about: what `describe` adds to the normalisation.
    """

    model: Any
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        model: Any,
        embed_dim: int,
        cell: tuple[int, int, int],
        mean: Sequence[float],
        std: Sequence[float],
        about: Mapping[str, str],
    ) -> None:
        super().__init__()
        self.model = model
        self.embed_dim = embed_dim
        self.cell = cell
        self.about = dict(about)
        for name, values in {"mean": mean, "std": std}.items():
            self.register_buffer(name, torch.tensor(values).view(3, 1, 1, 1), persistent=False)

    def grid(self, T: int, H: int, W: int) -> Grid:
        """Cells of a clip of T frames of H x W pixels; UserError (a ValueError) when it does not divide."""
        if any(size < step or size % step for size, step in zip((T, H, W), self.cell, strict=True)):
            t, h, w = self.cell
            fit = [max(size // step, 1) * step for size, step in zip((T, H, W), self.cell, strict=True)]
            raise UserError(
                f"{T} frames of {H} x {W} pixels do not divide into cells of {t} frames of {h} x {w}: "
                f"give {fit[0]} frames of {fit[1]} x {fit[2]}"
            )
        return Grid(*(size // step for size, step in zip((T, H, W), self.cell, strict=True)))

    def normalised(self, clip: Tensor) -> Tensor:
        """clip [B, 3, T, H, W] in [0, 1] as the model's own processor would hand it over."""
        return (clip - self.mean) / self.std

    def set_checkpointing(self, on: bool = True) -> None:
        """The library's own activation checkpointing; UserError for a model that has none."""
        if on and not self.model.supports_gradient_checkpointing:
            raise UserError(
                f"{type(self.model).__name__} has no activation checkpointing; type --checkpointing false"
            )
        word = "enable" if on else "disable"
        old = getattr(self.model, f"gradient_checkpointing_{word}")  # the only name in older releases of 5
        getattr(self.model, f"activation_checkpointing_{word}", old)()

    def describe(self) -> dict[str, str]:
        """For `backbones show`: sizes, normalisation, weights, licence."""
        mean, std = (" ".join(f"{x:.4g}" for x in v.flatten().tolist()) for v in (self.mean, self.std))
        return {"normalisation": f"mean {mean}, std {std}", **self.about}


def pair(size: Any) -> tuple[int, int]:
    """Rows and columns of a config's number or pair of numbers."""
    rows, columns = size if isinstance(size, list | tuple) else (size, size)
    return int(rows), int(columns)
