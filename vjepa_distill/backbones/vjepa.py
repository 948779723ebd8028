"""A native video ViT: tubelets in, tokens out, and only the kept tubelets are ever encoded."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vjepa_distill.backbones.cells import cut, refuse_empty
from vjepa_distill.backbones.official import load_into
from vjepa_distill.backbones.positions import checked_grid, rotary_places, sincos_table
from vjepa_distill.backbones.sizes import SIZES
from vjepa_distill.errors import UserError, one_of
from vjepa_distill.modules.transformer import ROPES, SPLITS, Block, init_weights, rotary_angles
from vjepa_distill.tokens import Grid, take

# What builtin.py offers of this file; a literal, read without running the file.
OFFERS = {
    "vjepa/tiny": {"target": "tiny", "summary": "native video ViT: width 192, depth 12, 3 heads"},
    "vjepa/small": {"target": "small", "summary": "native video ViT: width 384, depth 12, 6 heads"},
    "vjepa/base": {"target": "base", "summary": "native video ViT: width 768, depth 12, 12 heads"},
    "vjepa/large": {"target": "large", "summary": "native video ViT: width 1024, depth 24, 16 heads"},
    "vjepa/huge": {"target": "huge", "summary": "native video ViT: width 1280, depth 32, 16 heads"},
    "vjepa/giant": {"target": "giant", "summary": "native video ViT: width 1408, depth 40, 22 heads"},
    "vjepa/gigantic": {"target": "gigantic", "summary": "native video ViT: width 1664, depth 48, 26 heads"},
}
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
        rope: how "rotary" turns them: "rotary", or "vjepa2", V-JEPA 2's mistake, for its weights alone.
        sincos: how "sincos" shares the width between t, h, w: "thirds", or V-JEPA's "uniform" and "halves".
        trained_grid: tubelets, rows, columns that positions are interpolated from on any other grid; 0 for an
            axis, or None, counts its cells at any size.
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
        rope: str = "rotary",
        sincos: str = "thirds",
        trained_grid: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        refuse_empty(tubelet)
        one_of("position", position, POSITIONS)
        one_of("normalise", normalise, NORMALISE)
        one_of("rope", rope, ROPES)
        one_of("sincos", sincos, SPLITS)
        if width % heads:
            raise UserError(
                f"width {width} does not divide into {heads} heads; give other heads, or another width"
            )
        self.embed_dim = width
        self.tubelet = tubelet
        self.position, self.rope, self.sincos = position, rope, sincos
        self.trained_grid = checked_grid(trained_grid)
        self.counted = trained_grid is None
        self.head_dim = width // heads
        self.normalise = normalise
        self.origin = {"weights": "random"}
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
        return self._through(clip, keep, ())[-1]

    def layer_tokens(self, clip: Tensor, keep: Tensor | None = None) -> list[Tensor]:
        """As a call, after each quarter of the blocks [B, K or L, D]: as they are, the last one normed.

        Quarters as in V-JEPA 2.1's deep supervision; fewer of a model of fewer than four blocks.
        """
        depth = len(self.blocks)
        return self._through(clip, keep, {depth * quarter // 4 for quarter in (1, 2, 3)})

    def _through(self, clip: Tensor, keep: Tensor | None, wanted: Collection[int]) -> list[Tensor]:
        """What the blocks of these numbers, from 1, give, and the output."""
        grid = self.grid(*clip.shape[2:])
        # In the parameters' precision, autocast or not: a bf16 sum over the blocks rounds every addend, and
        # an fp32 one costs 6 % of a step.
        x = self.embed(clip, keep).to(self.norm.weight.dtype)
        x, angles = self.place(x, grid, keep)
        found = []
        for number, block in enumerate(self.blocks, 1):
            if self.checkpointing and torch.is_grad_enabled():
                x = checkpoint(block, x, angles, use_reentrant=False)
            else:
                x = block(x, angles)
            if number in wanted:
                found.append(x)
        return [*found, self.norm(x)]

    def embed(self, clip: Tensor, keep: Tensor | None) -> Tensor:
        """The tubelets of the clip, or only the kept ones, as tokens [B, K or L, D] without position."""
        pixels = tubelets(torch.addcmul(self.shift, clip, self.scale), self.tubelet)
        if keep is not None:
            pixels = take(pixels, keep)
        return F.linear(pixels, self.patches.weight.flatten(1), self.patches.bias)

    def place(self, x: Tensor, grid: Grid, keep: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Tokens with their positions added, or the angles [B or 1, K or L, d/2 or d] of every block."""
        if self.position == "sincos":
            table = sincos_table(grid, self.embed_dim, self.sincos, self.trained_grid, x.device, x.dtype)
        else:
            places = rotary_places(grid, self.trained_grid, x.device)
            table = rotary_angles(places, self.head_dim, self.rope)
        table = table[None] if keep is None else table[keep]
        return (x + table, None) if self.position == "sincos" else (x, table)

    def shape(self) -> dict[str, Any]:
        """What makes this model's tensors and positions what they are, by the names of the options."""
        block: Any = self.blocks[0] if len(self.blocks) else None
        split = "thirds" if self.sincos == "uniform" and self.embed_dim % 6 == 0 else self.sincos  # the same
        return {
            "depth": len(self.blocks),
            "width": self.embed_dim,
            "heads": self.embed_dim // self.head_dim,
            "hidden": block.mlp[0].out_features if block else 0,
            "tubelet": self.tubelet[0],
            "patch": self.tubelet[1],
            "rope": self.rope if self.position == "rotary" else None,
            "sincos": split if self.position == "sincos" else None,
            "trained_grid": None if self.counted else list(self.trained_grid),
        }

    def describe(self) -> dict[str, str]:
        """Sizes of the input, normalisation, where the weights came from and their licence, in words."""
        t, h, w = self.tubelet
        mean, std = (" ".join(f"{value:g}" for value in rgb) for rgb in NORMALISE[self.normalise])
        return {
            "sizes": f"any T divisible by {t}, H by {h}, W by {w}",
            "normalisation": f"mean {mean}, std {std}",
            **self.origin,
        }


