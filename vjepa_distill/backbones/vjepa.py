"""A native video ViT: tubelets in, tokens out, and only the kept tubelets are ever encoded."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vjepa_distill.backbones.cells import cut
from vjepa_distill.errors import UserError
from vjepa_distill.tokens import Grid, coordinates, take
from vjepa_distill.transformer import Block, init_weights, rotary_angles, sincos3d

# Mean and standard deviation of the RGB values in [0, 1] that a model's weights expect at 0 and 1.
NORMALISE = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "none": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
}
POSITIONS = ("sincos", "rotary")


class VideoViT(nn.Module):
    """A ViT over space-time tubelets (ViViT, arXiv 2103.15691; V-JEPA, arXiv 2404.08471).

    The order is patchify, position on the full grid, keep, blocks, final norm: nothing hidden is ever mixed
    into a kept token. Any T, H and W that the tubelet divides will do.

    Args:
        tubelet: frames, rows and columns of one token.
        position: "sincos" adds a fixed 3D table to the tokens; "rotary" turns queries and keys instead.
        drop_path: stochastic depth of the last block; it grows linearly from 0 at the first.
        normalise: the RGB statistics of the input: "imagenet", "half" (0.5, 0.5) or "none".
    """

    scale: Tensor
    shift: Tensor

    def __init__(
        self,
        depth: int = 12,
        width: int = 768,
        heads: int = 12,
        mlp_ratio: float = 4.0,
        tubelet: tuple[int, int, int] = (2, 16, 16),
        position: str = "sincos",
        drop_path: float = 0.0,
        normalise: str = "imagenet",
    ) -> None:
        super().__init__()
        one_of("position", position, POSITIONS)
        one_of("normalise", normalise, NORMALISE)
        if width % heads:
            raise UserError(
                f"width {width} does not divide into {heads} heads; give other heads, or another width"
            )
        self.embed_dim = width
        self.tubelet = tubelet
        self.position = position
        self.head_dim = width // heads
        self.checkpointing = False
        # A Conv3d for the shape, the start and the name of its parameters; `embed` computes it as one matmul.
        self.patches = nn.Conv3d(3, width, tubelet, tubelet)
        rates = [drop_path * i / max(depth - 1, 1) for i in range(depth)]
        self.blocks = nn.ModuleList(Block(width, heads, mlp_ratio, rate) for rate in rates)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        mean, std = (torch.tensor(rgb).view(3, 1, 1, 1) for rgb in NORMALISE[normalise])
        self.register_buffer("scale", 1 / std, persistent=False)
        self.register_buffer("shift", -mean / std, persistent=False)
        self.apply(init_weights)

    def grid(self, T: int, H: int, W: int) -> Grid:
        """The cells of a clip of T frames of H x W pixels; ValueError when the tubelet does not divide it."""
        return cut(T, H, W, self.tubelet)

    def set_checkpointing(self, on: bool = True) -> None:
        """Recompute each block in the backward pass instead of keeping its activations."""
        self.checkpointing = on

    def forward(self, clip: Tensor, keep: Tensor | None = None) -> Tensor:
        """clip [B, 3, T, H, W] in [0, 1], keep [B, K] or None -> tokens [B, K or L, D]."""
        grid = self.grid(*clip.shape[2:])
        # In the parameters' precision, autocast or not: a bf16 sum over the blocks rounds every addend, and
        # an fp32 one costs 6 % of a step.
        x = self.embed(clip, keep).to(self.norm.weight.dtype)
        x, angles = self.place(x, grid, keep)
        for block in self.blocks:
            if self.checkpointing and torch.is_grad_enabled():
                x = checkpoint(block, x, angles, use_reentrant=False)
            else:
                x = block(x, angles)
        return self.norm(x)

    def embed(self, clip: Tensor, keep: Tensor | None) -> Tensor:
        """The tubelets of the clip, or only the kept ones, as tokens [B, K or L, D] without position."""
        pixels = tubelets(torch.addcmul(self.shift, clip, self.scale), self.tubelet)
        if keep is not None:
            pixels = take(pixels, keep)
        return F.linear(pixels, self.patches.weight.flatten(1), self.patches.bias)

    def place(self, x: Tensor, grid: Grid, keep: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Tokens with their positions added, or the angles [B or 1, K or L, d/2] of every block."""
        if self.position == "sincos":
            table = sincos3d(grid, self.embed_dim, x.device, x.dtype)
        else:
            table = rotary_angles(coordinates(grid, x.device), self.head_dim)
        table = table[None] if keep is None else table[keep]
        return (x + table, None) if self.position == "sincos" else (x, table)


def tubelets(clip: Tensor, size: tuple[int, int, int]) -> Tensor:
    """[B, C, T, H, W] cut into blocks of `size`: [B, L, C * t * h * w], pixels in a Conv3d weight's order."""
    cut = clip.unflatten(4, (-1, size[2])).unflatten(3, (-1, size[1])).unflatten(2, (-1, size[0]))
    return cut.permute(0, 2, 4, 6, 1, 3, 5, 7).flatten(4).flatten(1, 3)


def one_of(what: str, given: str, known: Iterable[str]) -> None:
    if given not in known:
        raise UserError(f"{what}={given!r} is not one of {', '.join(known)}")


def of_size(depth: int, width: int, heads: int) -> Callable[..., VideoViT]:
    """A factory with these defaults, each of which can still be overruled by name."""

    def build(
        depth: int = depth,
        width: int = width,
        heads: int = heads,
        mlp_ratio: float = 4.0,
        tubelet: int = 2,
        patch: int = 16,
        position: str = "sincos",
        drop_path: float = 0.0,
        normalise: str = "imagenet",
    ) -> VideoViT:
        return VideoViT(
            depth, width, heads, mlp_ratio, (tubelet, patch, patch), position, drop_path, normalise
        )

    return build


# The sizes of DeiT (tiny), ViT (small to large) and Zhai et al. 2022 (huge), as V-JEPA uses them.
tiny = of_size(12, 192, 3)
small = of_size(12, 384, 6)
base = of_size(12, 768, 12)
large = of_size(24, 1024, 16)
huge = of_size(32, 1280, 16)
