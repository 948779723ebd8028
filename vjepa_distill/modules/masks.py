"""Views: frozen values that say what the student may see; the same value is the same view.

``Blocks`` follows V-JEPA's multi-block masks (Bardes et al. 2024), but equalises the *spatial* mask instead
of truncating token lists: every row has the same exact number of hidden cells, tiled over time. No tubelet
is favoured, and every token is either kept or asked. ``layout="official"`` reproduces the truncation,
``"shared"`` the scaffold.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from vjepa_distill.errors import UserError
from vjepa_distill.protocols import Draw, Split, View
from vjepa_distill.tokens import Grid

Layout = Literal["exact", "shared", "official"]


def complement(keep: Tensor, length: int) -> Tensor:
    """The indices of range(length) that are not in keep [B, K]: [B, length - K], ascending."""
    free = torch.ones(keep.shape[0], length, dtype=torch.bool, device=keep.device).scatter_(1, keep, False)
    return free.nonzero()[:, 1].view(keep.shape[0], -1)


def row_generators(view: View, draw: Draw) -> list[np.random.Generator]:
    """One generator a row, keyed by (seed, position, view): the same on any rank, at any batch size."""
    salt = zlib.crc32(repr(view).encode())
    return [np.random.default_rng([draw.seed, salt, int(p)]) for p in draw.position]


@dataclass(frozen=True)
class Whole:
    """Everything is seen, and everything is asked."""

    def split(self, grid: Grid, draw: Draw) -> Split:
        every = torch.arange(grid.length, device=draw.position.device).expand(len(draw.position), -1)
        return Split(every, every)


@dataclass(frozen=True)
class Sample:
    """A random share of the tokens is seen, and just those are asked (masked distillation, as in UMT)."""

    share: float

    def split(self, grid: Grid, draw: Draw) -> Split:
        count = max(1, round(self.share * grid.length))
        picks = [np.sort(g.permutation(grid.length)[:count]) for g in row_generators(self, draw)]
        keep = torch.from_numpy(np.stack(picks)).to(draw.position.device)
        return Split(keep, keep)


@dataclass(frozen=True)
class Span:
    """The tubelets [start, stop) are seen; all others are asked."""

    start: int
    stop: int

    def indices(self, grid: Grid, rows: int, device: torch.device | None = None) -> Tensor:
        """The tokens of the span: int64 [rows, (stop - start)·h·w]."""
        if not 0 <= self.start < self.stop <= grid.t:
            raise UserError(f"tubelets {self.start} to {self.stop} do not lie in a grid of {grid.t} tubelets")
        return torch.arange(self.start * grid.cells, self.stop * grid.cells, device=device).expand(rows, -1)

    def split(self, grid: Grid, draw: Draw) -> Split:
        keep = self.indices(grid, len(draw.position), draw.position.device)
        return Split(keep, complement(keep, grid.length))


@dataclass(frozen=True)
class Blocks:
    """Hides the union of ``count`` blocks of about ``scale`` of the frame each, in every tubelet alike."""

    count: int
    scale: float
    aspect: tuple[float, float] = (0.75, 1.5)
    layout: Layout = "exact"

    def hidden_cells(self, grid: Grid) -> int:
        """How many of the h·w cells are hidden, exactly: the expected union of independent blocks.

        UserError, naming the grid and the numbers, where that would hide nothing or leave nothing visible.
        """
        hidden = round((1 - (1 - self.scale) ** self.count) * grid.cells)
        if self.scale * grid.cells < 0.5 or not 0 < hidden < grid.cells:
            raise UserError(
                f"{self.count} blocks of {self.scale} of a {grid.h}x{grid.w} grid hide {hidden} of its "
                f"{grid.cells} cells; between 1 and {grid.cells - 1} are needed: use a larger picture, "
                "or another count or scale"
            )
        return hidden

    def split(self, grid: Grid, draw: Draw) -> Split:
        self.hidden_cells(grid)
        masks = LAYOUTS[self.layout](self, grid, draw)
        device = draw.position.device
        return Split(_tokens([~mask for mask in masks], grid, device), _tokens(masks, grid, device))


def short_and_long(
    short: Sequence[float], long: Sequence[float], aspect: Sequence[float], layout: Layout
) -> tuple[Blocks, Blocks]:
    """NOW's two masks, many small blocks and few large ones, each given as (count, scale)."""
    for name, given, parts in (
        ("short", short, "(count, scale)"),
        ("long", long, "(count, scale)"),
        ("aspect", aspect, "(least, most)"),
    ):
        if len(given) != 2:
            raise UserError(f"{name}={list(given)}: give two numbers, {parts}")
    low, high = aspect
    (many, small), (few, large) = short, long
    return Blocks(int(many), small, (low, high), layout), Blocks(int(few), large, (low, high), layout)


