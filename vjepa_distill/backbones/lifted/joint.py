"""An image ViT of timm inflated to space-time: tubelets in, attention over all tokens of all tubelets."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import PatchEmbed
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vjepa_distill.backbones.cells import cut
from vjepa_distill.errors import UserError
from vjepa_distill.modules.transformer import sincos
from vjepa_distill.tokens import Grid, take

# Sines and cosines of the tubelet's index that the time position is made of; any number of tubelets will do.
TIME_FEATURES = 64
# The two ways through a ViT that `Joint` repeats: positions at the door alone, or turned in every attention.
FORWARDS = (VisionTransformer.forward_features, Eva.forward_features)


class Joint(nn.Module):
    """A timm ViT over a whole clip [B, 3, T, H, W] -> [B, K or L, D]; every token sees every other.

    The patch embedding becomes one of tubelets, each frame with the image's weights over the number of frames
    (I3D, Carreira & Zisserman 2017; ViViT, arXiv 2103.15691). Space keeps the image's positions, added or
    rotary, in every tubelet; time adds one that is zero at the start. Class and register tokens are there
    once a tubelet. So at the start a still clip gives the image's tokens in every tubelet: a softmax over t
    copies of the same keys is the softmax over one. Only kept tokens ever enter a block.

    Args:
        vit: a ViT that `refuse_others` lets pass, its head dropped; it is changed and becomes part of this.
        tubelet: frames of one token.
    """

    vit: Any
    mean: Tensor
    std: Tensor

    def __init__(self, vit: Any, tubelet: int) -> None:
        super().__init__()
        self.vit = vit
        self.tubelet = tubelet
        self.origin: dict[str, str] = {}
        self.embed_dim = vit.num_features
        self.prefix = vit.num_prefix_tokens
        self.patch = tuple(vit.patch_embed.patch_size)
        self.checkpointing = False
        vit.patch_embed.proj = inflated(vit.patch_embed.proj, tubelet)
        vit.patch_drop = None  # a ViT's own random dropping would come before ours
        for module in vit.blocks.modules():
            if hasattr(module, "num_prefix_tokens"):
                module.num_prefix_tokens = 0  # prefix tokens come with angles of their own: zero
        self.time_position = nn.Linear(TIME_FEATURES, self.embed_dim, bias=False)
        nn.init.zeros_(self.time_position.weight)
        mean, std = (torch.tensor(vit.pretrained_cfg[key]).view(3, 1, 1, 1) for key in ("mean", "std"))
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("std", std, persistent=False)

    def grid(self, T: int, H: int, W: int) -> Grid:
        """One cell for each patch of each tubelet; UserError for sizes the model cannot take."""
        native = tuple(self.vit.patch_embed.img_size)
        if not self.vit.dynamic_img_size and native != (H, W):
            raise UserError(
                f"this timm model takes {native[0]} x {native[1]} pixels, not {H} x {W}; "
                f"build it with size: [{H}, {W}]"
            )
        return cut(T, H, W, (self.tubelet, *self.patch))

    def set_checkpointing(self, on: bool = True) -> None:
        """Recompute each block in the backward pass instead of keeping its activations."""
        self.checkpointing = on

    def describe(self) -> dict[str, str]:
        """Sizes, normalisation, weights and licence, in words."""
        config = self.vit.pretrained_cfg
        rows, columns = self.patch
        mean, std = (" ".join(f"{value:g}" for value in config[key]) for key in ("mean", "std"))
        native = " x ".join(str(side) for side in self.vit.patch_embed.img_size)
        space = f"multiples of {rows} x {columns} pixels" if self.vit.dynamic_img_size else f"{native} pixels"
        return {
            "sizes": f"any multiple of {self.tubelet} frames; {space}",
            "normalisation": f"mean {mean}, std {std}",
            **self.origin,
        }

    def forward(self, clip: Tensor, keep: Tensor | None = None) -> Tensor:
        """clip [B, 3, T, H, W] in [0, 1], keep [B, K] or None -> tokens [B, K or L, embed_dim]."""
        grid = self.grid(*clip.shape[2:])
        prefix, patches, angles = self.embed(clip, grid)
        if keep is not None:
            patches = take(patches, keep)
        turns = None if angles is None else rotations(angles, grid.t, prefix.shape[1], keep)
        x = self.vit.norm_pre(torch.cat([prefix, patches], dim=1))
        for i, block in enumerate(self.vit.blocks):
            if turns is not None:
                block = partial(block, rope=turns[i % len(turns)])
            if self.checkpointing and torch.is_grad_enabled():
                x = checkpoint(block, x, use_reentrant=False)
            else:
                x = block(x)
        return self.vit.norm(x[:, prefix.shape[1] :])

    def embed(self, clip: Tensor, grid: Grid) -> tuple[Tensor, Tensor, Tensor | None]:
        """Prefix tokens [B, t * p, D], patches [B, L, D], both with positions; rotary angles of a tubelet."""
        pixels = ((clip - self.mean) / self.std).transpose(1, 2)
        images = pixels.unflatten(1, (grid.t, self.tubelet)).flatten(2, 3).flatten(0, 1)
        placed = self.vit._pos_embed(self.vit.patch_embed(images))
        tokens, angles = placed if isinstance(placed, tuple) else (placed, None)
        tokens = tokens.unflatten(0, (-1, grid.t)) + self.time(grid.t).unsqueeze(1)
        return tokens[:, :, : self.prefix].flatten(1, 2), tokens[:, :, self.prefix :].flatten(1, 2), angles

    def time(self, tubelets: int) -> Tensor:
        """The position in time of every tubelet [t, D]: a learned mixture of sines, all zero at the start."""
        weight = self.time_position.weight
        index = torch.arange(tubelets, device=weight.device)
        # of unit length, so that a step of Adam moves the position no further than any other parameter
        features = sincos(index, TIME_FEATURES) * (2 / TIME_FEATURES) ** 0.5
        return self.time_position(features.to(weight.dtype))

    def smallest_clip(self) -> Tensor:
        """Zeros [1, 3, tubelet, H, W] of 2 x 3 patches, or of the only size the model takes."""
        size = self.patch[0] * 2, self.patch[1] * 3
        if not self.vit.dynamic_img_size:
            size = self.vit.patch_embed.img_size
        return torch.zeros(1, 3, self.tubelet, *size)


def refuse_others(vit: nn.Module, model: str, time: str = "first") -> None:
    """UserError unless the ViT can be inflated and `time`, which is about single frames, is left alone.

    A table of relative positions knows only the pairs of one image, and a convolutional stem or windows mix
    pixels before tokens can be dropped.
    """
    if time != "first":
        raise UserError(
            f"time={time!r} says which frame a token stands for; with temporal: joint it stands for all, "
            "so leave `time` out, or type temporal: frames"
        )
    plain = getattr(type(vit), "forward_features", None) in FORWARDS
    if not plain or type(getattr(vit, "patch_embed", None)) is not PatchEmbed:
        raise UserError(
            f"timm's {model} cannot be inflated to space-time: temporal: joint takes plain ViTs with "
            "absolute or rotary positions; type temporal: frames"
        )


class Tubelets(nn.Conv2d):
    """A patch convolution over frames stacked as channels, computed as one matmul.

    oneDNN's own bf16 convolution of six channels gives noise on CPUs with AMX (torch 2.15, kernels of 16 x 16
    and 32 x 32, not of 14 x 14).
    """

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, D, H / rows, W / columns]."""
        rows, columns = self.kernel_size
        cells = x.unflatten(3, (-1, columns)).unflatten(2, (-1, rows)).permute(0, 2, 4, 1, 3, 5).flatten(3)
        return F.linear(cells, self.weight.flatten(1), self.bias).permute(0, 3, 1, 2)


