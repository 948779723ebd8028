"""Each measure of evaluate against what it must say of features that are known, and against plain code."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.linear_model import Ridge
from torch import Tensor, nn

from vjepa_distill.data.clips import Recipe
from vjepa_distill.data.index import Entry
from vjepa_distill.measures.evaluation import attentive, intervals, variants
from vjepa_distill.measures.evaluation.collect import pooled
from vjepa_distill.measures.evaluation.compare import differences
from vjepa_distill.measures.evaluation.drift import Drift, layers_of, linear_cka
from vjepa_distill.measures.evaluation.health import health, sampled
from vjepa_distill.measures.evaluation.paired import direction, fitted, paired
from vjepa_distill.measures.evaluation.words import cell
from vjepa_distill.protocols import VideoInfo


@pytest.fixture
def draw():
    return np.random.default_rng(0)


# The paired probe


def test_a_tie_is_half_and_rounding_is_a_tie(draw):
    one = draw.normal(size=(30, 4)).astype(np.float32)
    groups = np.arange(30)
    assert (paired(one, one, groups) == 0.5).all()
    rounded = one * (1 + 1e-7 * np.sign(one[:, :1]))
    assert (paired(one, rounded, groups, floor=np.full(4, 1e-5)) == 0.5).all()
    assert (paired(one, rounded, groups) != 0.5).any()


def test_what_is_known_is_told_and_what_is_noise_is_not(draw):
    one = draw.normal(size=(200, 6))
    noise = one + draw.normal(size=one.shape)
    groups, files = np.arange(200), [str(n) for n in range(200)]
    assert paired(one, noise + np.array([0, 0, 5, 0, 0, 0]), groups).mean() == 1
    said = intervals.estimate(intervals.means(files, groups, paired(one, noise, groups)))
    assert said["low"] <= 0.5 <= said["high"]


def test_a_world_played_backwards_swaps_the_sign(draw):
    forward, backward = draw.normal(size=(2, 60, 5))
    forward += [1, 0, 0, 0, 0]
    groups = np.arange(60) // 2
    one, other = direction(forward - backward, groups), direction(backward - forward, groups)
    np.testing.assert_allclose(one, -other)
    margin = (forward - backward) @ one
    assert (np.sign(margin) == -np.sign((backward - forward) @ one)).all()
    assert (paired(forward, backward, groups) == paired(backward, forward, groups)).all()


def test_a_group_is_never_judged_by_its_own(draw):
    """Each group has a sign of its own along its own channel: known from its like, else a guess."""
    groups = np.repeat(np.arange(20), 5)
    one = np.zeros((100, 20))
    other = np.zeros((100, 20))
    other[np.arange(100), groups] = 1
    assert (paired(one, other, np.arange(100)) == 1).all()
    assert (paired(one, other, groups) == 0.5).all()


@pytest.mark.parametrize("shape", [(30, 7), (7, 30)])
def test_the_fit_is_ridge_regression_of_both_answers(draw, shape):
    d = draw.normal(size=shape)
    penalty = 0.01 * np.square(d).sum()
    plain = Ridge(alpha=2 * penalty, fit_intercept=False)
    plain.fit(np.concatenate([d, -d]), np.repeat([1.0, -1.0], len(d)))
    np.testing.assert_allclose(fitted(d, np.array([0.01]))[:, 0], plain.coef_, atol=1e-8)


# Intervals


def test_the_interval_of_a_share_is_that_of_the_binomial(draw):
    right = draw.random(400) < 0.7
    found = intervals.estimate(intervals.means([str(n) for n in range(400)], np.arange(400), right, 0.5))
    half = 1.96 * math.sqrt(right.mean() * (1 - right.mean()) / 400)
    assert found["score"] == right.mean()
    assert found["high"] - found["score"] == pytest.approx(half, abs=0.006)
    assert found["score"] - found["low"] == pytest.approx(half, abs=0.006)
    assert found["chance"] == 0.5


@pytest.mark.parametrize(
    ("found", "sign", "told"),
    [
        ((0.677, 0.618, 0.734), "", "0.677 \\[.62 .73]"),
        ((-0.0094, -0.012, -0.0061), "", "-0.009 \\[-.012 -.006]"),
        ((-0.0004, -0.003, 0.002), "+", "-0.000 \\[-.003 +.002]"),
        ((1.0, 1.0, 1.0), "", "1.000 \\[1.00 1.00]"),
        ((-0.632, -1.38, -0.24), "", "-0.632 \\[-1.4 -.24]"),
    ],
)
def test_an_interval_is_told_to_as_many_places_as_it_takes(found, sign, told):
    assert cell(dict(zip(("score", "low", "high"), found, strict=True)), sign) == told


def test_videos_of_a_group_are_drawn_together():
    right = np.repeat(np.arange(20) % 2, 20)
    files = [str(n) for n in range(400)]
    alone = intervals.estimate(intervals.means(files, np.arange(400), right))
    grouped = intervals.estimate(intervals.means(files, np.repeat(np.arange(20), 20), right))
    assert grouped["high"] - grouped["low"] > 3 * (alone["high"] - alone["low"])


def test_r2_of_every_resample_is_that_of_its_rows(draw):
    values = draw.normal(size=50)
    said = values + 0.5 * draw.normal(size=50)
    judged = intervals.regressed([str(n) for n in range(50)], np.arange(50), values, said)
    assert judged.score == pytest.approx(
        1 - np.square(values - said).sum() / np.square(values - values.mean()).sum()
    )
    rows = draw.integers(0, 50, 50)
    some, heard = values[rows], said[rows]
    counts = np.bincount(rows, minlength=50).astype(float)
    drawn = intervals._score("r2", counts @ intervals._sums(judged))
    assert drawn == pytest.approx(1 - np.square(some - heard).sum() / np.square(some - some.mean()).sum())


def test_skill_of_a_resample_is_one_less_its_ratio_of_errors():
    error, floor = np.array([1.0, 1.0]), np.array([1.0, 3.0])
    judged = intervals.skilled(["a", "b"], np.arange(2), error, floor)
    assert intervals.estimate(judged) == {"score": 0.5, "low": 0.0, "high": pytest.approx(2 / 3)}


def test_a_paired_difference_is_narrower_than_its_scores(draw):
    """Two that err on the same videos differ by nothing, whatever the videos; and only common ones count."""
    right = draw.random(100) < 0.6
    files = [str(n) for n in range(100)]
    one = intervals.means(files, np.arange(100), right)
    other = intervals.means([*files[50:], "more"], np.arange(51), np.append(right[50:], 1))
    assert intervals.difference(one, other) == {"score": 0.0, "low": 0.0, "high": 0.0}
    better = intervals.means(files, np.arange(100), np.ones(100))
    found = differences(["a", "b"], [{"x": one, "y": one}, {"x": better}])
    assert [row["what"] for row in found] == ["x"]
    pair = found[0]["pairs"][0]
    assert (pair["run"], pair["against"]) == ("b", "a")
    assert pair["score"] == pytest.approx(1 - right.mean())
    assert pair["low"] > 0


# Views


def video(frames, fps=10.0):
    return VideoInfo(frames, fps, 8, 8, 0, "none", tuple(n / fps for n in range(frames)))


class Numbered:
    """A decoder whose n-th frame is grey n; counts what it reads."""

    name, version = "numbered", "1"

    def __init__(self):
        self.asked = []

    def scan(self, path):
        raise NotImplementedError

    def read(self, path, indices, info):
        self.asked.append(list(indices))
        return np.stack([np.full((8, 8, 3), index, np.uint8) for index in indices])


def test_views_are_the_right_frames_each_read_once():
    decoder = Numbered()
    recipe = Recipe(5, 8, 8, crop="center", flip=0.0)
    views = variants.Views([Entry("a.mp4", 1, 1, video(41), "")], "root", recipe, decoder, (1.0, 9.0))
    clip = views[0]["clip"]
    frames = clip[0, :, 0, 0].tolist()
    assert frames[:5] == [0, 10, 20, 30, 40]
    assert frames[5:10] == [10, 15, 20, 25, 30]
    assert frames[10:15] == [0, 2, 5, 7, 9]  # of ten frames, rounded half up
    assert frames[15:] == frames[:5]
    assert decoder.asked == [sorted(set(frames))]
    assert (views.still(), views.short(1.0), views.short(9.0)) == (0, 0, 1)


def test_a_long_video_at_a_rate_is_seen_in_its_middle_at_twice_the_rate():
    recipe = Recipe(4, 8, 8, sampling="fps", fps=2.0, crop="center", flip=0.0)
    views = variants.Views([Entry("a.mp4", 1, 1, video(100), "")], "root", recipe, Numbered())
    frames = views[0]["clip"][0, :, 0, 0].tolist()
    assert frames[:4] == [40, 45, 50, 55]
    assert frames[4:] == [44, 46, 49, 51]


def test_other_orders_hold_the_same_frames():
    clip = torch.arange(6).expand(2, 3, 6)[..., None, None]
    orders = variants.in_other_orders(clip, [7, 8])
    assert orders["reversed"][0, 0].flatten().tolist() == [5, 4, 3, 2, 1, 0]
    assert orders["swapped"][0, 0].flatten().tolist() == [3, 4, 5, 0, 1, 2]
    one, two = (row[0].flatten().tolist() for row in orders["shuffled"])
    assert sorted(one) == sorted(two) == list(range(6))
    assert one != two
    again = variants.in_other_orders(clip.flip(0), [8, 7])["shuffled"]
    assert torch.equal(again.flip(0), orders["shuffled"])


def test_pooled_features_of_tokens_that_count_tubelets():
    tokens = torch.arange(6.0).repeat_interleave(4)[None, :, None]  # six tubelets of four cells
    mean, change, spread = (x.item() for x in pooled(tokens, 6))
    assert (mean, change) == (2.5, 4.0)
    assert spread == pytest.approx(math.sqrt(35 / 12))


# Drift and health


def test_cka_and_cosine_of_known_changes(draw):
    x = torch.from_numpy(draw.normal(size=(4, 30, 8))).float()
    turn = torch.linalg.qr(torch.from_numpy(draw.normal(size=(8, 8))).float())[0]
    other = torch.from_numpy(draw.normal(size=(4, 30, 8))).float()
    drift = Drift(4)
    drift.add([x, x, x], [2 * x, x @ turn, -x])
    record = drift.record(list("abcd"), np.arange(4))
    assert [row["layer"] for row in record] == ["1", "2", "last"]
    assert [row["cka"] for row in record] == pytest.approx([1, 1, 1])
    assert record[0]["cosine"]["score"] == pytest.approx(1)
    assert record[2]["cosine"]["low"] == pytest.approx(-1)
    assert linear_cka(x.flatten(0, 1), other.flatten(0, 1)) < 0.2


def test_other_widths_have_a_cka_and_other_grids_nothing():
    drift, narrow = Drift(2), torch.randn(2, 6, 3)
    drift.add([torch.randn(2, 6, 4)], [narrow])
    assert drift.record(list("ab"), np.arange(2))[0]["cosine"] is None
    other = Drift(2)
    other.add([torch.randn(2, 8, 3)], [narrow])
    assert other.record(list("ab"), np.arange(2)) is None


def test_layers_are_taken_from_an_encoder_that_offers_them_else_its_output_alone():
    class Offers(nn.Identity):
        def layer_tokens(self, clip, keep=None):
            return [clip - 1, clip]

    clip = torch.ones(1)
    assert layers_of(Offers())(clip) == [clip - 1, clip]
    assert layers_of(nn.Identity())(clip) == [clip]


def test_health_of_tokens_with_a_known_span():
    draw = torch.Generator().manual_seed(0)
    basis = torch.zeros(3, 10)
    basis[range(3), range(3)] = 1
    tokens = torch.randn(20, 4 * 9, 3, generator=draw) @ basis
    tokens[:, :9] = 0  # the first tubelet is dead
    tokens += 1e-3 * torch.randn(tokens.shape, generator=draw)
    sample = torch.cat([sampled(tokens[:8], 4, 20, 0), sampled(tokens[8:], 4, 20, 8)])
    assert sample.shape == (20, 4, 9, 10)
    found = health(sample)
    assert found["dead"] == 7
    assert found["rank"] == pytest.approx(3, abs=0.1)
    assert [row["norm"] > 0.1 for row in found["positions"]] == [False, True, True, True]
    assert found["norm"] == pytest.approx(0.75 * math.sqrt(8 / math.pi), rel=0.05)


# The attentive probe


class Plain(nn.Module):
    """The same probe as one would write it: keys and values of every token, torch's own attention."""

    def __init__(self, weights: dict[str, Tensor]):
        super().__init__()
        self.p = nn.ParameterDict(
            {name: nn.Parameter(value.detach().clone()) for name, value in weights.items()}
        )

    def forward(self, x):
        p, (B, _, D) = self.p, x.shape
        heads = attentive.heads_of(D)

        def split(y):
            return y.unflatten(-1, (heads, -1)).transpose(1, 2)

        query = p["query"].expand(B, 1, D)
        key, value = x @ p["key"].T, x @ p["value"].T + p["value_bias"]
        z = F.scaled_dot_product_attention(split(query), split(key), split(value))
        z = z.transpose(1, 2).flatten(2)[:, 0]
        inner = F.gelu(F.layer_norm(z, (D,), p["norm"], p["norm_bias"]) @ p["up"].T + p["up_bias"])
        z = z + inner @ p["down"].T + p["down_bias"]
        return z @ p["say"].T + p["say_bias"]


