"""Dynamics equals a loop; what stands still counts nothing, and a linear world is learned exactly."""

import pytest
import torch

from tests.objectives.latents import GRID, TIMELINE, latents_of, noise
from vjepa_distill.errors import UserError
from vjepa_distill.objectives.dynamics import Dynamics


class Says(torch.nn.Module):
    """In place of the head: the same for every input."""

    def __init__(self, said):
        super().__init__()
        self.said = said

    def forward(self, tokens):
        return self.said


def l1(z, change):
    return (z - change).abs().mean()


def one_minus_cosine(z, change):
    return 1 - (z @ change) / (z.norm() * change.norm()) if z.norm() > 0 else torch.ones_like(z[0])


def plain(said, target, steps, weighting, away=l1, cells=GRID.cells):
    """Loss and floor, one place after the other. said [B, L, steps * D]."""
    width = target.shape[-1]
    losses, floors = [], []
    for number, step in enumerate(steps):
        for row in range(len(target)):
            places = range(target.shape[1] - step * cells)
            changes = [target[row][p + step * cells] - target[row][p] for p in places]
            moved = [change.abs().mean() for change in changes]
            weights = [(m / (sum(moved) / len(moved))) ** weighting for m in moved]
            z = said[row][:, number * width : (number + 1) * width]
            errors = [away(z[p], change) for p, change in zip(places, changes, strict=True)]
            nothing = [away(torch.zeros_like(change), change) for change in changes]
            losses.append(sum(w * e for w, e in zip(weights, errors, strict=True)) / sum(weights))
            floors.append(sum(w * n for w, n in zip(weights, nothing, strict=True)) / sum(weights))
    return sum(losses) / len(losses), sum(floors) / len(floors)


@pytest.mark.parametrize("weighting", [0.0, 1.0, 2.0])
@pytest.mark.parametrize("hidden", [0, 16])
def test_it_equals_a_loop(weighting, hidden):
    torch.manual_seed(0)
    objective = Dynamics(8, TIMELINE, (1, 3), weighting, hidden, target_dim=5).double()
    student, target = noise(3, GRID.length, 8), noise(3, GRID.length, 5, seed=1)
    latents = latents_of(objective, student, target)
    loss = objective(latents)
    expected, floor = plain(objective.head(student), target, (1, 3), weighting)
    torch.testing.assert_close(loss, expected, atol=1e-12, rtol=0)
    torch.testing.assert_close(latents.notes["dynamics/skill"], 1 - expected.detach() / floor)


@pytest.mark.parametrize("of", ["places", "tubelets"])
@pytest.mark.parametrize("distance", ["l1", "cosine"])
def test_of_places_or_of_tubelets_by_either_distance_it_equals_the_loop(of, distance):
    torch.manual_seed(0)
    objective = Dynamics(8, TIMELINE, (1, 3), of=of, distance=distance, target_dim=5).double()
    student, target = noise(3, GRID.length, 8), noise(3, GRID.length, 5, seed=1)
    latents = latents_of(objective, student, target)
    loss = objective(latents)
    cells = GRID.cells
    if of == "tubelets":
        student, target = (
            torch.stack([z[:, t * cells : (t + 1) * cells].mean(dim=1) for t in range(GRID.t)], dim=1)
            for z in (student, target)
        )
        cells = 1
    away = l1 if distance == "l1" else one_minus_cosine
    expected, floor = plain(objective.head(student), target, (1, 3), 1.0, away, cells)
    torch.testing.assert_close(loss, expected, atol=1e-12, rtol=0)
    torch.testing.assert_close(latents.notes["dynamics/skill"], 1 - expected.detach() / floor)
    loss.backward()
    assert all(p.grad.abs().max() > 0 for p in objective.parameters())