def _tokens(masks: list[np.ndarray], grid: Grid, device: torch.device) -> Tensor:
    """[h, w] masks to the indices of their tokens, the same cells in every tubelet: [B, n].

    Rows of unequal length are cut to the shortest, last tubelets first: what the official code does, and
    what the layouts "exact" and "shared" never need.
    """
    rows = [np.flatnonzero(np.broadcast_to(mask, grid)) for mask in masks]
    shortest = min(map(len, rows))
    return torch.from_numpy(np.stack([row[:shortest] for row in rows])).to(device)


Size = tuple[int, int]


def _block_size(view: Blocks, grid: Grid, rng: np.random.Generator) -> Size:
    """Height and width of a block in cells: its area is scale·h·w, its aspect drawn uniformly."""
    area, aspect = view.scale * grid.cells, rng.uniform(*view.aspect)
    height, width = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
    return min(max(height, 1), grid.h), min(max(width, 1), grid.w)


def _union(view: Blocks, grid: Grid, rng: np.random.Generator, size: Size | None = None) -> np.ndarray:
    """A [h, w] mask of hidden cells: ``count`` blocks with uniform corners, of one size if one is given."""
    hidden = np.zeros((grid.h, grid.w), dtype=bool)
    for _ in range(view.count):
        height, width = size or _block_size(view, grid, rng)
        top, left = rng.integers(grid.h - height + 1), rng.integers(grid.w - width + 1)
        hidden[top : top + height, left : left + width] = True
    return hidden


def _touching(mask: np.ndarray) -> np.ndarray:
    """Cells outside a mask that share an edge with it."""
    padded = np.pad(mask, 1)
    near = padded[:-2, 1:-1] | padded[2:, 1:-1] | padded[1:-1, :-2] | padded[1:-1, 2:]
    return near & ~mask


def _flip_at_border(mask: np.ndarray, number: int, rng: np.random.Generator) -> np.ndarray:
    """Add ``number`` cells to a mask, at random among those that touch it (any cell where none does)."""
    mask = mask.copy()
    while number > 0:
        border = _touching(mask) if mask.any() else ~mask
        chosen = rng.permutation(np.flatnonzero(border))[:number]
        mask.flat[chosen] = True
        number -= len(chosen)
    return mask


def _equalise(hidden: np.ndarray, wanted: int, rng: np.random.Generator) -> np.ndarray:
    """Grow or shrink a mask at its borders to exactly ``wanted`` cells."""
    surplus = int(hidden.sum()) - wanted
    if surplus > 0:
        return ~_flip_at_border(~hidden, surplus, rng)
    return _flip_at_border(hidden, -surplus, rng)


def _exact(view: Blocks, grid: Grid, draw: Draw) -> list[np.ndarray]:
    """Ours: every row its own blocks, then the same exact number of hidden cells."""
    wanted = view.hidden_cells(grid)
    return [_equalise(_union(view, grid, rng), wanted, rng) for rng in row_generators(view, draw)]


def _until_something_is_seen(
    view: Blocks, grid: Grid, rng: np.random.Generator, size: Size | None
) -> np.ndarray:
    """Draw again where the blocks cover the whole frame: no context would mean no gradient at all."""
    mask = _union(view, grid, rng, size)
    while mask.all():
        mask = _union(view, grid, rng, size)
    return mask


def _shared(view: Blocks, grid: Grid, draw: Draw) -> list[np.ndarray]:
    """The scaffold: one mask for the whole batch, every block with a size of its own."""
    mask = _until_something_is_seen(view, grid, row_generators(view, draw)[0], None)
    return [mask] * len(draw.position)


def _official(view: Blocks, grid: Grid, draw: Draw) -> list[np.ndarray]:
    """V-JEPA 1 and 2: one block size a batch, positions a row."""
    generators = row_generators(view, draw)
    size = _block_size(view, grid, generators[0])
    if size == (grid.h, grid.w):
        raise UserError(
            f"a block of {view.scale} covers the whole {grid.h}x{grid.w} grid: nothing would be seen"
        )
    return [_until_something_is_seen(view, grid, rng, size) for rng in generators]


LAYOUTS = {"exact": _exact, "shared": _shared, "official": _official}
