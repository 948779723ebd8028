"""Masks: the exact count in every tubelet, nothing in neither set, the same row on any rank."""

import numpy as np
import pytest
import torch

from vjepa_distill.errors import UserError
from vjepa_distill.modules.masks import Blocks, Sample, Span, Whole, complement, short_and_long
from vjepa_distill.protocols import Draw
from vjepa_distill.tokens import Grid

GRIDS = [Grid(42, 14, 14), Grid(10, 7, 7), Grid(3, 10, 14), Grid(2, 4, 4)]
SHORT, LONG = Blocks(8, 0.15), Blocks(2, 0.7)


def draw(rows=6, start=0, seed=1):
    return Draw(seed, torch.arange(start, start + rows))


@pytest.mark.parametrize("grid", GRIDS, ids=str)
@pytest.mark.parametrize("view", [SHORT, LONG], ids=["short", "long"])
def test_every_row_hides_the_exact_count_in_every_tubelet(grid, view):
    keep, rest = view.split(grid, draw())
    for row in rest:
        counts = torch.bincount(row // grid.cells, minlength=grid.t)
        assert counts.tolist() == [view.hidden_cells(grid)] * grid.t
    both = torch.cat([keep, rest], dim=1).sort(dim=1).values
    assert torch.equal(both, torch.arange(grid.length).expand(6, -1)), "every token is either kept or asked"
    cells = (rest % grid.cells).view(6, grid.t, -1)
    assert (cells == cells[:, :1]).all(), "the same cells in every tubelet"


def test_rows_differ_and_are_keyed_by_position_alone():
    whole = SHORT.split(GRIDS[0], draw(6)).rest
    assert len({tuple(row.tolist()) for row in whole}) == 6
    halves = torch.cat([SHORT.split(GRIDS[0], draw(3, start)).rest for start in (0, 3)])
    assert torch.equal(whole, halves), "2 ranks of 3 draw what 1 rank of 6 draws"
    assert not torch.equal(whole, SHORT.split(GRIDS[0], draw(6, seed=2)).rest)


def test_what_is_hidden_hangs_together_in_blocks():
    """Adding and dropping at borders keeps blocks: a random mask of the same size has many more edges."""
    grid = Grid(1, 14, 14)

    def edges(mask):
        return (mask[1:] != mask[:-1]).sum() + (mask[:, 1:] != mask[:, :-1]).sum()

    rng = np.random.default_rng(0)
    ours, scattered = [], []
    for row in LONG.split(grid, draw(20)).rest:
        mask = np.zeros(196, dtype=bool)
        mask[row] = True
        ours.append(edges(mask.reshape(14, 14)))
        scattered.append(edges(rng.permutation(mask).reshape(14, 14)))
    assert np.mean(ours) < 0.5 * np.mean(scattered)


def test_every_cell_is_hidden_sometimes_and_none_always():
    rest = SHORT.split(Grid(1, 14, 14), draw(400)).rest
    share = torch.bincount(rest.flatten(), minlength=196) / 400
    assert share.min() > 0.05
    assert share.max() < 1.0


@pytest.mark.parametrize(
    ("view", "grid"),
    [(Blocks(2, 0.7), Grid(4, 1, 2)), (Blocks(1, 0.1), Grid(4, 2, 2)), (Blocks(9, 0.9), Grid(1, 4, 4))],
)
def test_an_impossible_mask_names_the_grid_and_the_numbers(view, grid):
    with pytest.raises(UserError, match=rf"{grid.h}x{grid.w} grid hide \d+ of its {grid.cells}"):
        view.split(grid, draw())


@pytest.mark.parametrize("wrong", [{"short": [1]}, {"long": [2, 0.7, 1]}, {"aspect": []}])
def test_pairs_are_pairs(wrong):
    (name,) = wrong
    with pytest.raises(UserError, match=rf"^{name}=\[.*give two numbers, \("):
        short_and_long(
            **{"short": (8, 0.15), "long": (2, 0.7), "aspect": (0.75, 1.5), "layout": "exact"} | wrong
        )


def test_the_scaffold_shares_one_mask_with_the_whole_batch():
    view = Blocks(8, 0.15, layout="shared")
    rest = view.split(GRIDS[1], draw()).rest
    assert (rest == rest[0]).all()
    lengths = {view.split(GRIDS[1], draw(start=s)).rest.shape[1] for s in range(20)}
    assert len(lengths) > 1, "the scaffold does not equalise counts"


def test_the_official_layout_cuts_the_last_tubelets_as_reported():
    """facebookresearch/jepa #50: truncation in (t, h, w) order starves the last tubelet of context."""
    view, grid = Blocks(8, 0.15, layout="official"), Grid(8, 16, 16)
    keep, rest = view.split(grid, draw(24))
    share = torch.bincount(keep.flatten() // grid.cells, minlength=8) / keep.numel()
    assert share[-1] < 0.05 < 0.11 < share[0]
    assert keep.shape[1] + rest.shape[1] < grid.length, "some tokens are in neither set"
    even = torch.bincount(SHORT.split(grid, draw(24)).keep.flatten() // grid.cells) / 24
    assert (even == even[0]).all()


def test_spans_and_samples():
    grid = Grid(5, 2, 3)
    keep, rest = Span(1, 3).split(grid, draw(2))
    assert keep[0].tolist() == list(range(6, 18))
    assert torch.equal(rest, complement(keep, 30))
    with pytest.raises(UserError, match="grid of 5 tubelets"):
        Span(3, 6).split(grid, draw(2))
    part = Sample(0.3).split(grid, draw(4))
    assert part.keep.shape == (4, 9)
    assert all(len(set(row.tolist())) == 9 for row in part.keep)
    assert Whole().split(grid, draw(2)).keep.tolist() == [list(range(30))] * 2


def test_equal_views_are_one_dictionary_key():
    assert len({Span(0, 2): 1, Span(0, 2): 2, Blocks(8, 0.15): 3, Blocks(8, 0.15): 4}) == 2
