"""How far a forecaster sees: known forecasts against known futures, and retrieval counted by hand."""

from typing import NamedTuple

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from vjepa_distill.measures.evaluation.horizon import Horizon, retrieval, skill
from vjepa_distill.protocols import Timeline


class Said(NamedTuple):
    tokens: torch.Tensor
    outcome: torch.Tensor | None


class Known:
    """Its token is the mean colour of a frame; it is wrong about SOON by `wrong`, and right about the end."""

    timeline, now_frames = Timeline(2, 3, 2), 2

    def __init__(self, wrong, outcome=True):
        self.wrong, self.has_outcome = wrong, outcome

    def targets(self, clip):
        return clip.mean(dim=(3, 4)).transpose(1, 2)[:, :, None, None]

    def forecast(self, now):
        # the clips below go up by one each frame
        last = self.targets(now)[:, -1:]
        ahead = torch.arange(1, 4).view(1, 3, 1, 1, 1)
        outcome = F.normalize(self.targets(now)[:, 0, 0, 0] + 4.5, dim=-1) if self.has_outcome else None
        return Said(last + ahead + self.wrong, outcome)

    def rivals(self, now):
        last = self.targets(now)[:, -1:]
        return {"persistence": last.repeat(1, 3, 1, 1, 1)}


def rising(count, seed=0):
    start = 4 * torch.rand(count, 3, generator=torch.Generator().manual_seed(seed))
    return (start[:, :, None] + torch.arange(7))[..., None, None].expand(-1, -1, -1, 2, 2)


def test_skill_by_step_is_known():
    """Persistence errs by 1, 2, 3 at the three steps, the forecast by a half at each."""
    found = Horizon(Known(0.5))
    found.add(rising(4), list("abcd"))
    found.add(rising(3, 1), list("abe"))
    record = found.record()
    assert record["steps"] == [1, 2, 3]
    assert [one["score"] for one in record["rivals"]["persistence"]] == pytest.approx([1 / 2, 3 / 4, 5 / 6])
    assert record["all"]["persistence"]["score"] == pytest.approx(1 - 0.5 / 2)
    assert record["all"]["persistence"]["low"] == pytest.approx(0.75)
    asked = found.eventually({"a": "x", "b": "x", "c": "y"})
    assert asked["videos"]["score"] == 1.0
    assert asked["videos"]["chance"] == pytest.approx(
        np.mean([1 / 6, 1 / 6, 1 / 7, 1 / 7, 1 / 6, 1 / 6, 1 / 7])
    )
    assert asked["group"]["chance"] == pytest.approx(1 / 3)  # c is alone in its group, d and e have none
    assert asked["starts"] is None


def test_starts_of_one_video_are_compared_with_each_other_alone():
    found = Horizon(Known(0.0))
    found.add(rising(2), ["a", "b"])
    found.add_starts(rising(4, 2), "a")
    found.add_starts(rising(1, 3), "b")  # one start is no choice
    assert found.eventually()["starts"]["chance"] == 0.25
    assert found.eventually()["starts"]["score"] == 1.0


def test_a_run_without_an_outcome_has_no_retrieval():
    found = Horizon(Known(0.0, outcome=False))
    found.add(rising(2), ["a", "b"])
    assert found.eventually() is None


def test_an_interval_is_over_videos_and_not_over_clips():
    """A hundred clips of two videos: the interval is that of two, from one video's skill to the other's."""
    files, error = ["a"] * 50 + ["b"] * 50, np.r_[np.full(50, 0.5), np.full(50, 1.5)]
    found = skill(files, error, np.ones(100))
    assert (found["low"], found["score"], found["high"]) == pytest.approx((-0.5, 0.0, 0.5))


def by_hand(outcome, future, files, groups):
    """Retrieval as one would say it: (score, chance), or None."""
    scores, chances = [], []
    for i, name in enumerate(files):
        rivals = [j for j in range(len(files)) if files[j] != name]
        if groups is not None:
            rivals = [j for j in rivals if groups[i] and groups[j] == groups[i]]
        if not rivals:
            continue
        own = outcome[i] @ future[i]
        better = [j for j in rivals if outcome[i] @ future[j] > own + 1e-6]
        same = [j for j in rivals if abs(outcome[i] @ future[j] - own) <= 1e-6]
        scores.append(0 if better else 1 / (1 + len(same)))
        chances.append(1 / (1 + len(rivals)))
    return (np.mean(scores), np.mean(chances)) if scores else None


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_retrieval_is_what_it_says(seed, grouped, monkeypatch):
    monkeypatch.setattr("vjepa_distill.measures.evaluation.horizon.ROWS", 7)
    draw = np.random.default_rng(seed)
    future = torch.tensor(draw.integers(-1, 2, (40, 3))).double()  # with ties
    outcome = future + torch.tensor(draw.normal(0, 0.3, (40, 3)).round(1))
    files = np.array([f"f{n}" for n in draw.integers(0, 15, 40)])
    groups = np.array([["", "x", "y", "z"][int(name[1:]) % 4] for name in files]) if grouped else None
    found = retrieval(outcome, future, files, groups)
    assert (found["score"], found["chance"]) == pytest.approx(by_hand(outcome, future, files, groups))


def test_collapsed_futures_are_at_chance():
    found = retrieval(torch.randn(12, 4), torch.ones(12, 4), np.arange(12).astype(str))
    assert found["score"] == pytest.approx(found["chance"])
