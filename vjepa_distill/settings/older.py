"""What a key that an older ``config.yaml`` lacks stands for: what the version that wrote the file did."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import Any

BEHAVED: dict[str, Any] = {}
"""Every key that was added since format 1 began, as it is typed, and what runs did before it was there."""


def lacking(stored: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The added keys that settings written by a run lack, with their values.

    A run writes all of its settings, with their ``format``; what has none is a person's, whom defaults suit.
    """
    for key, value in BEHAVED.items() if "format" in stored else ():
        inner: Any = stored
        *groups, name = key.split(".")
        for group in groups:
            inner = inner.get(group) if isinstance(inner, Mapping) else None
        if isinstance(inner, Mapping) and name not in inner:
            yield key, value


def completed(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Settings written by a run, with what they lack."""
    whole = deepcopy(dict(stored))
    for key, value in list(lacking(stored)):
        inner = whole
        *groups, name = key.split(".")
        for group in groups:
            inner = inner[group]
        inner[name] = value
    return whole
