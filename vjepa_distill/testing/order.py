"""Whether tokens come in (t, h, w) order, told from which of them move with the pixels of a cell."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations
from typing import Any

import torch
from torch import Tensor

from vjepa_distill.testing.errors import require
from vjepa_distill.testing.tools import cells_of, pixels_of, place
from vjepa_distill.tokens import Grid, coordinates

# Wrong orders fit the movements 1.4 to 6 times better; noise does by a few per cent, and strays now and then.
MARGIN = 1.1
STRAYS = 0.25
# Spread of the movements in a tubelet over their mean: 1.2 to 2.4 where tokens keep their places, 0.0 to 0.3
# in untrained models that mix all into every token (LeViT, MobileViT): none can tell their rows from columns.
ALIKE = 0.5
MEND = "flatten as (t, h, w) with w fastest, and declare the grid as (t, h, w), not (t, w, h)"


@torch.no_grad()
def check_order(backbone: Any, clip: Tensor) -> None:
    """Tokens in (t, h, w) order, w fastest: new pixels in a cell move the tokens about it most.

    About it, and not at it: a strided convolution that pads on both sides looks at the corner of its cell
    (five halvings put token 1 of 32-pixel cells at pixel 32), so that a neighbour may move as much. What no
    such skew explains is a token a third of the picture away, or another order that clearly fits better.
    """
    grid = cells_of(backbone, clip)
    cells = torch.arange(0, grid.length, max(grid.length // 32, 1))
    moved = movements(backbone, clip, grid, cells)
    inside = moved.unflatten(1, (grid.t, -1))[torch.arange(len(cells)), cells // grid.cells]
    if grid.cells > 1 and (inside.std(1) / inside.mean(1).clamp_min(1e-12)).mean() < ALIKE:
        moved = moved.unflatten(1, (grid.t, -1)).sum(2)
        cells, grid = cells // grid.cells, Grid(grid.t, 1, 1)
    moved = (moved - moved.mean(0)).clamp_min(0)  # an untrained mixer has tokens that always move most
    moved = moved / moved.sum(1, keepdim=True).clamp_min(1e-12)
    require_near(moved, cells, grid)
    require_best(moved, cells, grid)


def require_near(moved: Tensor, cells: Tensor, grid: Grid) -> None:
    """All but a few cells move most a token that is less than a third of the grid away."""
    most, index = moved.argmax(1), coordinates(grid)
    beside = (torch.tensor(grid) // 3).clamp_min(1)
    apart = (index[cells] - index[most]).abs().sub(beside).amax(1)
    cell, token = int(cells[apart.argmax()]), int(most[apart.argmax()])
    require(
        (apart > 0).float().mean().item() <= STRAYS,
        f"new pixels in cell {place(cell, grid)} to move token {cell}, or one beside it, most",
        f"token {token}, the place of cell {place(token, grid)}, and such in {int((apart > 0).sum())} of "
        f"{len(cells)} cells",
        MEND,
    )


def require_best(moved: Tensor, cells: Tensor, grid: Grid) -> None:
    """No other order explains all movements clearly better than the one that was declared."""
    own = moved.gather(1, cells[:, None]).sum().item()
    for what, tokens in other_orders(grid):
        fits = moved.gather(1, tokens[cells][:, None]).sum().item()
        require(
            fits < MARGIN * own,
            "new pixels in a cell to move the token of that cell",
            f"movements that fit {what} better ({fits / max(own, 1e-12) - 1:.0%})",
            MEND,
        )


def movements(backbone: Any, clip: Tensor, grid: Grid, cells: Tensor) -> Tensor:
    """How far each token moves with new pixels in each of the cells [N]: [N, L]."""
    other = clip.flip(0) if len(clip) > 1 else 1 - clip
    before = backbone(clip)
    rows = []
    for some in cells.split(len(clip)):
        asked = torch.nn.functional.pad(some, (0, len(clip) - len(some)))  # one cell in every row
        after = backbone(torch.where(pixels_of(asked[:, None], grid, clip), other, clip))
        rows.append((after - before).norm(dim=-1)[: len(some)].float().cpu())
    return torch.cat(rows)


def other_orders(grid: Grid) -> Iterator[tuple[str, Tensor]]:
    """Wrong orders in words, each with the token that would then be each cell's: int64 [L].

    Other axes fastest, axes backwards, and rows and columns of the grid exchanged.
    """
    cells = (coordinates(grid) + 0.5) / torch.tensor(grid)
    layouts = {}
    for axes in permutations(range(3)):
        shape = [grid[axis] for axis in axes]
        places = coordinates(Grid(*shape))[:, [axes.index(axis) for axis in range(3)]]
        layouts[f"the order ({', '.join('thw'[axis] for axis in axes)})"] = (places + 0.5) / torch.tensor(
            grid
        )
    for axis, letter in enumerate("thw"):
        layouts[f"{letter} backwards"] = cells.clone()
        layouts[f"{letter} backwards"][:, axis] = 1 - cells[:, axis]
    swapped = Grid(grid.t, grid.w, grid.h)
    layouts["a grid of (t, w, h)"] = (coordinates(swapped) + 0.5) / torch.tensor(swapped)
    for what, places in layouts.items():
        tokens = torch.cdist(cells, places).argmin(1)
        if not torch.equal(tokens, torch.arange(grid.length)):
            yield what, tokens
