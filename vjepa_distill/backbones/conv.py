"""A small convolutional video encoder: learns a simple world from nothing, where a ViT needs far longer."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vjepa_distill.backbones.cells import cut, refuse_empty
from vjepa_distill.backbones.hidden import Hidden
from vjepa_distill.errors import UserError
from vjepa_distill.tokens import Grid

# What builtin.py offers of this file; a literal, read without running the file.
OFFERS = {"conv/small": {"target": "small", "summary": "small 3D convolutional encoder"}}


def small(width: int = 64, tubelet: int = 2, patch: int = 16) -> Hidden:
    """A leak-free `ConvEncoder`; embed_dim is 4 * width, patch a multiple of 4, width of 8."""
    return Hidden(ConvEncoder(width, tubelet, patch))


class Residual(nn.Module):
    """A residual pair of convolutions, over space and then over time (R(2+1)D, Tran et al. 2018)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            norm(width),
            nn.GELU(),
            nn.Conv3d(width, width, (1, 3, 3), padding=(0, 1, 1)),
            norm(width),
            nn.GELU(),
            nn.Conv3d(width, width, (3, 1, 1), padding=(1, 0, 0)),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.branch(x)


class ConvEncoder(nn.Module):
    """Cells of a tubelet by patch/4 pixels, halved twice, a residual pair at each of the three scales.

    Norms are by groups, never by batch: a row's tokens depend on that row alone, on any number of ranks.
    """

    def __init__(self, width: int, tubelet: int, patch: int) -> None:
        super().__init__()
        if patch % 4 or width % 8:
            raise UserError(f"patch {patch} must be a multiple of 4, and width {width} of 8")
        self.cell = (tubelet, patch, patch)
        refuse_empty(self.cell)
        self.embed_dim = 4 * width
        self.checkpointing = False
        stem = (tubelet, patch // 4, patch // 4)
        self.stages = nn.Sequential(
            nn.Sequential(nn.Conv3d(3, width, stem, stem), Residual(width)),
            nn.Sequential(nn.Conv3d(width, 2 * width, (1, 2, 2), (1, 2, 2)), Residual(2 * width)),
            nn.Sequential(nn.Conv3d(2 * width, 4 * width, (1, 2, 2), (1, 2, 2)), Residual(4 * width)),
        )
        self.norm = nn.LayerNorm(4 * width)

    def grid(self, T: int, H: int, W: int) -> Grid:
        """The cells of a clip; UserError when it does not divide into them."""
        return cut(T, H, W, self.cell)

    def describe(self) -> dict[str, str]:
        """For ``backbones show``."""
        tubelet, patch, _ = self.cell
        return {
            "sizes": f"frames in multiples of {tubelet}, height and width of {patch}",
            "normalisation": "mean 0.5, std 0.25 of every channel",
            "weights": "random",
            "licence": "none needed: untrained",
        }

    def set_checkpointing(self, on: bool = True) -> None:
        """Recompute each scale in the backward pass instead of keeping its activations."""
        self.checkpointing = on

    def forward(self, clip: Tensor) -> Tensor:
        """clip [B, 3, T, H, W] in [0, 1] -> tokens [B, L, 4 * width]."""
        self.grid(*clip.shape[2:])
        # About zero mean and unit variance; channels last is 30 % faster in bf16 on the CPU.
        x = (clip * 4 - 2).contiguous(memory_format=torch.channels_last_3d)
        for stage in self.stages:
            again = self.checkpointing and torch.is_grad_enabled()
            x = checkpoint(stage, x, use_reentrant=False) if again else stage(x)
        return self.norm(x.flatten(2).transpose(1, 2))


def norm(width: int) -> nn.GroupNorm:
    return nn.GroupNorm(8, width)
