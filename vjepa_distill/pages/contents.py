"""What a page is made of: what is known of each run, and of the clips that are shown.

Shapes: B clips shown, t tubelets of h by w cells, D channels; frames are one picture a tubelet.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np

Row = Mapping[str, float | None]
"""One row of metrics.jsonl: "step", and numbers by name; null where there was none."""


class Segment(NamedTuple):
    """A part of the timeline by name, in tubelets."""

    name: str
    tubelets: int


@dataclass(frozen=True)
class Mask:
    """What one view of the run's objectives hides."""

    title: str
    words: str
    hidden: np.ndarray
    """bool [B, t, h, w]"""


@dataclass(frozen=True)
class Found:
    """One clip that EVENTUALLY's outcome was found nearest to."""

    name: str
    frames: np.ndarray
    """uint8 [n, H, W, 3] of its far future."""
    cosine: float
    right: bool


@dataclass(frozen=True)
class Search:
    """What one shown clip's outcome retrieves."""

    clip: int
    """Which of the clips shown."""
    found: Sequence[Found]
    """The nearest first."""
    place: int
    """Of the right one among the candidates, from 1."""


@dataclass(frozen=True)
class Foresight:
    """What the run's predictor says of the clips shown."""

    error: np.ndarray
    """float [B, s, h, w]: mean absolute error of SOON's tokens."""
    rival: np.ndarray
    """The same of the last NOW tubelet repeated."""
    searches: Sequence[Search]
    candidates: int
    """How many clips EVENTUALLY had to choose from."""


@dataclass(frozen=True)
class Watched:
    """One video over its time, and how unusual each moment was."""

    name: str
    frames: np.ndarray
    """uint8 [t, H, W, 3]: one picture a tubelet."""
    seconds: Sequence[float]
    """[t]: when each begins."""
    surprise: np.ndarray
    """float [t], in units of what is usual: 0 the median, 1 the 95 % quantile; NaN without a forecast."""
    cut: bool = False
    """The video goes on, and was not looked at to its end."""


@dataclass(frozen=True)
class Clips:
    """The clips that are shown of a run."""

    names: Sequence[str]
    frames: np.ndarray
    """uint8 [B, t, H, W, 3]: one picture a tubelet."""
    tokens: np.ndarray | None = None
    """float [B, t, h, w, D]"""
    segments: Sequence[Segment] = ()
    """NOW, SOON, EVENTUALLY where the run has them."""
    masks: Sequence[Mask] = ()
    foresight: Foresight | None = None
    watched: Sequence[Watched] = ()
    """The videos whose surprise peaks highest, the highest first."""
    among: int = 0
    """How many were looked at for these."""
    notes: Sequence[str] = ()
    """What is not shown, and why."""


@dataclass(frozen=True)
class RunFacts:
    """All that a page tells of one run."""

    name: str
    """Short, and another for each run of a page."""
    folder: str
    """As it was typed."""
    stage: Literal["distill", "jepa"]
    steps: int
    facts: Sequence[tuple[str, str]]
    """The settings in short."""
    settings: str
    """All of them, as they stand in the run's file."""
    rows: Sequence[Row]
    """The log, in the order of its steps."""
    floors: Mapping[str, float] = field(default_factory=dict)
    """Below which numbers of the log speak of collapse."""
    judged_by: str = ""
    """What "score" in the log is, by which the best step is chosen."""
    verdict: str = ""
    """The run's own, of a run that has one."""
    evaluation: Mapping[str, Any] | None = None
    """What ``evaluate`` wrote."""
    comparison: Mapping[str, Any] | None = None
    """What ``evaluate --compare`` wrote."""
    clips: Clips | None = None
    why_no_clips: str = ""

    @property
    def done(self) -> int:
        """Steps in the log."""
        return int(self.rows[-1]["step"] or 0) if self.rows else 0

    @property
    def heldout(self) -> dict[str, float]:
        """The last held-out scores by name."""
        for row in reversed(self.rows):
            scores = {name[8:]: value for name, value in row.items() if name.startswith("heldout/")}
            if scores:
                return {name: value for name, value in scores.items() if value is not None}
        return {}
