"""Breaks told from none: against another's AUROC, and answers that are known."""

import numpy as np
import pytest

from vjepa_distill.measures.detection import auroc, by_kind, detected


def test_auroc_is_that_of_another_hand():
    from sklearn.metrics import roc_auc_score

    draw = np.random.default_rng(0)
    high, low = draw.integers(2, 9, 40), draw.integers(0, 7, 30)  # with ties
    truth = np.r_[np.ones(40), np.zeros(30)]
    assert auroc(high, low) == pytest.approx(roc_auc_score(truth, np.r_[high, low]))


def test_known_answers():
    times, flat = [np.arange(6) / 10] * 4, [np.r_[np.nan, 0.1, 0.2, 0.1, 0.2, 0.1]] * 4
    peak = [np.r_[np.nan, 0.1, 0.2, 0.1, 0.9, 0.1]] * 4
    found = detected(peak, flat, times, [0.4, 0.3, 0.2, 0.45], within=0.1)
    assert found["auroc"] == {"score": 1.0, "low": 1.0, "high": 1.0, "chance": 0.5}
    assert found["found"]["score"] == 0.75  # not the one at 0.2
    assert found["found"]["chance"] == pytest.approx((3 + 3 + 3 + 2) / 5 / 4)
    assert found["found"]["low"] < 0.75 < found["found"]["high"]
    same = detected(flat, flat, times, [0.2] * 4, within=0.0)
    assert same["auroc"]["score"] == 0.5
    assert same["found"]["score"] == 1.0  # the first of two that are alike


def test_each_kind_is_told_on_its_own():
    table = [
        {"file": "a", "pair": "0", "break": "none", "second": ""},
        {"file": "b", "pair": "0", "break": "jump", "second": "0.1"},
        {"file": "c", "pair": "1", "break": "none", "second": ""},
        {"file": "d", "pair": "1", "break": "stop", "second": "0.1"},
    ]
    curves = {"a": np.r_[0.0, 0.1], "b": np.r_[0.0, 0.2], "c": np.r_[0.0, 0.3], "d": np.r_[0.0, 0.1]}
    found = by_kind(curves, dict.fromkeys(curves, np.r_[0.0, 0.1]), table, 0.0)
    assert {kind: row["auroc"]["score"] for kind, row in found.items()} == {
        "all": 0.375,
        "jump": 1.0,
        "stop": 0.0,
    }
