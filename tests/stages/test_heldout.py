"""Direction of play against a plain leave-one-video-out fit and encoders whose answer is known; the score."""

import math

import pytest
import torch

from tests import ranks_worker
from vjepa_distill.protocols import Batch
from vjepa_distill.stages.distill import Distill
from vjepa_distill.stages.heldout import RIDGE, BothWays, both_ways, direction_of_play, merits
from vjepa_distill.stages.jepa import Jepa


def plain_direction(forward, backward, video):
    """Video by video: a ridge fit of 1 on the differences of all others, and the sign of what it says."""
    apart = (forward - backward).double()
    ridge = RIDGE * apart.square().sum(dim=1).mean()
    told = []
    for row in range(len(apart)):
        x = apart[video != video[row]]
        w = torch.linalg.solve(x.T @ x + ridge * torch.eye(x.shape[1]), x.sum(dim=0))
        told.append(float(apart[row] @ w > 0))
    return sum(told) / len(told)


@pytest.mark.parametrize("width", [3, 60])
def test_it_is_the_plain_fit_that_leaves_each_video_out(width):
    torch.manual_seed(width)
    video = torch.arange(40) // 3
    forward, backward = torch.randn(40, width), torch.randn(40, width)
    forward[:, 0] += 0.8
    parts = [
        BothWays(forward[:25], backward[:25], video[:25]),
        BothWays(forward[25:], backward[25:], video[25:]),
    ]
    found = direction_of_play(parts)
    assert found == pytest.approx(plain_direction(forward, backward, video), abs=1e-12)
    assert 0.5 < found < 1
    swapped = direction_of_play([BothWays(backward, forward, video)])
    assert swapped == pytest.approx(found), (
        "a world played backwards: the weights change sign, not the answer"
    )


def test_what_knows_nothing_of_time_is_at_chance():
    torch.manual_seed(0)
    video, token = torch.arange(400), torch.randn(400, 16)
    assert direction_of_play([BothWays(token, token.clone(), video)]) == 0.5
    assert direction_of_play([BothWays(token, token * (1 + 1e-7), video)]) == 0.5, "rounding is no difference"
    noise = direction_of_play([BothWays(token, torch.randn(400, 16), video)])
    assert abs(noise - 0.5) < 0.1


def test_one_video_has_no_other_to_learn_from():
    alone = BothWays(torch.randn(6, 4), torch.randn(6, 4), torch.zeros(6, dtype=torch.int64))
    assert direction_of_play([alone]) == 0.5


class Averages(torch.nn.Module):
    """Every token is the clip's mean picture: time is averaged away."""

    def forward(self, clip, keep=None):
        return clip.mean(dim=2).flatten(2).transpose(1, 2)


class Numbered(torch.nn.Module):
    """A token a frame: its picture, and its picture times the number of the frame."""

    def forward(self, clip, keep=None):
        picture = clip.mean(dim=(3, 4)).transpose(1, 2)
        return torch.cat([picture, picture * torch.arange(clip.shape[2])[:, None]], dim=-1)


def films(rows=12):
    """Clips that grow brighter, each from a brightness and at a speed of its own, with noise."""
    draw = torch.Generator().manual_seed(0)
    start, speed = torch.rand(2, rows, 1, 1, 1, 1, generator=draw)
    noise = 0.05 * torch.rand(rows, 3, 8, 4, 4, generator=draw)
    clip = start + (0.1 + speed) * torch.arange(8).view(1, 1, 8, 1, 1) + noise
    return [Batch(clip[part], part, part) for part in torch.arange(rows).split(5)]


@pytest.mark.parametrize(("encoder", "accuracy"), [(Averages(), 0.5), (Numbered(), 1.0)])
def test_an_encoder_that_averages_time_away_and_one_that_is_handed_the_frame_number(encoder, accuracy):
    assert direction_of_play([both_ways(encoder, batch) for batch in films()]) == accuracy


SCORES = {
    "now/skill": 0.25,
    "soon/skill": -3.0,
    "eventually/retrieval": 0.6,
    "eventually/chance": 0.2,
    "rank_kept": 0.9,
    "direction": 0.75,
    "loss": 1.7,
}


def test_every_merit_is_0_at_its_rival_1_at_perfect_and_none_below_minus_1():
    worth = {"now/skill": 0.25, "soon/skill": -1.0, "eventually": 0.5, "rank": 0.9, "direction": 0.5}
    assert merits(SCORES) == pytest.approx(worth)
    assert merits({"now/skill": 1.0, "loss": 3.0}) == {"now/skill": 1.0}, "of what is there"
    perfect = {"eventually/retrieval": 1.0, "eventually/chance": 0.1, "direction": 1.0, "rank_kept": 1.0}
    assert set(merits(perfect).values()) == {1.0}


def test_what_is_no_number_has_no_merit():
    assert all(math.isnan(one) for one in merits({"now/skill": math.nan, "rank_kept": math.nan}).values())
    clips = torch.full((4, 8), torch.nan)
    assert math.isnan(direction_of_play([BothWays(clips, clips, torch.arange(4))]))


@pytest.mark.parametrize(("kind", "score"), [("ema", 0.23), ("student", 0.23), ("frozen", -1.7)])
def test_the_score_by_what_the_targets_are(kind, score):
    stage = ranks_worker.build()
    stage.kind = kind
    assert stage.score(SCORES) == pytest.approx(score)


def test_stage_1_is_judged_by_its_cosine():
    assert Distill.score(None, {"cosine": 0.4, "r2": 0.1}) == 0.4


def test_an_evaluation_finds_the_direction_and_leaves_the_held_out_tokens_and_every_generator():
    stage: Jepa = ranks_worker.build()
    batches = [ranks_worker.batch(number, 0, 1) for number in (1, 2)]
    before = torch.get_rng_state()
    scores = stage.evaluate(batches)
    assert torch.equal(before, torch.get_rng_state())
    assert scores["direction"] == direction_of_play([both_ways(stage.student, batch) for batch in batches])
    grid = stage.student.grid(8, 12, 16)
    both = torch.cat([stage.target(batch.clip, grid) for batch in batches]).flatten(0, 1)
    assert torch.equal(stage.tokens, both)
    assert stage.training
