"""A clip cut into equal cells, and the words for one that cannot be."""

from __future__ import annotations

from vjepa_distill.errors import UserError
from vjepa_distill.tokens import Grid


def cut(T: int, H: int, W: int, cell: tuple[int, int, int]) -> Grid:
    """The grid of T frames of H x W pixels in cells of (frames, rows, columns); UserError for others."""
    sizes = (T, H, W)
    refuse_empty(cell)
    if any(size < step or size % step for size, step in zip(sizes, cell, strict=True)):
        near = [max(size // step, 1) * step for size, step in zip(sizes, cell, strict=True)]
        raise UserError(
            f"{T} frames of {H} x {W} pixels do not divide into cells of {cell[0]} frames of "
            f"{cell[1]} x {cell[2]}; the nearest that do: {near[0]} frames of {near[1]} x {near[2]}"
        )
    return Grid(*(size // step for size, step in zip(sizes, cell, strict=True)))


def refuse_empty(cell: tuple[int, int, int]) -> None:
    """UserError for a cell without frames, rows or columns."""
    if min(cell) < 1:
        raise UserError(
            f"cells of {cell[0]} frames of {cell[1]} x {cell[2]} pixels: give tubelet and patch of 1 or more"
        )
