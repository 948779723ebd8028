"""A native video ViT: tubelets in, tokens out, and only the kept tokens ever enter a block."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from vjepa_distill.tokens import Grid, take
from vjepa_distill.transformer import Block, Rotary, sincos3d

# Mean and standard deviation of RGB in [0, 1] that a clip is brought to zero and one with.
NORMALISE = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "none": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
}
POSITIONS = ("sincos", "rotary")


class VideoViT(nn.Module):
    """ViT over space-time tubelets (ViViT, arXiv 2103.15691; V-JEPA, arXiv 2404.08471).

    The order is patchify, position on the full grid, keep, blocks, final norm: nothing hidden is ever mixed
    into a kept token. Any T, H, W divisible by the tubelet will do.

    Args:
        tubelet: frames, rows and columns of one token; a bare int means that many frames of 16 x 16 pixels.
        position: "sincos" adds a fixed 3D table to the tokens, "rotary" turns queries and keys instead.
        drop_path: rate of the last block; the rate grows linearly from 0 at the first.
        normalise: what brings RGB in [0, 1] to the scale of the weights: "imagenet", "half" or "none".
    """

    def __init__(
        self,
        depth: int = 12,
        width: int = 768,
        heads: int = 12,
        mlp_ratio: float = 4.0,
        tubelet: int | tuple[int, int, int] = (2, 16, 16),
        position: str = "sincos",
        drop_path: float = 0.0,
        normalise: str = "imagenet",
    ) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"width {width} is not divisible by heads {heads}; give a multiple, e.g. {heads * 64}")
        for given, known, what in ((position, POSITIONS, "position"), (normalise, NORMALISE, "normalise")):
            if given not in known:
                raise ValueError(f"{what}={given!r} is not one of {', '.join(known)}")
        self.embed_dim = width
        self.tubelet = (tubelet, 16, 16) if isinstance(tubelet, int) else tuple(tubelet)
        self.position = position
        self.checkpointing = False
        # A Conv3d for its parameters (and for weights made elsewhere); `embed` computes it as one matmul.
        self.proj = nn.Conv3d(3, width, self.tubelet, self.tubelet)
        self.rotary = Rotary(width // heads) if position == "rotary" else None
        rates = [drop_path * i / max(depth - 1, 1) for i in range(depth)]
        self.blocks = nn.ModuleList(Block(width, heads, mlp_ratio, rate) for rate in rates)
        self.norm = nn.LayerNorm(width)
        mean, std = (torch.tensor(values).view(3, 1, 1, 1) for values in NORMALISE[normalise])
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("std", std, persistent=False)

    def grid(self, T: int, H: int, W: int) -> Grid:
        """Cells of a clip of T frames of H x W pixels; ValueError when the tubelet does not divide it."""
        if any(size < step or size % step for size, step in zip((T, H, W), self.tubelet)):
            step = " x ".join(map(str, self.tubelet))
            raise ValueError(f"a clip of {T} frames of {H} x {W} pixels is not divisible by the tubelet {step}")
        return Grid(*(size // step for size, step in zip((T, H, W), self.tubelet)))

    def set_checkpointing(self, on: bool = True) -> None:
        """Recompute each block in the backward pass instead of keeping its activations."""
        self.checkpointing = on

    def forward(self, clip: Tensor, keep: Tensor | None = None) -> Tensor:
        """clip [B, 3, T, H, W] in [0, 1], keep [B, K] or None -> tokens [B, K or L, D]."""
        grid = self.grid(*clip.shape[2:])
        x = self.embed(clip, grid, keep)
        angles = None
        ...
