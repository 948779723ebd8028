"""Runs side by side: the difference of each score on the same videos, with its interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vjepa_distill.measures.evaluation.intervals import Judged, difference


def differences(runs: Sequence[str], said: Sequence[Mapping[str, Judged]]) -> list[dict[str, Any]]:
    """[{"what", "base", "pairs": [{"run", "against", "score", "low", "high"}]}]: each run less the first,
    whose own score is "base".

    said: what was said from each run's "this", by the name of the measure. One that a run lacks is left out.
    """
    found = []
    for what, base in said[0].items():
        pairs: list[dict[str, Any]] = []
        for run, other in zip(runs[1:], said[1:], strict=True):
            apart = difference(other[what], base) if what in other else None
            if apart:
                pairs.append({"run": run, "against": runs[0], **apart})
        if pairs:
            found.append({"what": what, "base": base.score, "pairs": pairs})
    return found
