"""Positions on another grid than the one weights were trained on: interpolated, as V-JEPA 1 and 2.1 do."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from vjepa_distill.errors import UserError
from vjepa_distill.modules.transformer import sincos3d
from vjepa_distill.tokens import Grid, coordinates, resample


def checked_grid(given: Sequence[int] | None) -> Grid:
    """`trained_grid` as a Grid, none given as (0, 0, 0); UserError unless it is three numbers from 0 on."""
    numbers = (0, 0, 0) if given is None else tuple(given)
    if len(numbers) != 3 or not all(isinstance(n, int) and n >= 0 for n in numbers):
        raise UserError(
            f"trained_grid={given}: give the tubelets, rows and columns that the weights were trained on, "
            "e.g. [8, 14, 14]; 0 for an axis whose cells are counted instead"
        )
    return Grid(*numbers)


def sincos_table(
    grid: Grid, dim: int, split: str, trained: Grid, device: torch.device, dtype: torch.dtype
) -> Tensor:
    """The sin-cos table [L, dim] of a grid, interpolated from that of the trained one where it has an axis.

    As V-JEPA 1 evaluates at other sizes: trilinear interpolation, and only the first tubelets of the table
    for a shorter clip of the trained height and width.
    """
    base = Grid(*(old or new for old, new in zip(trained, grid, strict=True)))
    if base[1:] == grid[1:] and grid.t <= base.t:
        return sincos3d(grid, dim, device, dtype, split)
    return resample(sincos3d(base, dim, device, dtype, split)[None], base, grid)[0]


def rotary_places(grid: Grid, trained: Grid, device: torch.device) -> Tensor:
    """The (t, h, w) place of every token [L, 3], spread over the trained grid's where it has an axis.

    As V-JEPA 2.1 does for rows and columns: the first and the last keep their place at any number of cells.
    """
    places = coordinates(grid, device)
    if not any(trained):
        return places
    scale = [
        (old - 1) / (new - 1) if old and new > 1 else 1.0 for old, new in zip(trained, grid, strict=True)
    ]
    return places * torch.tensor(scale, device=device)
