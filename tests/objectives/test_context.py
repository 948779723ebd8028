"""Context equals a loop: visible tokens, weighted by their distance to what is hidden, at every level."""

import pytest
import torch

from tests.objectives.latents import GRID, TIMELINE, latents_of, noise
from vjepa_distill.errors import UserError
from vjepa_distill.modules.masks import Whole
from vjepa_distill.objectives.context import Context, nearness, weighted_l1
from vjepa_distill.objectives.temporal import Now
from vjepa_distill.protocols import Split
from vjepa_distill.tokens import Grid

MASKS = {"short": (2, 0.2), "long": (1, 0.5)}


def distance_to_hidden(place, hidden, grid):
    cells = [(i, j, k) for i in range(grid.t) for j in range(grid.h) for k in range(grid.w)]
    return min(sum((a - b) ** 2 for a, b in zip(cells[place], cells[h], strict=True)) ** 0.5 for h in hidden)


def plain(said, target, split, grid):
    """The mean over clips of each one's weighted mean of |z - h|."""
    clips = []
    for row, (keep, rest) in enumerate(zip(split.keep.tolist(), split.rest.tolist(), strict=True)):
        weights = [distance_to_hidden(k, rest, grid) ** -0.5 for k in keep]
        errors = [(said[row][i] - target[row][k]).abs().mean() for i, k in enumerate(keep)]
        clips.append(sum(w * e for w, e in zip(weights, errors, strict=True)) / sum(weights))
    return sum(clips) / len(clips)


@pytest.mark.parametrize("levels", [0, 1, 3])
def test_it_equals_a_loop_and_so_do_the_gradients_of_its_heads(levels):
    torch.manual_seed(0)
    widths = (6, 4, 8)  # two inner layers, then the output
    objective = Context(8, TIMELINE, levels=levels, **MASKS, layers=widths, target_dim=5).double()
    student, target, said = (
        noise(3, GRID.length, 8),
        noise(3, GRID.length, 5, seed=1),
        noise(3, 48, 5, seed=2),
    )
    layers = [noise(3, GRID.length, width, seed=7 + width) for width in widths]
    latents = latents_of(objective, student, target, said, layers)
    assert len(objective.heads) == min(levels, 2)
    loss = objective(latents)
    terms = []
    for view in objective.views():
        split = latents.splits[view]
        levels_said = [torch.stack([said[r][split.keep[r]] for r in range(3)])]
        for number, head in enumerate(objective.heads):
            norm, linear = head
            inner = latents.layers[view][2 - len(objective.heads) + number]
            x = (inner - inner.mean(-1, keepdim=True)) / (
                inner.var(-1, correction=0, keepdim=True) + 1e-5
            ).sqrt()
            levels_said.append((x * norm.weight + norm.bias) @ linear.weight.T + linear.bias)
        each = [plain(z, target, split, GRID) for z in levels_said]
        terms.append(sum(each) / len(each))
    expected = sum(terms) / 2
    torch.testing.assert_close(loss, expected, atol=1e-7, rtol=0)  # places are fp32
    if levels:
        of = [
            torch.autograd.grad(x, list(objective.parameters()), retain_graph=True) for x in (loss, expected)
        ]
        for ours, theirs in zip(*of, strict=True):
            assert theirs.abs().max() > 0
            torch.testing.assert_close(ours, theirs, atol=1e-7, rtol=0)


def test_what_borders_on_the_hidden_counts_most():
    grid = Grid(1, 1, 10)
    split = Split(torch.tensor([[0, 4, 8]]), torch.tensor([[9]]))
    torch.testing.assert_close(nearness(split, grid), torch.tensor([[1 / 3, 5**-0.5, 1.0]]))


def test_far_places_of_a_long_grid_are_measured_exactly():
    """Squared norms, less twice a product, would lose the 1 beside 10⁸ in fp32, and in TF32 much sooner."""
    grid = Grid(1, 1, 10_000)
    split = Split(torch.arange(9999)[None], torch.tensor([[9999]]))
    torch.testing.assert_close(nearness(split, grid)[0], torch.arange(9999, 0, -1).float().rsqrt())


def test_every_clip_counts_the_same_however_much_it_hides():
    z, target, weights = noise(2, 5, 3), noise(2, 5, 3, seed=1), noise(2, 5, seed=2).abs()
    weights[1] *= 100
    each = [weighted_l1(z[r : r + 1], target[r : r + 1], weights[r : r + 1]) for r in range(2)]
    torch.testing.assert_close(weighted_l1(z, target, weights), sum(each) / 2)


def test_it_shares_the_students_passes_with_now():
    assert Context(8, TIMELINE).views() == Now(8, TIMELINE).views()
    assert Whole() not in Context(8, TIMELINE).views()


def test_levels_below_zero_are_refused():
    with pytest.raises(UserError, match="levels=-1: the number of inner layers is 0 or more"):
        Context(8, TIMELINE, levels=-1)
