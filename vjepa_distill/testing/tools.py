"""What the checks of a backbone are made of: clips, masks, distances, and a way to disturb a module."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from vjepa_distill.tokens import Grid

Factory = Callable[[], nn.Module]


def sample_clip(T: int, H: int, W: int, rows: int = 2) -> Tensor:
    """Seeded noise [rows, 3, T, H, W] in [0, 1], drawn without touching the global generator."""
    return torch.rand(rows, 3, T, H, W, generator=torch.Generator().manual_seed(0))


def build(factory: Factory, seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return factory()


def seeded(backbone: Any, clip: Tensor, keep: Tensor | None = None) -> Tensor:
    """Its tokens, the same draw of random numbers every time, from a clip of its own.

    So an encoder that drops out in eval(), or writes into its input, fails the check that is meant for that
    and no other.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return backbone(clip.clone(), keep)


def cells_of(backbone: Any, clip: Tensor) -> Grid:
    return Grid(*backbone.grid(*clip.shape[2:]))


def random_keep(clip: Tensor, grid: Grid) -> Tensor:
    """Half of the cells, others in every row: int64 [B, K], ascending."""
    score = torch.rand(len(clip), grid.length, generator=torch.Generator().manual_seed(1))
    return score.argsort(1)[:, : (grid.length + 1) // 2].sort(1).values.to(clip.device)


def pixels_of(cells: Tensor, grid: Grid, clip: Tensor) -> Tensor:
    """Which pixels belong to the cells [B, K]: bool [B, 1, T, H, W]."""
    shown = torch.zeros(len(cells), grid.length, dtype=torch.bool).scatter_(1, cells.cpu(), True)
    shown = shown.view(-1, 1, *grid)
    for axis, count in enumerate(grid, start=2):
        shown = shown.index_select(axis, torch.arange(clip.shape[axis]) * count // clip.shape[axis])
    return shown.to(clip.device)


def difference(tokens: Tensor, others: Tensor) -> float:
    """The largest distance of two values, in units of the tokens' root mean square."""
    size = others.float().square().mean().sqrt().clamp_min(1e-12)
    return ((tokens.float() - others.float()).abs().max() / size).item()


def scramble(module: nn.Module) -> None:
    """Move every parameter and every stored floating-point buffer."""
    generator = torch.Generator().manual_seed(2)
    for value in module.state_dict().values():
        if value.is_floating_point():
            value.add_(0.1 * torch.randn(value.shape, generator=generator).to(value))


def state_of(module: nn.Module) -> dict[str, Tensor]:
    """A copy of all values in its `state_dict`."""
    return {name: value.clone() for name, value in module.state_dict().items() if isinstance(value, Tensor)}