def tubelets(clip: Tensor, size: tuple[int, int, int]) -> Tensor:
    """[B, C, T, H, W] cut into blocks of `size`: [B, L, C * t * h * w], pixels in a Conv3d weight's order."""
    cut = clip.unflatten(4, (-1, size[2])).unflatten(3, (-1, size[1])).unflatten(2, (-1, size[0]))
    return cut.permute(0, 2, 4, 6, 1, 3, 5, 7).flatten(4).flatten(1, 3)


def of_size(depth: int, width: int, heads: int, mlp_ratio: float) -> Callable[..., VideoViT]:
    """A factory with these defaults, each of which can still be overruled by name."""

    def build(
        depth: int = depth,
        width: int = width,
        heads: int = heads,
        mlp_ratio: float = mlp_ratio,
        tubelet: int = 2,
        patch: int = 16,
        position: str | None = None,
        drop_path: float = 0.0,
        normalise: str = "imagenet",
        rope: str | None = None,
        sincos: str = "thirds",
        trained_grid: Sequence[int] | None = None,
        weights: str | None = None,
        which: str = "target",
    ) -> VideoViT:
        if position == "sincos" and rope:
            raise UserError(f"position=sincos has no rope: leave out rope={rope}, or type position: rotary")
        vit = VideoViT(
            depth,
            width,
            heads,
            mlp_ratio,
            (tubelet, patch, patch),
            position or ("rotary" if rope else "sincos"),
            drop_path,
            normalise,
            rope or "rotary",
            sincos,
            trained_grid,
        )
        one_of("which", which, ("target", "encoder"))
        if weights:
            vit.origin = load_into(vit, vit.shape(), weights, which)
        return vit

    return build


tiny, small, base, large, huge, giant, gigantic = (of_size(*size) for size in SIZES.values())
