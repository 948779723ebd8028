"""Schedules against their closed forms and the points they promise."""

import itertools
import math

import pytest

from vjepa_distill.errors import UserError
from vjepa_distill.settings.lengths import resolve
from vjepa_distill.training.schedule import ema_momentum, learning_rate


def test_a_fraction_and_its_steps_are_the_same_length():
    assert resolve(0.05, 2000, "warm-up") == resolve(100, 2000, "warm-up") == 100
    assert resolve(0, 2000, "warm-up") == 0
    assert resolve(0.05, 4, "warm-up") == 1, "a fraction above 0 is at least a step"


@pytest.mark.parametrize(
    ("length", "words"), [(-1, "fraction"), (2.5, "whole steps"), (11, "only 10"), (math.nan, "fraction")]
)
def test_an_impossible_length_is_refused_by_name(length, words):
    with pytest.raises(UserError, match=f"(?s)warm-up.*{words}"):
        resolve(length, 10, "warm-up")


def test_learning_rate_passes_through_its_corners():
    rate = [learning_rate(step, total=110, warmup=10, peak=2.0, final=0.5) for step in range(111)]
    assert rate[:11] == pytest.approx([2.0 * step / 10 for step in range(11)]), "from exactly 0 to the peak"
    assert rate[0] == 0.0
    assert rate[60] == pytest.approx((2.0 + 0.5) / 2), "half-way down the cosine"
    assert rate[110] == pytest.approx(0.5)
    assert all(before >= after for before, after in itertools.pairwise(rate[10:]))


def test_no_warm_up_starts_at_the_peak_and_all_warm_up_never_divides_by_zero():
    assert learning_rate(0, total=5, warmup=0, peak=1.0) == 1.0
    assert learning_rate(5, total=5, warmup=5, peak=1.0) == 1.0


def test_after_a_half_life_half_of_the_old_teacher_is_left():
    left = 1.0
    for step in range(924):
        left *= ema_momentum(step, 5000, half_life=924)
    assert left == pytest.approx(0.5)
    assert ema_momentum(0, 10, half_life=924) == pytest.approx(0.99925, abs=1e-6), "V-JEPA 2's constant"
    assert ema_momentum(0, 10, half_life=0) == 0.0, "a teacher that is the student"


def test_a_fixed_momentum_runs_from_start_to_end():
    assert [ema_momentum(step, 10, fixed=(0.998, 1.0)) for step in (0, 5, 10, 20)] == pytest.approx(
        [0.998, 0.999, 1.0, 1.0]
    )
    with pytest.raises(ValueError, match="either"):
        ema_momentum(0, 10)
