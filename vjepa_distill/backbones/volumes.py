"""The last feature map of a torchvision video model as tokens, for clips of any size that leaves one cell."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import ceil, prod
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torchvision.models.video import S3D, MViT, SwinTransformer3d, VideoResNet

from vjepa_distill.errors import UserError
from vjepa_distill.tokens import Grid

Run = Callable[..., Any]
"""run(module, *inputs): calls it, recomputed in the backward pass or not."""


class Family(NamedTuple):
    """How to get at the tokens of one kind of torchvision model."""

    tokens: Callable[[Any, Tensor, Run], Tensor]
    """(model, normalised clip, run) -> [B, L, D]"""
    head: tuple[str, ...]
    """What comes after the tokens, dropped; the last one is the classifier."""
    cell: Callable[[Any], list[int]]
    """Frames, rows and columns of a cell; a rest is a cell of its own."""


class Volumes(nn.Module):
    """A torchvision video model without its head: clip [B, 3, T, H, W] in [0, 1] -> tokens [B, L, D].

    Args:
        model: an MViT, SwinTransformer3d, S3D or VideoResNet; it is changed and becomes part of this.
        mean, std: of the RGB values its weights expect at 0 and 1.
        weights: where its values came from, for `describe`.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, model: nn.Module, mean: Sequence[float], std: Sequence[float], weights: str) -> None:
        super().__init__()
        family = family_of(model)
        classifier = getattr(model, family.head[-1]).modules()
        widths = [getattr(m, "in_features", getattr(m, "in_channels", None)) for m in classifier]
        self.embed_dim: int = next(width for width in widths if width)
        for part in family.head:
            setattr(model, part, nn.Identity())
        self.model = model
        self.cell = family.cell(model)
        self.weights = weights
        self.checkpointing = False
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1, 1), persistent=False)

    def grid(self, T: int, H: int, W: int) -> Grid:
        """What really comes out of a clip; UserError when nothing does."""
        cells = [ceil(size / step) for size, step in zip((T, H, W), self.cell, strict=True)]
        if isinstance(self.model, S3D):  # its last pooling, of 2 by 2 by 2, drops the rest
            cells = [ceil(2 * size / step) // 2 for size, step in zip((T, H, W), self.cell, strict=True)]
        if not all(cells):
            raise UserError(
                f"nothing is left of {T} frames of {H} x {W} pixels in this model; give at least "
                f"{self.cell[0]} frames of {self.cell[1]} x {self.cell[2]}"
            )
        return Grid(*cells)

    def set_checkpointing(self, on: bool = True) -> None:
        """Recompute each block in the backward pass; UserError where batch norms would count it twice."""
        if on and any(isinstance(module, nn.BatchNorm3d) for module in self.model.modules()):
            raise UserError(
                f"{type(self.model).__name__} has batch norms, which would count every batch twice when "
                "recomputed; leave checkpointing off"
            )
        self.checkpointing = on

    def describe(self) -> dict[str, str]:
        """Sizes, normalisation, weights and, unless they are random, licence, in words."""
        mean, std = (" ".join(f"{v:g}" for v in value.flatten().tolist()) for value in (self.mean, self.std))
        told = {
            "sizes": "any; a cell is {} frames of {} x {} pixels".format(*self.cell),
            "normalisation": f"mean {mean}, std {std}",
            "weights": self.weights,
        }
        if "_Weights." in self.weights:
            told["licence"] = (
                "code BSD-3-Clause; torchvision gives no licence of the weights, and says that the terms of "
                "their training data (Kinetics-400) may bind them"
            )
        elif self.weights != "random":
            told["licence"] = "unknown"
        return told

    def forward(self, clip: Tensor) -> Tensor:
        """clip [B, 3, T, H, W] in [0, 1] -> tokens [B, L, embed_dim]."""
        self.grid(*clip.shape[2:])
        return family_of(self.model).tokens(self.model, (clip - self.mean) / self.std, self.run)

    def run(self, module: nn.Module, *inputs: Any) -> Any:
        if self.checkpointing and torch.is_grad_enabled():
            return checkpoint(module, *inputs, use_reentrant=False)
        return module(*inputs)


def mvit_tokens(model: Any, x: Tensor, run: Run) -> Tensor:
    """MViT (arXiv 2104.11227, 2112.01526) at any size: its class token goes along and is left behind.

    The relative positions of version 2 are interpolated by torchvision itself; version 1 adds its own for one
    size, which are interpolated here, linearly over time and by bicubics over space.
    """
    x = model.conv_proj(x)
    size = (x.shape[2], x.shape[3], x.shape[4])
    x = x.flatten(2).transpose(1, 2)
    places = model.pos_encoding
    first = places.class_token
    if places.spatial_pos is not None:
        time = interpolated(places.temporal_pos, (places.temporal_size,), size[:1], "linear")
        space = interpolated(places.spatial_pos, places.spatial_size, size[1:], "bicubic")
        x = x + (time.unsqueeze(1) + space).flatten(0, 1)
        first = first + places.class_pos
    x = torch.cat([first.expand(len(x), 1, -1).to(x.dtype), x], dim=1)
    for block in model.blocks:
        x, size = run(block, x, size)
    return model.norm(x)[:, 1:]


def interpolated(table: Tensor, size: Sequence[int], target: Sequence[int], mode: str) -> Tensor:
    """A table [n, D] of positions on a grid of `size`, on another grid: [n', D]; the same where it fits."""
    if tuple(size) == tuple(target):
        return table
    field = table.float().T.unflatten(1, tuple(size)).unsqueeze(0)
    return F.interpolate(field, size=tuple(target), mode=mode, align_corners=False)[0].flatten(1).T


def swin_tokens(model: Any, x: Tensor, run: Run) -> Tensor:
    """Video Swin (arXiv 2106.13230): what its last norm gives, which has the channels last."""
    x = model.pos_drop(model.patch_embed(x))
    for stage in model.features:
        x = run(stage, x)
    return model.norm(x).flatten(1, 3)


def s3d_tokens(model: Any, x: Tensor, run: Run) -> Tensor:
    """S3D (arXiv 1712.04851): its map before pooling."""
    return run(model.features, x).flatten(2).transpose(1, 2)


def resnet_tokens(model: Any, x: Tensor, run: Run) -> Tensor:
    """R3D, MC3 and R(2+1)D (arXiv 1711.11248): the map before pooling."""
    for stage in (model.stem, model.layer1, model.layer2, model.layer3, model.layer4):
        x = run(stage, x)
    return x.flatten(2).transpose(1, 2)


def mvit_cell(model: Any) -> list[int]:
    """The product of the strides of the patches and of every block that pools its queries."""
    pools = [block.attn.pool_q.pool.stride for block in model.blocks if block.attn.pool_q]
    return [prod(axis) for axis in zip(model.conv_proj.stride, *pools, strict=True)]


def swin_cell(model: Any) -> list[int]:
    """The patch, doubled in space by every merging, of which there is one between two stages."""
    t, h, w = model.patch_embed.tuple_patch_size
    merged = 2 ** (len(model.features) // 2)
    return [t, h * merged, w * merged]


def resnet_cell(model: Any) -> list[int]:
    """The product of all strides; the stem's is 1 x 2 x 2, and MC3 has none over time."""
    strides = [stage[0].downsample[0].stride for stage in (model.layer2, model.layer3, model.layer4)]
    return [prod(axis) for axis in zip((1, 2, 2), *strides, strict=True)]


FAMILIES: dict[type[nn.Module], Family] = {
    MViT: Family(mvit_tokens, ("head",), mvit_cell),
    SwinTransformer3d: Family(swin_tokens, ("avgpool", "head"), swin_cell),
    S3D: Family(s3d_tokens, ("avgpool", "classifier"), lambda model: [8, 32, 32]),
    VideoResNet: Family(resnet_tokens, ("avgpool", "fc"), resnet_cell),
}


def family_of(model: nn.Module) -> Family:
    """UserError for a model of a kind that torchvision has brought since."""
    family = FAMILIES.get(type(model))
    if family is None:
        known = ", ".join(kind.__name__ for kind in FAMILIES)
        raise UserError(f"torchvision's {type(model).__name__} is not one of the kinds known here: {known}")
    return family
