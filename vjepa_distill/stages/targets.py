"""Whose tokens are foretold: those of a copy of the student, following or still, or of another encoder."""

from __future__ import annotations

from typing import Literal, NamedTuple, Protocol

from torch import Tensor, nn

from vjepa_distill.modules.masks import Span
from vjepa_distill.modules.standardise import Standardiser
from vjepa_distill.protocols import Backbone, Timeline
from vjepa_distill.stages.teacher import shown
from vjepa_distill.tokens import Grid, resample

Kind = Literal["ema", "frozen", "student"]
TeacherContext = Literal["full", "segment", "prefix"]


class Other(NamedTuple):
    """A teacher that is no copy of the student."""

    teacher: Backbone
    standardiser: Standardiser
    head: nn.Module | None = None
    """From the student's tokens to the teacher's, in its own units: what the anchor's copy goes through."""


class Eye(Protocol):
    """How targets are looked at: the whole clip, or a part of it and nothing else."""

    def whole(self, clip: Tensor, grid: Grid) -> Tensor:
        """[B, L, D]"""

    def span(self, clip: Tensor, grid: Grid, span: Span) -> Tensor:
        """[B, tubelets of the span x cells, D]"""

    def places(self, clip: Tensor, grid: Grid, keep: Tensor) -> Tensor:
        """[B, K, D] of the places in keep [B, K]; ValueError where that cannot be had."""


class OwnEye:
    """Through an encoder of the student's kind: a span is a choice of its tokens, at their own places."""

    def __init__(self, encoder: Backbone) -> None:
        self.encoder = encoder

    def whole(self, clip: Tensor, grid: Grid) -> Tensor:
        return self.encoder(clip)

    def span(self, clip: Tensor, grid: Grid, span: Span) -> Tensor:
        return self.encoder(clip, span.indices(grid, len(clip), clip.device))

    def places(self, clip: Tensor, grid: Grid, keep: Tensor) -> Tensor:
        return self.encoder(clip, keep)


class OtherEye:
    """Through any encoder: a span is cut out of the clip, and tokens are brought to the student's grid."""

    def __init__(self, encoder: Backbone) -> None:
        self.encoder = encoder

    def whole(self, clip: Tensor, grid: Grid) -> Tensor:
        return resample(*shown(self.encoder, clip, grid), grid)

    def span(self, clip: Tensor, grid: Grid, span: Span) -> Tensor:
        frames = clip.shape[2] // grid.t
        part = clip[:, :, span.start * frames : span.stop * frames]
        return self.whole(part, Grid(span.stop - span.start, grid.h, grid.w))

    def places(self, clip: Tensor, grid: Grid, keep: Tensor) -> Tensor:
        raise ValueError("another encoder need not know the student's places: ask it for a Span")


def pieces(context: TeacherContext, timeline: Timeline) -> list[tuple[Span, Span]]:
    """What the teacher is shown, and which part of it is used; put together, the parts are the clip.

    ``full``: all of it at once; ``segment``: each of NOW, SOON and EVENTUALLY alone; ``prefix``: each with
    what came before it.
    """
    stops = [timeline.now, timeline.now + timeline.soon, sum(timeline)]
    if context == "full":
        return [(Span(0, stops[-1]), Span(0, stops[-1]))]
    spans = [Span(start, stop) for start, stop in zip([0, *stops], stops, strict=False) if stop > start]
    return [(Span(0 if context == "prefix" else span.start, span.stop), span) for span in spans]
