"""Where a run stands: the rank's share, the weighted loss, and which step is the best."""

import math

import pytest

from vjepa_distill.training.heldout import Judged, Standing


class Stage:
    """Its score is whatever the loop made of its scores."""

    def __init__(self, name):
        self.name = name

    def score(self, scores):
        return scores[self.name]


def test_the_rank_is_a_share_of_the_first_and_the_loss_is_weighted():
    standing, stage = Standing(), Stage("rank_kept")
    found = [
        standing.scored(stage, {"rank": rank, "a": 2.0, "b": 1.0}, {"a": 1.0, "b": 0.25})
        for rank in (8, 6, 9)
    ]
    assert [scores["score"] for scores in found] == [1.0, 0.75, 1.0]
    assert {scores["loss"] for scores in found} == {2.25}
    assert "loss" not in standing.scored(stage, {"rank": 1.0, "a": 2.0}, {"a": 1.0, "b": 1.0})


def test_only_a_sound_finite_and_higher_score_is_the_best():
    standing = Standing()
    assert standing.words() == "no best is kept: no held-out score so far"
    taken = [
        standing.take(step, score, sound)
        for step, (score, sound) in enumerate(
            [(math.nan, True), (0.9, False), (0.2, True), (0.2, True), (0.5, True), (-math.inf, True)],
            start=1,
        )
    ]
    assert taken == [False, False, True, False, True, False]
    assert standing.best == Judged(5, 0.5)
    assert standing.words() == "best: step 5, score 0.5; the last, step 6, has -inf"
    other = Standing()
    other.load_state_dict(standing.state_dict())
    assert vars(other) == vars(standing)
    assert not other.take(7, 0.5, True)
    assert other.take(8, 0.51, True)
    assert other.words() == "best: step 8, score 0.51, the last one"


@pytest.mark.parametrize("which", ["now", "rank"])
def test_a_model_that_says_no_numbers_has_no_score(which):
    standing, stage = Standing(), Stage("now")
    scores = {"now": 1.0, "rank": 4.0}
    told = standing.scored(stage, scores | {which: math.nan}, {"now": 1.0})
    assert math.isnan(told["score"])
    assert not standing.take(1, told["score"], sound=True)
    assert standing.scored(stage, scores, {"now": 1.0})["rank_kept"] == 1.0, (
        "a share of the first that was one"
    )


def test_a_collapsed_beginning_has_no_share_to_keep():
    standing = Standing()
    assert standing.scored(Stage("rank_kept"), {"rank": 0.0}, {"a": 1.0})["score"] == 0.0
    assert standing.state_dict()["first_rank"] == pytest.approx(0.0)
