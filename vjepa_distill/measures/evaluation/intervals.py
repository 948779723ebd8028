"""Scores with 95 % bootstrap intervals over videos, or over groups of them, and their paired differences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

DRAWS = 2000


@dataclass(frozen=True)
class Judged:
    """What is known of each video, from which any resample of them can be scored.

    `terms` [N, K] are summed over videos. "mean": the score is the mean of the only one. "r2": squared error,
    the value and its square (of values less their mean); the score is R² with the mean of the resample.
    "skill": error and that of a rival; the score is 1 less their ratio.
    """

    files: list[str]
    groups: np.ndarray
    """int [N]: videos of one group are drawn together."""
    terms: np.ndarray
    kind: str = "mean"
    chance: float | None = None

    @property
    def score(self) -> float:
        """Of all videos."""
        return float(_score(self.kind, _sums(self).sum(axis=0)))


def means(
    files: Sequence[str], groups: np.ndarray, values: np.ndarray, chance: float | None = None
) -> Judged:
    """Of a number for each video [N], such as whether it was told right."""
    return Judged(list(files), groups, np.asarray(values, dtype=np.float64)[:, None], "mean", chance)


def regressed(files: Sequence[str], groups: np.ndarray, values: np.ndarray, said: np.ndarray) -> Judged:
    """Of what was said of a number [N]; the score is R²."""
    apart = values - values.mean()
    terms = np.stack([np.square(values - said), apart, np.square(apart)], axis=1)
    return Judged(list(files), groups, terms, "r2")


def skilled(files: Sequence[str], groups: np.ndarray, error: np.ndarray, floor: np.ndarray) -> Judged:
    """Of the errors [N] of a forecast and of its rival; the score is 1 - Σ error / Σ floor."""
    return Judged(list(files), groups, np.stack([error, floor], axis=1).astype(np.float64), "skill")


def estimate(judged: Judged) -> dict[str, Any]:
    """{"score", "low", "high"}, and "chance" where there is one, from 2000 resamples of the groups."""
    sums = _sums(judged)
    low, high = interval(_score(judged.kind, _drawn(len(sums)) @ sums))
    found = {"score": judged.score, "low": low, "high": high}
    return found if judged.chance is None else {**found, "chance": judged.chance}


def difference(one: Judged, other: Judged) -> dict[str, Any] | None:
    """one - other on the videos of both, the same resamples for both; None where they share no video."""
    at = {file: row for row, file in enumerate(other.files)}
    rows = [(row, at[file]) for row, file in enumerate(one.files) if file in at]
    if not rows or one.kind != other.kind:
        return None
    mine, theirs = (np.array(side) for side in zip(*rows, strict=True))
    groups = np.unique(one.groups[mine], return_inverse=True)[1]
    pair = [
        _sums(Judged(one.files, groups, judged.terms[side], judged.kind))
        for judged, side in ((one, mine), (other, theirs))
    ]
    drawn = _drawn(len(pair[0]))
    score = [float(_score(one.kind, sums.sum(axis=0))) for sums in pair]
    low, high = interval(np.subtract(*(_score(one.kind, drawn @ sums) for sums in pair)))
    return {"score": score[0] - score[1], "low": low, "high": high}


def _sums(judged: Judged) -> np.ndarray:
    """The terms of each group [G, K + 1], and last how many videos it has."""
    groups = np.unique(judged.groups, return_inverse=True)[1]
    terms = np.concatenate([judged.terms, np.ones((len(groups), 1))], axis=1)
    sums = np.zeros((groups.max() + 1, terms.shape[1]))
    np.add.at(sums, groups, terms)
    return sums


def _score(kind: str, sums: np.ndarray) -> np.ndarray:
    """Of sums [..., K + 1]."""
    if kind == "mean":
        return sums[..., 0] / sums[..., 1]
    if kind == "skill":
        return 1 - sums[..., 0] / np.maximum(sums[..., 1], 1e-12)
    error, value, square, count = np.moveaxis(sums, -1, 0)
    around = square - np.square(value) / count
    return 1 - np.divide(error, around, out=np.full_like(around, np.nan), where=around > 1e-12)


@lru_cache(maxsize=4)
def _drawn(count: int) -> np.ndarray:
    """How often each of so many groups is in each resample [DRAWS, count]: the same at every call."""
    return np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), DRAWS).astype(np.float64)


def interval(scores: np.ndarray) -> tuple[float, float]:
    """The middle 95 % of the scores of resamples."""
    low, high = np.nanpercentile(scores, [2.5, 97.5]) if np.isfinite(scores).any() else (np.nan, np.nan)
    return float(low), float(high)
