"""The parts that the native video ViT and the predictor share: 3D positions, a pre-norm transformer block."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vjepa_distill.tokens import Grid

BASE = 10000.0
SPLITS = ("thirds", "uniform", "halves")
ROPES = ("rotary", "vjepa2")


def axis_widths(dim: int, split: str = "thirds") -> tuple[int, int, int]:
    """How a width is shared by t, h, w. ValueError for odd, tiny widths.

    "thirds": even thirds, the remainder to w. V-JEPA's own two: "uniform", a third of the width rounded up to
    an even number for each, of which what is beyond the width is cut off; "halves", 1/2, 1/4, 1/4.
    """
    if dim % 2 or dim < 6:
        raise ValueError(f"3D sin-cos positions need an even width of at least 6, not {dim}")
    if split == "uniform":
        third = -(-dim // 6) * 2
        return third, third, third
    if split == "halves":
        if dim % 8:
            raise ValueError(f"sin-cos positions in halves need a width divisible by 8, not {dim}")
        return dim // 2, dim // 4, dim // 4
    third = dim // 3 // 2 * 2
    return third, third, dim - 2 * third


def sincos(position: Tensor, dim: int) -> Tensor:
    """[...] positions to [..., dim]: [sin | cos] of p / 10000^(i / (dim/2)), fp64 (Vaswani et al. 2017)."""
    rate = BASE ** (-torch.arange(dim // 2, device=position.device, dtype=torch.float64) / (dim / 2))
    angle = position.double().unsqueeze(-1) * rate
    return torch.cat([angle.sin(), angle.cos()], dim=-1)


def sincos3d(
    grid: Grid,
    dim: int,
    device: torch.device | None = None,
    dtype: torch.dtype = torch.float32,
    split: str = "thirds",
) -> Tensor:
    """Fixed positions of every token of a grid: [L, dim], the parts in the order [t | h | w]."""
    parts = []
    for axis, (size, width) in enumerate(zip(grid, axis_widths(dim, split), strict=True)):
        # one table an axis, then spread: t + h + w rows of sines and not t·h·w
        table = sincos(torch.arange(size, device=device), width).to(dtype)
        shape = [size if i == axis else 1 for i in range(3)]
        parts.append(table.view(*shape, width).expand(*grid, width))
    return torch.cat(parts, dim=-1)[..., :dim].flatten(0, 2)


def rotary_angles(position: Tensor, head_dim: int, rope: str = "rotary") -> Tensor:
    """Angles in fp32 of (t, h, w) places [..., 3]; three equal parts of the head, one an axis.

    What is left over of the head gets the angle 0 and so is not rotated.
    rope: "rotary", one angle for every pair of channels: [..., head_dim/2] (Su et al. 2021), or "vjepa2", one
        for every channel: [..., head_dim]. V-JEPA 2 repeats its frequencies in the wrong order, so that the
        two channels of a pair turn by different angles: no rotation, scores depend on absolute position.
        Its weights have learned it so; for nothing else.
    """
    pairs = head_dim // 6
    rate = BASE ** (-torch.arange(pairs, device=position.device, dtype=torch.float32) / max(pairs, 1))
    angle = position.float().unsqueeze(-1) * rate
    if rope == "vjepa2":
        return F.pad(torch.cat([angle, angle], dim=-1).flatten(-2), (0, head_dim - 6 * pairs))
    return F.pad(angle.flatten(-2), (0, head_dim // 2 - 3 * pairs))


def rotate(x: Tensor, angle: Tensor) -> Tensor:
    """Turn neighbouring pairs (x_2i, x_2i+1) of [..., L, d] by angle [..., L, d/2]; x keeps its dtype.

    With an angle for every channel [..., L, d], as ``rope="vjepa2"`` has it, each one follows its own.
    """
    even, odd = x.float().unflatten(-1, (-1, 2)).unbind(-1)
    cos, sin = angle.cos(), angle.sin()
    if angle.shape[-1] == x.shape[-1]:
        (cos, cos_odd), (sin, sin_odd) = (part.unflatten(-1, (-1, 2)).unbind(-1) for part in (cos, sin))
    else:
        cos_odd, sin_odd = cos, sin
    return (
        torch.stack([even * cos - odd * sin, even * sin_odd + odd * cos_odd], dim=-1).flatten(-2).to(x.dtype)
    )


class Attention(nn.Module):
    """Multi-head self-attention with biases, through torch's fused kernel."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        if dim % heads:
            raise ValueError(f"width {dim} does not divide into {heads} heads")
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, angles: Tensor | None = None) -> Tensor:
        """x: [B, L, D]; angles: [B or 1, L, D/heads/2 or D/heads] or None. Returns [B, L, D]."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        if angles is not None:
            q, k = rotate(q, angles.unsqueeze(1)), rotate(k, angles.unsqueeze(1))
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class DropPath(nn.Module):
    """Stochastic depth (Huang et al. 2016): drops a residual branch of a row with probability p."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0.0:
            return x
        alive = torch.rand(x.shape[0], *[1] * (x.ndim - 1), device=x.device) >= self.p
        return x * alive.to(x.dtype) / (1 - self.p)


class Block(nn.Module):
    """A pre-norm transformer block: attention, then an MLP with exact GELU (Dosovitskiy et al. 2021)."""

    def __init__(self, dim: int, heads: int, mlp_ratio: float = 4.0, drop_path: float = 0.0) -> None:
        super().__init__()
        hidden = int(dim * mlp_ratio)
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attention = Attention(dim, heads)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim))
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor, angles: Tensor | None = None) -> Tensor:
        """[B, L, D] to [B, L, D]."""
        x = x + self.drop_path(self.attention(self.norm1(x), angles))
        return x + self.drop_path(self.mlp(self.norm2(x)))


def init_weights(module: nn.Module) -> None:
    """Truncated normal 0.02 for Linear weights, zero biases, identity norms: for ``module.apply``."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
