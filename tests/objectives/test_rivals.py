"""SOON's rivals know what NOW knows, and each is perfect in the world that it describes."""

import pytest
import torch

from tests.objectives.latents import GRID, latents_of, noise
from vjepa_distill.objectives.temporal import Soon, by_tubelet, rivals
from vjepa_distill.protocols import Timeline

TIMELINE = Timeline(2, 2, 0)
CELLS = GRID.cells


def moving(start, velocity):
    """[B, L, D]: every cell moves by its own velocity a tubelet."""
    return torch.cat([start + velocity * n for n in range(GRID.t)], dim=1)


def test_a_linear_world_is_foretold_by_the_straight_line_and_not_by_persistence():
    start, velocity = noise(3, CELLS, 5), noise(3, CELLS, 5, seed=1)
    world = moving(start, velocity)
    said = rivals(world[:, : 2 * CELLS], 2, CELLS)
    assert set(said) == {"persistence", "linear"}
    torch.testing.assert_close(said["linear"], world[:, 2 * CELLS :])
    errors = by_tubelet(said["persistence"], world[:, 2 * CELLS :], CELLS)
    torch.testing.assert_close(errors, velocity.abs().mean() * torch.tensor([1.0, 2.0], dtype=torch.float64))


def test_a_still_world_is_foretold_by_both():
    world = moving(noise(3, CELLS, 5), torch.zeros(3, CELLS, 5, dtype=torch.float64))
    for said in rivals(world[:, : 2 * CELLS], 2, CELLS).values():
        assert torch.equal(said, world[:, 2 * CELLS :])


def test_of_one_tubelet_no_line_can_be_drawn():
    said = rivals(noise(2, CELLS, 5), 3, CELLS)
    assert set(said) == {"persistence"}
    assert said["persistence"].shape == (2, 3 * CELLS, 5)


def test_by_tubelet_is_a_mean_for_each():
    z, target = noise(2, 3 * CELLS, 5), noise(2, 3 * CELLS, 5, seed=1)
    found = by_tubelet(z, target, CELLS)
    for number in range(3):
        part = slice(number * CELLS, (number + 1) * CELLS)
        torch.testing.assert_close(found[number], (z[:, part] - target[:, part]).abs().mean())
    torch.testing.assert_close(found.mean(), (z - target).abs().mean())


def test_skills_are_told_against_each_rival_in_all_and_by_horizon():
    objective = Soon(5, TIMELINE)
    target, said = noise(3, GRID.length, 5), noise(3, GRID.length, 5, seed=1)
    latents = latents_of(objective, target, target, said)
    loss = objective(latents)
    future = slice(2 * CELLS, 4 * CELLS)
    torch.testing.assert_close(loss, (said[:, future] - target[:, future]).abs().mean())
    last, before = target[:, CELLS : 2 * CELLS], target[:, :CELLS]
    guesses = {
        "soon/skill": [last, last],
        "soon/skill_linear": [2 * last - before, 3 * last - 2 * before],
    }
    assert set(latents.notes) == {f"{name}{end}" for name in guesses for end in ("", "/1", "/2")}
    for name, guess in guesses.items():
        errors, floors = [], []
        for number in range(2):
            part = slice((2 + number) * CELLS, (3 + number) * CELLS)
            errors.append((said[:, part] - target[:, part]).abs().mean())
            floors.append((guess[number] - target[:, part]).abs().mean())
            torch.testing.assert_close(latents.notes[f"{name}/{number + 1}"], 1 - errors[-1] / floors[-1])
        torch.testing.assert_close(latents.notes[name], 1 - sum(errors) / sum(floors))


def test_who_says_what_a_rival_says_has_skill_zero():
    objective = Soon(5, TIMELINE)
    target = noise(3, GRID.length, 5)
    for rival, name in {"persistence": "soon/skill", "linear": "soon/skill_linear"}.items():
        guess = rivals(target[:, : 2 * CELLS], 2, CELLS)[rival]
        said = torch.cat([target[:, : 2 * CELLS], guess], dim=1)
        latents = latents_of(objective, target, target, said)
        objective(latents)
        assert latents.notes[name] == pytest.approx(0, abs=1e-12)


def test_without_a_teacher_of_now_alone_nothing_is_told():
    objective = Soon(5, TIMELINE)
    target = noise(2, GRID.length, 5)
    latents = latents_of(objective, target, target, target)
    latents.alone = None
    assert objective(latents) == 0
    assert not latents.notes
