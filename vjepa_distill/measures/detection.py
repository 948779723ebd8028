"""How well a curve over time tells videos in which something breaks from those in which nothing does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vjepa_distill.measures.evaluation.intervals import DRAWS, interval


def auroc(broken: np.ndarray, sound: np.ndarray) -> float:
    """How often a broken video scores above a sound one, over all pairs; a tie counts half: 0.5 is chance."""
    apart = np.asarray(broken)[:, None] - np.asarray(sound)[None]
    return float(((apart > 0) + 0.5 * (apart == 0)).mean())


def detected(
    broken: Sequence[np.ndarray],
    sound: Sequence[np.ndarray],
    times: Sequence[np.ndarray],
    seconds: Sequence[float],
    within: float,
) -> dict[str, Any]:
    """{"auroc": an estimate, "found": an estimate} of curves, one a video, each scored by its maximum.

    broken and sound: curves of pairs of twins, resampled together for the interval. times: the second of
    every value of each broken one; seconds: where it breaks. A break is found where the maximum lies at most
    `within` seconds from it; the chance of that is of a moment taken by lot.
    """
    top = np.array([np.nanmax(curve) for curve in broken]), np.array([np.nanmax(curve) for curve in sound])
    at = np.array([time[np.nanargmax(curve)] for curve, time in zip(broken, times, strict=True)])
    hit = np.abs(at - np.asarray(seconds)) <= within + 1e-6
    near = [
        (np.abs(time[np.isfinite(curve)] - second) <= within + 1e-6).mean()
        for curve, time, second in zip(broken, times, seconds, strict=True)
    ]
    draws = np.random.default_rng(0).integers(len(hit), size=(DRAWS, len(hit)))
    return {
        "auroc": {**_estimate([auroc(top[0][d], top[1][d]) for d in draws], auroc(*top)), "chance": 0.5},
        "found": {**_estimate(hit[draws].mean(axis=1), float(hit.mean())), "chance": float(np.mean(near))},
    }


def by_kind(
    curves: Mapping[str, np.ndarray],
    times: Mapping[str, np.ndarray],
    table: Sequence[Mapping[str, str]],
    within: float,
) -> dict[str, dict[str, Any]]:
    """``detected`` for each kind of break, and for "all", of a table as ``data.broken`` writes it."""
    sound = {row["pair"]: row["file"] for row in table if row["break"] == "none"}
    rows = [row for row in table if row["break"] != "none"]
    kinds = {"all": rows} | {kind: [row for row in rows if row["break"] == kind] for kind in _kinds(rows)}
    return {
        kind: detected(
            [curves[row["file"]] for row in some],
            [curves[sound[row["pair"]]] for row in some],
            [times[row["file"]] for row in some],
            [float(row["second"]) for row in some],
            within,
        )
        for kind, some in kinds.items()
    }


def _kinds(rows: Sequence[Mapping[str, str]]) -> list[str]:
    return list(dict.fromkeys(row["break"] for row in rows))


def _estimate(draws: Sequence[float] | np.ndarray, score: float) -> dict[str, float]:
    low, high = interval(np.asarray(draws))
    return {"score": score, "low": low, "high": high}
