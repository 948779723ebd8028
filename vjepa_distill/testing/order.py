"""In which order tokens come out: where the movement lands when the pixels of one cell change."""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import Tensor

from vjepa_distill.testing.errors import require
from vjepa_distill.testing.tools import cells_of, pixels_of, seeded
from vjepa_distill.tokens import Grid

CELLS, DRAWS, SLACK, STILL = 32, 2, 0.01, 1e-3


@torch.no_grad()
def check_order(backbone: Any, clip: Tensor) -> str:
    """Tokens in (t, h, w) order, w fastest: what changes in a cell moves the tokens nearest to it."""
    grid = cells_of(backbone, clip)
    generator = torch.Generator().manual_seed(4)
    cells = torch.randperm(grid.length, generator=generator)[:CELLS].sort().values
    moved = movement(backbone, clip, grid, cells, generator)
    require(
        bool((moved > 0).any()), "tokens that depend on the pixels", "tokens that do not", "read the clip"
    )
    near = moved.amax(0) > STILL * moved.max()  # of a long clip most tokens are far from every cell tried
    share = balanced(moved[:, near])
    asked = centres(tuple(grid), (0, 1, 2))
    mine = reach(share, asked[cells], asked[near])
    best, layout = min((reach(share, asked[cells], places[near]), words) for words, places in layouts(grid))
    require(
        mine <= best + SLACK,
        f"new pixels in a cell to move the tokens next to it, read as {shape_of('thw', grid)}",
        f"movement that lies nearer when they are read as {layout}",
        "flatten as (t, h, w) with w fastest, and declare the grid as (t, h, w), not (t, w, h)",
    )
    return f"movement is nearest in this order ({len(cells)} cells tried)"


def movement(backbone: Any, clip: Tensor, grid: Grid, cells: Tensor, generator: torch.Generator) -> Tensor:
    """How far each token moves when each of the cells [C] gets other pixels: [C, L]."""
    before = seeded(backbone, clip)
    total = torch.zeros(len(cells), before.shape[1])
    for _ in range(DRAWS):
        other = torch.rand(clip.shape, generator=generator).to(clip)
        for some in torch.arange(len(cells)).split(len(clip)):
            rows = torch.nn.functional.pad(some, (0, len(clip) - len(some)), value=int(some[0]))
            inside = pixels_of(cells[rows, None], grid, clip)  # one cell in every row
            apart = (seeded(backbone, torch.where(inside, other, clip)) - before).float().norm(dim=-1).cpu()
            total[some] += apart[: len(some)]
    return total


def balanced(moved: Tensor) -> Tensor:
    """Every cell and every token counts the same, however much it moves (Sinkhorn & Knopp 1967)."""
    share = moved.double().clamp_min(moved.max() * 1e-6)
    for _ in range(50):
        share = share / share.sum(1, keepdim=True)
        share = share / share.sum(0, keepdim=True)
    return share / share.sum()


def centres(sizes: tuple[int, ...], axes: tuple[int, ...]) -> Tensor:
    """Where tokens sit, in shares of (T, H, W), if flattened from `sizes` laid along `axes`: [L, 3]."""
    lines = [(torch.arange(n, dtype=torch.float64) + 0.5) / n for n in sizes]
    places = torch.stack(torch.meshgrid(*lines, indexing="ij"), dim=-1).flatten(0, 2)
    return places[:, torch.tensor(axes).argsort()]


def reach(share: Tensor, cells: Tensor, places: Tensor) -> float:
    """How far from the cells [C, 3] the movement is on average, below what chance would give."""
    apart = (cells[:, None] - places[None]).abs().sum(-1)
    return ((share * apart).sum() - apart.mean()).item()


def layouts(grid: Grid) -> list[tuple[str, Tensor]]:
    """Every other way that so many tokens could have been flattened."""
    asked = centres(tuple(grid), (0, 1, 2))
    ways = itertools.product(sorted(set(itertools.permutations(grid))), itertools.permutations(range(3)))
    found = [(shape_of("".join("thw"[a] for a in axes), sizes), centres(sizes, axes)) for sizes, axes in ways]
    return [(words, places) for words, places in found if not torch.equal(places, asked)] or [("", asked)]


def shape_of(axes: str, sizes: tuple[int, ...]) -> str:
    """For example ``(h, w, t) of 2 x 3 x 4``."""
    return f"({', '.join(axes)}) of {' x '.join(map(str, sizes))}"
