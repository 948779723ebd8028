"""An image ViT on each frame of a clip, with only the kept patches ever entering it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from vjepa_distill.backbones.cells import cut
from vjepa_distill.backbones.lifted.images import Images, checkpointing
from vjepa_distill.errors import UserError
from vjepa_distill.tokens import Grid, take


class Slot(nn.Module):
    """Sits where timm's patch dropout sits and keeps the patches it was told to instead of random ones.

    EVA-like models also want the indices, to pick the rotary positions of what is kept (`pair`).
    """

    def __init__(self, prefix: int, pair: bool) -> None:
        super().__init__()
        self.prefix = prefix
        self.pair = pair
        self.cells: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor | None]:
        """[B, prefix + h*w, D] -> [B, prefix + c, D] for cells [B, c]; everything while cells is None."""
        if self.cells is not None:
            x = torch.cat([x[:, : self.prefix], take(x[:, self.prefix :], self.cells)], dim=1)
        return (x, self.cells) if self.pair else x


class Frames(Images):
    """A timm ViT on each frame of each tubelet: clip [B, 3, T, H, W] -> [B, K or L, D].

    Frames never see each other. A tubelet of which nothing is kept is not encoded at all.
    """

    vit: Any

    def __init__(self, vit: Any, tubelet: int, time: str) -> None:
        super().__init__(vit.pretrained_cfg, vit.num_features, tubelet, time)
        self.vit = vit
        self.patch = tuple(vit.patch_embed.feat_ratio(as_scalar=False))
        self.any_size = getattr(vit, "dynamic_img_size", False)
        # timm leaves its slot empty in one of two ways, and which one tells what it expects back.
        if hasattr(vit, "patch_drop"):
            vit.patch_drop = Slot(vit.num_prefix_tokens, pair=vit.patch_drop is None)

    def grid(self, T: int, H: int, W: int) -> Grid:
        """One cell for each patch of each tubelet; UserError for sizes the model cannot take."""
        native = tuple(self.vit.patch_embed.img_size)
        if not self.any_size and native != (H, W):
            raise UserError(
                f"this timm model takes {native[0]} x {native[1]} pixels, not {H} x {W}; "
                f"build it with size: [{H}, {W}]"
            )
        return cut(T, H, W, (self.tubelet, *self.patch))

    def sizes(self) -> str:
        """The native size, and whether others are taken too."""
        H, W = self.vit.patch_embed.img_size
        built = f"{H} x {W} pixels ({H // self.patch[0]} x {W // self.patch[1]} cells)"
        if self.any_size:
            return f"any multiple of {self.patch[0]} x {self.patch[1]} pixels; made for {built}"
        return f"{built}; others: build it with size: [H, W]"

    def set_checkpointing(self, on: bool = True) -> None:
        """timm's own activation checkpointing; UserError where the model has none."""
        checkpointing(self.vit, on)

    def forward(self, clip: Tensor, keep: Tensor | None = None) -> Tensor:
        """clip [B, 3, T, H, W] in [0, 1], keep [B, K] or None -> tokens [B, K or L, embed_dim]."""
        if keep is None:
            return super().forward(clip)
        return self.encode_kept(self.seen(clip), self.grid(*clip.shape[2:]), keep)

    def tokens(self, images: Tensor) -> Tensor:
        """Normalised images [N, 3, H, W] -> [N, h*w, width], or as many as the slot lets in."""
        return self.vit.forward_features(images)[:, self.vit.num_prefix_tokens :]

    def encode_kept(self, frames: Tensor, grid: Grid, keep: Tensor) -> Tensor:
        """Only the kept patches: one pass for all tubelets that keep equally many, in any order.

        Masks tiled over time and spans of tubelets need a single pass, others one for each distinct count.
        """
        rows = torch.arange(len(keep), device=keep.device).unsqueeze(1) * grid.t
        owner, order = (rows + keep // grid.cells).flatten().sort(stable=True)
        cells = (keep % grid.cells).flatten()[order]
        owners, counts = owner.unique_consecutive(return_counts=True)
        parts, places = [], []
        for count in counts.unique().tolist():
            mine = (counts == count).repeat_interleave(counts)
            shown = frames[owners[counts == count]]
            with self.keeping(cells[mine].unflatten(0, (-1, count)).repeat_interleave(shown.shape[1], 0)):
                parts.append(self.encode(shown).flatten(0, 1))
            places.append(order[mine])
        back = torch.cat(places).argsort()
        return torch.cat(parts)[back].unflatten(0, keep.shape)

    @contextmanager
    def keeping(self, cells: Tensor) -> Iterator[None]:
        """Within it the ViT encodes only these cells [N, c] of each image."""
        self.vit.patch_drop.cells = cells
        try:
            yield
        finally:
            self.vit.patch_drop.cells = None

    @torch.no_grad()
    def drops_tokens(self) -> bool:
        """Whether the slot does what it should: hands out as many tokens as were kept, and leaks nothing.

        BEiT and relative-position models have no slot, SAM's breaks, a convolutional stem mixes before it.
        """
        clip = self.smallest_clip()
        try:
            keep = torch.tensor([[0, self.grid(*clip.shape[2:]).length - 1]])
            tokens = self(clip, keep)
            other = clip.clone()
            other[..., self.patch[1] : -self.patch[1]] = 1.0
            return tokens.shape[1] == 2 and torch.allclose(tokens, self(other, keep), atol=1e-5)
        except Exception:  # whatever a model that was not made for it does
            return False

    def smallest_clip(self) -> Tensor:
        """Zeros [1, 3, tubelet, H, W] of 2 x 3 patches, or of the only size the model takes."""
        size = self.patch[0] * 2, self.patch[1] * 3
        if not self.any_size:
            size = self.vit.patch_embed.img_size
        return torch.zeros(1, 3, self.tubelet, *size)
