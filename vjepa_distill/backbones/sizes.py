"""The sizes of the native video ViT, those of DeiT, ViT, Zhai et al. 2022 and V-JEPA 2, by name."""

from __future__ import annotations

from typing import NamedTuple


class Size(NamedTuple):
    """What makes a ViT large."""

    depth: int
    width: int
    heads: int
    mlp_ratio: float = 4.0

    @property
    def hidden(self) -> int:
        """Width inside the MLP."""
        return int(self.width * self.mlp_ratio)


SIZES = {
    "tiny": Size(12, 192, 3),
    "small": Size(12, 384, 6),
    "base": Size(12, 768, 12),
    "large": Size(24, 1024, 16),
    "huge": Size(32, 1280, 16),
    "giant": Size(40, 1408, 22, 48 / 11),
    "gigantic": Size(48, 1664, 26, 64 / 13),
}