def test_by_tubelets_what_only_changes_places_has_not_changed():
    """Two cells swap their tokens at every tubelet: each place moves, the picture's mean does not."""
    token = noise(1, GRID.cells, 5)
    swapped = token.clone()
    swapped[:, [0, 1]] = token[:, [1, 0]]
    target = torch.cat([token, swapped, token, swapped], dim=1)
    losses = {}
    for of in ("places", "tubelets"):
        objective = Dynamics(8, TIMELINE, (1,), of=of, target_dim=5).double()
        objective.head = Says(torch.zeros(1, 48 if of == "places" else 4, 5, dtype=torch.float64))
        losses[of] = objective(latents_of(objective, noise(1, GRID.length, 8), target))
    assert losses["places"] > 0.1
    assert losses["tubelets"] < 1e-12


def test_what_stands_still_counts_nothing():
    objective = Dynamics(8, TIMELINE, (1,)).double()
    target = noise(2, 1, 5).repeat(1, GRID.length, 1)
    target[:, 5 :: GRID.cells] += noise(2, GRID.t, 5, seed=1)  # one cell moves
    said = torch.zeros(2, GRID.length, 5, dtype=torch.float64)
    objective.head = Says(said)
    without = objective(latents_of(objective, noise(2, 48, 8), target))
    still = [p for p in range(GRID.length) if p % GRID.cells != 5]
    said[:, still] = 100.0
    torch.testing.assert_close(objective(latents_of(objective, noise(2, 48, 8), target)), without)
    said[:, 5] = 100.0
    assert objective(latents_of(objective, noise(2, 48, 8), target)) > without + 10


def test_a_clip_in_which_nothing_moves_adds_nothing():
    """A black clip, alone or among others: 0 / 0 would stop the run."""
    objective = Dynamics(8, TIMELINE).double()
    student, target = noise(2, GRID.length, 8), noise(2, GRID.length, 8, seed=1)
    target[0] = target[0, :1]
    alone = latents_of(objective, student[:1], target[:1])
    loss = objective(alone)
    loss.backward()
    assert loss == 0
    assert all(p.grad is not None and p.grad.isfinite().all() for p in objective.parameters())
    assert alone.notes["dynamics/skill"].isfinite()
    other = objective(latents_of(objective, student[1:], target[1:]))
    torch.testing.assert_close(objective(latents_of(objective, student, target)), other / 2)


def test_saying_that_nothing_changes_has_skill_zero():
    objective = Dynamics(8, TIMELINE)
    objective.head = Says(torch.zeros(3, GRID.length, len(objective.steps) * 8, dtype=torch.float64))
    latents = latents_of(objective, noise(3, 48, 8), noise(3, 48, 8, seed=1))
    objective(latents)
    assert latents.notes["dynamics/skill"] == 0


def test_a_world_of_constant_velocity_is_learned_to_skill_one():
    """What moves by v a tubelet, in a student that knows v, moves by n·v in n of them."""
    objective = Dynamics(8, TIMELINE, (1, 2), target_dim=4).double()
    start, velocity = noise(16, GRID.cells, 4), noise(16, GRID.cells, 4, seed=1)
    target = torch.cat([start + velocity * n for n in range(GRID.t)], dim=1)
    student = torch.cat([target, velocity.repeat(1, GRID.t, 1)], dim=-1)
    objective.head[0] = torch.nn.Identity()
    with torch.no_grad():
        objective.head[-1].bias.zero_()
        reads = [torch.cat([torch.zeros(4, 4), n * torch.eye(4)], dim=1) for n in (1, 2)]
        objective.head[-1].weight.copy_(torch.cat(reads))
    latents = latents_of(objective, student, target)
    assert objective(latents) < 1e-12
    assert latents.notes["dynamics/skill"] > 1 - 1e-9


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"steps": (4, 9)}, r"steps=\[4, 9\]: give tubelets ahead from 1 to 3"),
        ({"steps": (0, 1)}, "give tubelets ahead"),
        ({"weighting": -1.0}, "weighting=-1.0: give 0 or more"),
        ({"of": "cells"}, "of=cells: give places or tubelets"),
        ({"distance": "l2"}, "distance=l2: give l1 or cosine"),
    ],
)
def test_impossible_options_are_refused(options, words):
    with pytest.raises(UserError, match=words):
        Dynamics(8, TIMELINE, **options)
