"""What a key that an older ``config.yaml`` lacks stands for: what the version that wrote the file did."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from typing import Any

BEHAVED: dict[str, Any] = {
    "predictor.anchor": "none",
    "targets": {
        "kind": "ema",
        "name": "",
        "options": {},
        "standardise": "channel",
        "statistics_batches": 32,
    },
    "trouble": {
        "collapse": "stop",
        "nonfinite": "stop",
        "spike": "warn",
        "spike_factor": 10.0,
        "max_rollbacks": 3,
    },
}
"""Every key that was added since format 1 began, as it is typed, and what runs did before it was there.

A * stands for the names that are a user's own: ``teachers.*.options``.
"""


BESIDE = {"targets": "spans"}
"""Sections of one stage alone, and one by which its configurations can be told."""


def lacking(stored: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The added keys that settings written by a run lack, with their values.

    A run writes all of its settings, with their ``format``; what has none is a person's, whom defaults suit.
    """
    for key, value in BEHAVED.items() if "format" in stored else ():
        *groups, name = key.split(".")
        if BESIDE.get(key, "format") not in stored:
            continue
        for place, inner in _within(stored, groups):
            if name not in inner:
                yield ".".join([*place, name]), value


def completed(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Settings written by a run, with what they lack."""
    whole = deepcopy(dict(stored))
    for key, value in list(lacking(stored)):
        inner = whole
        *groups, name = key.split(".")
        for group in groups:
            inner = inner[group]
        inner[name] = deepcopy(value)
    return whole


def _within(settings: Any, groups: Sequence[str]) -> Iterator[tuple[list[str], Mapping[str, Any]]]:
    """The mappings that stand under these keys, and the keys themselves."""
    if not isinstance(settings, Mapping):
        return
    if not groups:
        yield [], settings
        return
    for key in settings if groups[0] == "*" else [groups[0]]:
        for place, inner in _within(settings.get(key), groups[1:]):
            yield [key, *place], inner
