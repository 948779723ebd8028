"""Each number against a case whose value is known, and the watch against a teacher that collapses."""

import math

import pytest
import torch

from vjepa_distill.training import health


def test_effective_rank_counts_equal_directions():
    basis = torch.linalg.qr(torch.randn(16, 16)).Q
    rows = basis[:5].repeat(40, 1)
    assert health.effective_rank(rows) == pytest.approx(5, rel=1e-5)
    assert health.effective_rank(rows[:, :1] @ torch.ones(1, 16)) == pytest.approx(1, abs=1e-3)


def test_effective_rank_is_rankme_by_svd():
    rows = torch.randn(60, 24, dtype=torch.float64) @ torch.randn(24, 24, dtype=torch.float64)
    for x in (rows, rows[:10]):  # more rows than channels, and fewer
        share = torch.linalg.svdvals(x) / torch.linalg.svdvals(x).sum()
        assert health.effective_rank(x) == pytest.approx(math.exp(-(share * share.log()).sum()), rel=1e-9)


def test_the_rank_of_numbers_that_are_none_is_none():
    rows = torch.randn(30, 8)
    rows[3, 2] = torch.inf
    assert math.isnan(health.effective_rank(rows))


def test_std_and_mean_share_see_collapse_onto_one_vector():
    spread = torch.randn(4000, 8)
    spread -= spread.mean(dim=0)
    point = torch.randn(1, 8).expand(4000, 8)
    assert health.per_dimension_std(spread) == pytest.approx(1, abs=0.05)
    assert health.per_dimension_std(point) == pytest.approx(0, abs=1e-6)
    assert health.mean_share(spread) == pytest.approx(0, abs=1e-6)
    assert health.mean_share(point) == pytest.approx(1, abs=1e-5)


def test_measure_samples_the_whole_batch_evenly():
    first, last = torch.zeros(1, health.ROWS * 4, 3), torch.ones(1, health.ROWS * 4, 3)
    assert health.measure(torch.cat([first, last]))["std"] == pytest.approx(0.5, abs=1e-3)


def test_the_watch_warns_then_stops_and_forgets_after_recovery():
    watch = health.Watch(rank=3, std=0.05, warn=2, stop=4)
    said = [bool(watch.update(rank, 1.0)) for rank in (1, 20, 1, 1, 1)]
    assert said == [False, False, False, True, False]
    other = health.Watch(rank=3, std=0.05, warn=2, stop=4)
    other.load_state_dict(watch.state_dict())
    with pytest.raises(health.Collapsed, match="rank nan"):
        other.update(math.nan, 1.0)


def test_a_watch_may_be_told_never_to_stop():
    watch = health.Watch(warn=1, stop=0)
    assert all(watch.update(50.0, 0.0) for _ in range(50))
