"""Runs and clips that never were, for pages to be made of."""

from __future__ import annotations

from typing import Any

import numpy as np

from vjepa_distill.pages.contents import Clips, Foresight, Found, Mask, RunFacts, Search, Segment, Watched


def estimate(score: float, **more: float) -> dict[str, float]:
    return {"score": score, "low": score - 0.05, "high": score + 0.05, **more}


def evaluation(gain: float = 0.0) -> dict[str, Any]:
    """What ``evaluate`` writes of a run of jepa-train."""
    encoders = {"this": estimate(0.7 + gain), "random": estimate(0.52), "start": estimate(0.62)}
    rank = {"rank": 30.0, "std": 0.6, "norm": 9.0}
    return {
        "format": 1,
        "source": "runs/future",
        "stage": "jepa",
        "horizon": {
            "steps": [1, 2],
            "rivals": {"persistence": [estimate(0.1), estimate(0.2 + gain)]},
            "all": {"persistence": estimate(0.15)},
        },
        "eventually": {"videos": estimate(0.6, chance=0.02), "starts": None, "group": None},
        "time": {"direction": {"chance": 0.5, "mean": encoders, "change": encoders}},
        "drift": [{"layer": "last", "cosine": estimate(0.8), "cka": 0.9}],
        "health": {"this": {**rank, "dead": 0, "positions": [rank, rank]}},
        "labels": {
            "shape": {
                "kind": "text",
                "floor": 0.3,
                "probes": {"linear": encoders},
                "anticipation": [{"seconds": s, "probes": {"linear": encoders}} for s in (0.5, 1.0)],
            }
        },
        "seconds": 9.0,
    }


def watched(peak: int = 9, moments: int = 13, **other: Any) -> Watched:
    """A video of frames whose every pixel says which moment it is, half a second apart, with one peak."""
    frames = np.arange(moments, dtype=np.uint8)[:, None, None, None].repeat(32, 1).repeat(48, 2).repeat(3, 3)
    surprise = np.full(moments, 0.25)
    surprise[:2], surprise[peak] = np.nan, 3.14159
    return Watched("c.mp4", 9 * frames, [at / 2 for at in range(moments)], surprise, **other)


def clips(foresight: bool = True) -> Clips:
    """Two clips of four tubelets of 2 x 2 cells, NOW 1, SOON 2, EVENTUALLY 1."""
    draw = np.random.default_rng(0)
    frames = draw.integers(0, 255, (2, 4, 32, 32, 3), dtype=np.uint8)
    hidden = np.zeros((2, 4, 2, 2), bool)
    hidden[:, :, 0, 0] = True
    error = draw.uniform(size=(2, 2, 2, 2))
    found = [Found("a.mp4", frames[0, :2], 0.9, True), Found("b.mp4", frames[1, :2], 0.1, False)]
    seen = Foresight(error, error[::-1], [Search(0, found, 1)], 2)
    return Clips(
        ["a.mp4", "b.mp4"],
        frames,
        draw.normal(size=(2, 4, 2, 2, 8)),
        [Segment("NOW", 1), Segment("SOON", 2), Segment("EVENTUALLY", 1)],
        [Mask("blocks", "Seen by now.", hidden)],
        seen if foresight else None,
        [watched()] if foresight else [],
        5 if foresight else 0,
        ["a note"],
    )


def run(name: str = "future", gain: float = 0.0, **other: Any) -> RunFacts:
    """A run of jepa-train that has everything."""
    rows: list[dict[str, float | None]] = [
        {"step": n, "soon": 1 / n, "soon/skill": gain - 1 / n, "rank": 40.0, "lr": 1e-3} for n in (10, 20)
    ]
    rows[1] |= {
        "heldout/soon/skill": 0.1,
        "heldout/eventually/retrieval": 0.5,
        "heldout/eventually/chance": 0.1,
    }
    told: dict[str, Any] = {
        "name": name,
        "folder": f"runs/{name}",
        "stage": "jepa",
        "steps": 20,
        "facts": [("student", "vjepa/tiny")],
        "settings": "steps: 20\n",
        "rows": rows,
        "floors": {"rank": 3.0},
        "evaluation": evaluation(gain),
        "clips": clips(),
    }
    return RunFacts(**{**told, **other})
