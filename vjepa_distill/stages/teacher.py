"""How a teacher of another kind is shown the student's clips: resized so that grids agree, where they can."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from vjepa_distill.errors import Gone, UserError
from vjepa_distill.protocols import Backbone
from vjepa_distill.tokens import Grid, promote

LARGEST_CELL = 64  # pixels; a teacher with a larger one is shown the clip's own size


@torch.no_grad()
def shown(teacher: Backbone, clip: Tensor, grid: Grid) -> tuple[Tensor, Grid]:
    """A teacher's tokens [B, L', D'] of a clip, and their grid, which is the student's where possible."""
    clip = fitted(teacher, clip, grid)
    return promote(teacher(clip)), teacher.grid(*clip.shape[2:])


def fitted(teacher: Backbone, clip: Tensor, grid: Grid) -> Tensor:
    """The clip resized so that the teacher's grid has the student's height and width, where the teacher can.

    clip [B, 3, T, H, W] to [B, 3, T, H', W']; unchanged where grids agree already or no size makes them.
    """
    frames, height, width = clip.shape[2:]
    size = fitting(teacher, frames, height, width, grid)
    if size == (height, width):
        return clip
    pictures = F.interpolate(clip.transpose(1, 2).flatten(0, 1), size=size, mode="bilinear", antialias=True)
    return pictures.unflatten(0, (-1, frames)).transpose(1, 2)


def fitting(teacher: Backbone, frames: int, height: int, width: int, grid: Grid) -> tuple[int, int]:
    """The size a teacher is shown: one that gives it the student's rows and columns, else the clip's own.

    UserError where it takes neither.
    """
    try:
        native = teacher.grid(frames, height, width)
    except Gone:
        raise
    except ValueError as problem:
        cells = sorted(range(1, LARGEST_CELL + 1), key=lambda cell: abs(cell - height / grid.h))
        sizes = [(grid.h * cell, grid.w * cell) for cell in cells]
        found = next((size for size in sizes if _makes(teacher, grid, frames, *size)), None)
        if found is None:
            raise UserError(
                f"the teacher does not take clips of {frames} frames of {height} x {width}: {problem}. "
                "Type --data.num_frames and --data.size that both it and the student take"
            ) from problem
        return found
    if (native.h, native.w) == (grid.h, grid.w):
        return height, width
    size = height * grid.h // native.h, width * grid.w // native.w
    return size if _makes(teacher, grid, frames, *size) else (height, width)


def _makes(teacher: Backbone, grid: Grid, frames: int, height: int, width: int) -> bool:
    try:
        made = teacher.grid(frames, height, width)
    except ValueError:  # the contract's way of saying "not this size"
        return False
    return (made.h, made.w) == (grid.h, grid.w)
