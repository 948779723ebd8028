"""Tells which formula and which grid a stored table of sin-cos positions was computed from."""

from __future__ import annotations

import math

from torch import Tensor

from vjepa_distill.errors import UserError
from vjepa_distill.modules.transformer import SPLITS, sincos3d
from vjepa_distill.tokens import Grid

# An average of many steps drifts by its rounding alone, and a file may be in half precision; the tables of
# other formulas and grids differ by about 1.
TOLERANCE = 0.01


def recognised(table: Tensor, what: str) -> tuple[str, Grid]:
    """(how the width is shared, the grid) of a table [1, L, D] of square frames; UserError if it is no such.

    what: the table's name, for the error.
    """
    length, dim = table.shape[-2:]
    sides = [side for side in range(1, math.isqrt(length) + 1) if length % side**2 == 0]
    for split in SPLITS if dim % 8 == 0 else SPLITS[:2]:
        for side in reversed(sides):
            grid = Grid(length // side**2, side, side)
            ours = sincos3d(grid, dim, split=split)
            if (ours - table[0].float()).abs().max() < TOLERANCE:
                return split, grid
    raise UserError(
        f"{what} {list(table.shape)} is no sin-cos table of V-JEPA's: learned positions, and those of frames "
        "that are not square, have no place here"
    )
