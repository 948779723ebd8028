"""What an encoder knows of time: four paired tests, from the mean token and from how tokens change."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from vjepa_distill.measures.evaluation.collect import Collected, Kept
from vjepa_distill.measures.evaluation.intervals import Judged, estimate, means
from vjepa_distill.measures.evaluation.paired import paired

TESTS = {"direction": "reversed", "speed": "half", "order": "swapped", "shuffled": "shuffled"}
"""Against which view the clip itself is told."""


def time_tests(found: Collected, groups: np.ndarray, tie: float) -> tuple[dict[str, Any], dict[str, Judged]]:
    """The record {test: {"chance", "mean": {encoder: estimate}, "change": …}}, and what was said, of "this".

    tie: differences up to this share of a channel's root mean square, or of the median channel's where that
        is more, are rounding.
    """
    record: dict[str, Any] = {test: {"chance": 0.5, "mean": {}, "change": {}} for test in TESTS}
    own: dict[str, Judged] = {}
    for name, kept in found.kept.items():
        for test, by_feature in judged(kept, found.files, groups, tie).items():
            for feature, said in by_feature.items():
                record[test][feature][name] = estimate(said)
                if name == "this":
                    own[f"time/{test}/{feature}"] = said
    return record, own


def judged(kept: Kept, files: list[str], groups: np.ndarray, tie: float) -> dict[str, Mapping[str, Judged]]:
    """For each test and each feature, of which videos it was told which view is which."""
    clip = kept.view("clip")
    # over all tubelets: the square of their mean and their variance
    size = (clip.mean.square() + clip.spread.square()).mean(dim=0).sqrt()
    # a channel in which large terms cancel rounds as they do, not as what is left of them
    floor = tie * size.clamp_min(size.median().item()).numpy()
    found: dict[str, Mapping[str, Judged]] = {}
    for test, view in TESTS.items():
        other = kept.view(view)
        change = "spread" if test == "speed" else "change"
        sides = {"mean": (clip.mean, other.mean), "change": (getattr(clip, change), getattr(other, change))}
        found[test] = {
            feature: means(files, groups, paired(one.numpy(), two.numpy(), groups, floor), chance=0.5)
            for feature, (one, two) in sides.items()
        }
    return found