def plainly(tokens, target, classes, rate, decay, rows):
    """One probe trained alone by torch's AdamW and scheduler, on its own rows of the same batches."""
    model = Plain({name: value[0] for name, value in attentive.begun(1, tokens.shape[-1], classes).items()})
    groups = [
        {"params": [p for p in model.parameters() if p.ndim == 2], "weight_decay": decay},
        {"params": [p for p in model.parameters() if p.ndim != 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=rate)
    for step, some in enumerate(attentive._order(len(tokens))):
        share = min(
            (step + 1) / (0.1 * attentive.STEPS), 0.5 * (1 + math.cos(math.pi * step / attentive.STEPS))
        )
        for group in optimizer.param_groups:
            group["lr"] = rate * share
        own = some[rows[some]]
        optimizer.zero_grad()
        F.cross_entropy(model(tokens[own].float()), target[own]).backward()
        optimizer.step()
    with torch.no_grad():
        return model(tokens.float())


def test_all_members_trained_at_once_are_each_trained_alone(monkeypatch):
    monkeypatch.setattr(attentive, "STEPS", 30)
    draw = torch.Generator().manual_seed(0)
    tokens = F.layer_norm(torch.randn(40, 6, 128, generator=draw), (128,))
    target = torch.randint(3, (40,), generator=draw)
    rows = torch.rand(3, 40, generator=draw) < 0.7
    rates, decays = torch.tensor([1e-3, 3e-4, 1e-3]), torch.tensor([0.3, 0.01, 0.01])
    together = attentive.trained(tokens, target, 3, attentive.Members(rates, decays, rows))
    for said, rate, decay, own in zip(together, rates.tolist(), decays.tolist(), rows, strict=True):
        alone = plainly(tokens, target, 3, rate, decay, own)
        torch.testing.assert_close(said, alone, rtol=1e-3, atol=1e-4)


def rare(count, draw, length=12, width=64):
    """Clips whose label, or number, is in one token among many, at a random place, marked by a channel."""
    tokens = 0.3 * draw.normal(size=(count, length, width)).astype(np.float32)
    label = draw.integers(0, 2, count)
    place = draw.integers(0, length, count)
    tokens[np.arange(count), place, 0] = 12
    tokens[np.arange(count), place, 1] = 6 * (2 * label - 1)
    return F.layer_norm(torch.from_numpy(tokens), (width,)).half(), label


def test_it_finds_the_one_token_that_matters_and_nothing_in_noise(draw, monkeypatch):
    monkeypatch.setattr(attentive, "STEPS", 80)
    tokens, label = rare(120, draw)
    groups = np.arange(120)
    said = attentive.attentive(tokens, np.array(["left", "right"])[label], groups)
    assert (said == np.array(["left", "right"])[label]).mean() > 0.9
    chance = attentive.attentive(tokens, draw.permutation(label).astype(str), groups)
    assert abs((chance == label.astype(str)).mean() - 0.5) < 0.2


def test_numbers_are_regressed_in_their_own_units(draw, monkeypatch):
    monkeypatch.setattr(attentive, "STEPS", 80)
    tokens, label = rare(120, draw)
    values = 1000 + 50.0 * label
    said = attentive.attentive(tokens, values, np.arange(120))
    assert 1 - np.square(values - said).sum() / np.square(values - values.mean()).sum() > 0.7
