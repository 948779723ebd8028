"""A video transformer with quaternion-valued linear maps: a token is a bundle of D / 4 quaternions."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from vjepa_distill import Grid, UserError, take

from vjepa_distill_ruffle.quaternion import QuaternionLinear


class Attention(nn.Module):
    """Self-attention. The score of two bundles is the real part of q ⊗ conj(k), i.e. their dot product."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = QuaternionLinear(width // 4, 3 * width // 4)
        self.out = QuaternionLinear(width // 4, width // 4)

    def forward(self, x: Tensor) -> Tensor:
        """[B, L, D] -> [B, L, D]; a head is a slice of whole quaternions."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class Block(nn.Module):
    """Attention, then two layers with a split GELU: on each part alone (Parcollet et al. 2019)."""

    def __init__(self, width: int, heads: int, mlp_ratio: float) -> None:
        super().__init__()
        hidden = int(width * mlp_ratio) // 4
        self.norm1 = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            QuaternionLinear(width // 4, hidden), nn.GELU(), QuaternionLinear(hidden, width // 4)
        )

    def forward(self, x: Tensor) -> Tensor:
        """[B, L, D] -> [B, L, D]."""
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Ruffle(nn.Module):
    """Pixels as pure quaternions R i + G j + B k, tubelets as tokens; dropped tubelets are never encoded.

    Args:
        width: real numbers a token, a multiple of 4 * heads.
        tubelet: frames of a token.
        patch: rows and columns of a token.
    """

    def __init__(
        self, depth: int, width: int, heads: int, mlp_ratio: float = 4.0, tubelet: int = 2, patch: int = 16
    ) -> None:
        super().__init__()
        if width % (4 * heads):
            raise UserError(
                f"width {width} does not divide into {heads} heads of whole quaternions; "
                f"give a multiple of {4 * heads}"
            )
        self.embed_dim = width
        self.cell = (tubelet, patch, patch)
        self.checkpointing = False
        self.patches = QuaternionLinear(tubelet * patch * patch, width // 4, pure=True)
        self.blocks = nn.ModuleList(Block(width, heads, mlp_ratio) for _ in range(depth))
        self.norm = nn.LayerNorm(width)

    def grid(self, T: int, H: int, W: int) -> Grid:
        """Cells of a clip of T frames of H x W pixels; UserError (a ValueError) when it does not divide."""
        cells = [divmod(size, step) for size, step in zip((T, H, W), self.cell, strict=True)]
        if any(rest or not count for count, rest in cells):
            t, p, _ = self.cell
            raise UserError(
                f"{T} frames of {H} x {W} pixels do not divide into tubelets of {t} frames of {p} x {p}"
            )
        return Grid(*(count for count, _ in cells))

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
        """Recompute each block in the backward pass instead of keeping its activations."""
        self.checkpointing = on

    def forward(self, clip: Tensor, keep: Tensor | None = None) -> Tensor:
        """clip [B, 3, T, H, W] in [0, 1], keep [B, K] or None -> tokens [B, K or L, D]."""
        grid = self.grid(*clip.shape[2:])
        pixels = tubelets(clip * 4 - 2, self.cell)  # about zero mean and unit variance
        places = positions(grid, self.embed_dim, clip.device)[None]
        if keep is not None:
            pixels, places = take(pixels, keep), places[0][keep]
        x = self.patches(pixels) + places  # fp32 even under autocast: the places are
        for block in self.blocks:
            if self.checkpointing and torch.is_grad_enabled():
                x = checkpoint(block, x, use_reentrant=False)
            else:
                x = block(x)
        return self.norm(x)


def tubelets(clip: Tensor, cell: tuple[int, int, int]) -> Tensor:
    """[B, 3, T, H, W] -> [B, L, 3 * pixels of a cell], a pixel's colours side by side: a pure quaternion."""
    cut = clip.unflatten(4, (-1, cell[2])).unflatten(3, (-1, cell[1])).unflatten(2, (-1, cell[0]))
    return cut.permute(0, 2, 4, 6, 3, 5, 7, 1).flatten(4).flatten(1, 3)


def positions(grid: Grid, width: int, device: torch.device) -> Tensor:
    """Fixed positions [L, width]: time, row and column turn the i, j and k of each quaternion.

    Each pair of quaternions has its pace; even ones hold sines, odd ones cosines (Vaswani et al. 2017).
    """
    axes = [torch.arange(count, device=device, dtype=torch.float32) for count in grid]
    place = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).flatten(0, 2)  # [L, 3]
    number = torch.arange(width // 4, device=device)
    pace = 10000.0 ** (-2 * (number // 2) / (width // 4))
    phase = (number % 2) * (torch.pi / 2)
    turned = torch.sin(place[:, None] * pace[:, None] + phase[:, None])  # [L, D / 4, 3]
    return F.pad(turned, (1, 0)).flatten(1)


def of_size(depth: int, width: int, heads: int) -> Callable[..., Ruffle]:
    """A factory with these defaults, each of which can still be overruled by name."""

    def build(
        depth: int = depth,
        width: int = width,
        heads: int = heads,
        mlp_ratio: float = 4.0,
        tubelet: int = 2,
        patch: int = 16,
    ) -> Ruffle:
        return Ruffle(depth, width, heads, mlp_ratio, tubelet, patch)

    return build


tiny = of_size(6, 192, 3)
small = of_size(12, 384, 6)
base = of_size(12, 768, 12)