def inflated(proj: nn.Conv2d, tubelet: int) -> Tubelets:
    """The patch convolution over `tubelet` frames stacked as channels, in (frame, colour) order.

    It equals a 3D convolution whose stride in time is its length, and gives of a still clip what `proj` gives
    of the image.
    """
    rows, columns = proj.kernel_size
    wide = Tubelets(proj.in_channels * tubelet, proj.out_channels, (rows, columns), (rows, columns))
    wide.weight = nn.Parameter(proj.weight.detach().repeat(1, tubelet, 1, 1) / tubelet)
    wide.bias = proj.bias
    return wide


def rotations(angles: Tensor, tubelets: int, prefix: int, keep: Tensor | None) -> Tensor:
    """Rotary angles of one tubelet for the whole sequence, in timm's form: [sin | cos] of width e.

    angles [h*w, e], or [depth, heads, h*w, e] where every block has its own, become
    [1 or depth, 1 or B, 1 or heads, prefix + (K or L), e]; prefix tokens are not turned (sin 0, cos 1).
    """
    angles = angles[(None,) * (4 - angles.dim())].repeat(1, 1, tubelets, 1)
    # indexing by keep [B, K] gives [depth, heads, B, K, e]
    angles = angles.unsqueeze(2) if keep is None else angles[:, :, keep]
    angles = angles.transpose(1, 2)
    sin, cos = (angles.new_full((1,), value).expand(angles.shape[-1] // 2) for value in (0.0, 1.0))
    still = torch.cat([sin, cos]).expand(*angles.shape[:3], prefix, -1)
    return torch.cat([still, angles], dim=3)
