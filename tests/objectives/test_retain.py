"""Retain holds what the start knew: it starts at zero, more beside it is free, and forgetting costs."""

import pytest
import torch
import torch.nn.functional as F

from tests.objectives.latents import GRID, TIMELINE, latents_of, noise
from vjepa_distill.errors import UserError
from vjepa_distill.objectives.retain import Retain
from vjepa_distill.objectives.temporal import Now, Soon


def normed(z):
    return F.layer_norm(z, z.shape[-1:])


@pytest.mark.parametrize("free", [True, False])
@pytest.mark.parametrize("distance", ["mse", "l1", "cosine"])
def test_it_starts_at_zero_and_then_is_the_distance_through_the_map(free, distance):
    torch.manual_seed(0)
    objective = Retain(8, TIMELINE, distance, free).double()
    student = noise(3, GRID.length, 8)
    start = latents_of(objective, student, normed(student))
    assert abs(objective(start)) < 1e-12
    target = noise(3, GRID.length, 8, seed=1)
    if free:
        with torch.no_grad():
            objective.map.weight.add_(noise(8, 8, seed=2) / 4)
            objective.map.bias.add_(noise(8, seed=3) / 4)
    errors = []
    for row in range(3):
        for z, h in zip(student[row], target[row], strict=True):
            z = (z - z.mean()) / (z.var(unbiased=False) + 1e-5).sqrt()
            z = objective.map.weight @ z + objective.map.bias if free else z
            away = 1 - (z @ h / (z.norm() * h.norm()))[None]
            errors += {"mse": (z - h) ** 2, "l1": (z - h).abs(), "cosine": away}[distance].tolist()
    found = objective(latents_of(objective, student, target))
    torch.testing.assert_close(found, found.new_tensor(sum(errors) / len(errors)), atol=1e-12, rtol=0)


def test_the_map_leaves_room_for_what_it_can_leave_out():
    """What is new lies in channels that the start did not use: free, the map learns to read past it."""
    torch.manual_seed(0)
    old = torch.cat([noise(4, GRID.length, 4), torch.zeros(4, GRID.length, 4, dtype=torch.float64)], dim=-1)
    new = old + torch.cat([torch.zeros_like(old[..., :4]), noise(4, GRID.length, 4, seed=1)], dim=-1)
    losses = {}
    for free in (True, False):
        objective = Retain(8, TIMELINE, free=free).double()
        latents = latents_of(objective, new, normed(old))
        before = objective(latents).detach()
        if free:
            optimizer = torch.optim.LBFGS(objective.parameters(), max_iter=100)

            def closure(optimizer=optimizer, objective=objective, latents=latents):
                optimizer.zero_grad()
                loss = objective(latents)
                loss.backward()
                return loss

            optimizer.step(closure)
        losses[free] = (before, objective(latents).detach())
    assert losses[False][0] == losses[False][1] > 0.3
    assert losses[True][1] < losses[True][0] / 3


def test_forgetting_costs():
    objective = Retain(8, TIMELINE).double()
    student = noise(3, GRID.length, 8)
    forgotten = student.clone()
    forgotten[..., :2] = 0
    forgotten.requires_grad_()
    loss = objective(latents_of(objective, forgotten, normed(student)))
    assert loss > 0.05
    loss.backward()
    assert forgotten.grad.abs().max() > 0


def test_with_parts_half_of_it_is_what_now_alone_and_the_masks_leave():
    objective = Retain(8, TIMELINE, parts=True, short=(2, 0.3), long=(1, 0.5)).double()
    student, target = noise(3, GRID.length, 8), noise(3, GRID.length, 8, seed=1)
    latents = latents_of(objective, student, target)
    apart = (normed(student) - target).square().mean(dim=-1)
    whole, *parts = [
        torch.stack(
            [row[keep].mean() for row, keep in zip(apart, latents.splits[view].keep, strict=True)]
        ).mean()
        for view in objective.views()
    ]
    assert [latents.splits[view].keep.shape[1] < GRID.length for view in objective.views()] == [False] + [
        True
    ] * 3
    torch.testing.assert_close(objective(latents), (whole + sum(parts) / 3) / 2, atol=1e-6, rtol=0)
    assert set(objective.parts) == {*Now(8, TIMELINE, (2, 0.3), (1, 0.5)).views(), *Soon(8, TIMELINE).views()}


def test_targets_of_another_width_are_said_through_the_map():
    objective = Retain(8, TIMELINE, target_dim=5).double()
    loss = objective(latents_of(objective, noise(2, GRID.length, 8), noise(2, GRID.length, 5)))
    loss.backward()
    assert objective.map.weight.shape == (5, 8)
    assert objective.map.weight.grad.abs().max() > 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"distance": "l2"}, "distance=l2: give one of .* l1, mse"),
        ({"free": False, "target_dim": 5}, "free=false holds tokens of width 8 to targets of 5: give true"),
    ],
)
def test_impossible_options_are_refused(options, words):
    with pytest.raises(UserError, match=words):
        Retain(8, TIMELINE, **options)
