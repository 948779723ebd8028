"""SIGReg: Epps and Pulley's statistic equals a fine quadrature, and undoes a collapse."""

import math

import numpy as np
import pytest
import torch

from tests.objectives.latents import GRID, TIMELINE, latents_of, noise
from vjepa_distill.errors import UserError
from vjepa_distill.objectives.sigreg import SIGReg, epps_pulley
from vjepa_distill.tokens import Grid


def quadrature(samples):
    """∫ |φ(t) - exp(-t²/2)|² exp(-t²/2) dt for one column, by Simpson's rule over 4000 intervals to ±10."""
    t = np.linspace(-10, 10, 4001)
    phi = np.exp(1j * np.outer(t, samples)).mean(axis=1)
    integrand = np.abs(phi - np.exp(-(t**2) / 2)) ** 2 * np.exp(-(t**2) / 2)
    weights = np.full(4001, 2.0)
    weights[1::2], weights[0], weights[-1] = 4.0, 1.0, 1.0
    return float((weights * integrand).sum() * (t[1] - t[0]) / 3)


@pytest.mark.parametrize("made", ["gaussian", "uniform", "constant", "far", "two points"])
def test_the_statistic_equals_a_fine_quadrature(made):
    g = np.random.default_rng(0)
    samples = {
        "gaussian": g.normal(size=200),
        "uniform": g.uniform(-3, 3, size=200),
        "constant": np.zeros(50),
        "far": g.normal(size=200) + 2,
        "two points": np.repeat([-1.0, 1.0], 50),
    }[made]
    found = epps_pulley(torch.from_numpy(samples)[:, None])
    assert float(found) == pytest.approx(quadrature(samples), abs=5e-5)


def test_known_answers():
    """N normal samples have (√2π - √(2π/3)) / N in the mean; all at 0 have ∫ (1 - e^(-t²/2))² e^(-t²/2)."""
    count = 50
    found = epps_pulley(noise(count, 4000)).mean()
    expected = (math.sqrt(2 * math.pi) - math.sqrt(2 * math.pi / 3)) / count
    assert float(found) == pytest.approx(expected, rel=0.03)
    collapsed = math.sqrt(2 * math.pi) * (1 - 2 / math.sqrt(2) + 1 / math.sqrt(3))
    assert float(epps_pulley(torch.zeros(9, 1, dtype=torch.float64))) == pytest.approx(collapsed, abs=2e-5)
    assert collapsed > 10 * expected


def score(tokens, **options):
    objective = SIGReg(tokens.shape[-1], TIMELINE, **options)
    return objective(latents_of(objective, tokens, tokens))


def test_a_gaussian_sample_scores_near_zero_and_a_collapsed_one_high():
    good = noise(64, GRID.length, 16)
    line = noise(64, GRID.length, 1, seed=1) * noise(16, seed=2)
    assert score(good) < 2e-3
    assert score(good[:1, :1].expand_as(good)) > 0.1, "one token everywhere"
    assert score(line) > 20 * score(good), "all on a line"
    assert score(good * 3) > 20 * score(good), "too wide"
    assert score(good + 2) > 20 * score(good), "off the middle"


def test_a_few_steps_undo_a_collapse():
    tokens = (noise(16, GRID.length, 1) * noise(8, seed=1) + 0.01 * noise(16, GRID.length, 8, seed=2)) * 0.3
    tokens.requires_grad_()
    objective = SIGReg(8, TIMELINE, directions=64)
    optimizer = torch.optim.Adam([tokens], lr=0.05)

    def spread():
        """Effective rank: the exponential of the entropy of the singular values."""
        seen = tokens.detach()[:, : 2 * GRID.cells].flatten(0, 1)
        share = torch.linalg.svdvals(seen - seen.mean(0))
        share = share / share.sum()
        return float(torch.exp(-(share * share.log()).sum()))

    before = spread()
    for _ in range(60):
        optimizer.zero_grad()
        objective(latents_of(objective, tokens, tokens)).backward()
        optimizer.step()
        objective.after_step()
    assert before < 2
    assert spread() > 6, "of 8"


def test_directions_and_places_are_new_after_every_update_and_part_of_the_state():
    tokens = noise(2, GRID.length, 8)
    objective = SIGReg(8, TIMELINE, directions=4, rows=3)

    def told(one):
        return float(one(latents_of(one, tokens, tokens)))

    first = told(objective)
    assert told(objective) == first
    objective.after_step()
    second = told(objective)
    assert second != first
    resumed = SIGReg(8, TIMELINE, directions=4, rows=3)
    resumed.load_state_dict(objective.state_dict())
    assert told(resumed) == second


def test_places_are_not_one_column_of_the_picture():
    """Every 16th of 2 x 16 x 16 tokens would be the left border alone."""
    grid = Grid(4, 16, 16)
    tokens = torch.zeros(1, grid.length, 4, dtype=torch.float64)
    tokens[:, torch.arange(grid.length) % 16 == 0] = 100.0
    objective = SIGReg(4, TIMELINE, rows=32)
    tokens.requires_grad_()
    objective(latents_of(objective, tokens, tokens, grid=grid)).backward()
    looked = tokens.grad.abs().sum(-1).nonzero()[:, 1]
    assert len((looked % 16).unique()) > 8


def test_impossible_options_are_refused():
    with pytest.raises(UserError, match="directions=0 and rows=32: give 1 or more of each"):
        SIGReg(8, TIMELINE, directions=0)
