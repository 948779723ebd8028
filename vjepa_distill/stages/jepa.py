"""Jepa: teach an encoder the future, with a slowly following copy of itself as the teacher (stage 2).

Three moves, in this order: the target (teacher), the context (student, once per distinct view), the losses.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vjepa_distill.modules.heads import Predictor
from vjepa_distill.modules.masks import Span
from vjepa_distill.protocols import Backbone, Batch, Draw, Latents, Objective, Timeline, View
from vjepa_distill.stages.measure import averages, distinct_views, registered, rows_of, tell
from vjepa_distill.tokens import Grid, promote

TeacherContext = Literal["full", "segment", "prefix"]


class Jepa(nn.Module):
    """Tri-temporal JEPA: EMA teacher, masked and future latents, whatever the objectives ask (V-JEPA 1, 2).

    Args:
        objectives: by name; each is asked for its views and handed ``Latents``.
        momentum: (step) -> the share of itself the teacher keeps at that update.
        teacher_context: what the teacher sees when it makes a target: the whole clip (``full``), each of NOW,
            SOON and EVENTUALLY on its own (``segment``), or nothing later than the span (``prefix``).
        normalise_target: LayerNorm without affine over the teacher's tokens; without it scale drifts.
    """

    tokens: Tensor

    def __init__(
        self,
        student: Backbone,
        predictor: Predictor,
        objectives: Mapping[str, Objective],
        timeline: Timeline,
        momentum: Callable[[int], float],
        teacher_context: TeacherContext = "full",
        normalise_target: bool = True,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.student = student
        self.teacher = copy.deepcopy(student).requires_grad_(False).eval()
        self.predictor = predictor
        self.objectives = registered(objectives)
        self.timeline, self.momentum, self.seed = timeline, momentum, seed
        self.teacher_context: TeacherContext = teacher_context
        self.normalise_target = normalise_target
        self.views = distinct_views(objectives.values())
        self.notes: dict[str, Tensor] = {}

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Named, unweighted losses of a batch."""
        grid = self.student.grid(*batch.clip.shape[2:])
        target = self.target(batch.clip, grid)

        draw = Draw(self.seed, batch.position)
        splits = {view: view.split(grid, draw) for view in self.views}
        seen = {view: self.student(batch.clip, splits[view].keep) for view in self.views}

        def predict(view: View, query: Tensor) -> Tensor:
            return self.predictor(seen[view], splits[view].keep, query, grid)

        latents = Latents(grid, target, splits, seen, predict, batch.video)
        losses = {name: objective(latents) for name, objective in self.objectives.items()}
        self.notes, self.tokens = latents.notes, rows_of(target)
        return losses

    @torch.no_grad()
    def target(self, clip: Tensor, grid: Grid) -> Tensor:
        """The teacher's tokens of the whole clip: [B, L, D], layer-normed."""
        h = TARGETS[self.teacher_context](self.teacher, clip, grid, self.timeline)
        h = promote(h)
        return F.layer_norm(h, h.shape[-1:]) if self.normalise_target else h

    @torch.no_grad()
    def after_step(self, step: int) -> None:
        """The teacher follows the student: parameters by EMA, buffers (BatchNorm's, counters) by copy."""
        keep = self.momentum(step)
        for h, z in zip(self.teacher.parameters(), self.student.parameters(), strict=True):
            h.lerp_(z.to(h.dtype), 1 - keep)
        for h, z in zip(self.teacher.buffers(), self.student.buffers(), strict=True):
            h.copy_(z)
        tell(self.objectives, "after_step")

    def skip_step(self) -> None:
        """An update was not made (fp16 overflow): objectives drop what they kept for it."""
        tell(self.objectives, "skip_step")

    @torch.no_grad()
    def evaluate(self, batches: Iterable[Batch]) -> dict[str, float]:
        """Losses and notes on held-out batches, averaged."""
        self.eval()
        rows = [{**self(batch), **self.notes} for batch in batches]
        self.train()
        return averages(rows)

    def train(self, mode: bool = True) -> Jepa:
        """As in torch, but the teacher always stays in eval mode."""
        super().train(mode)
        self.teacher.eval()
        return self


def _full(teacher: Backbone, clip: Tensor, grid: Grid, timeline: Timeline) -> Tensor:
    return teacher(clip)


def _spans(timeline: Timeline) -> list[Span]:
    """NOW, SOON and EVENTUALLY as spans of tubelets; empty ones left out."""
    stops = [timeline.now, timeline.now + timeline.soon, sum(timeline)]
    return [Span(start, stop) for start, stop in zip([0, *stops], stops, strict=False) if stop > start]


def _segment(teacher: Backbone, clip: Tensor, grid: Grid, timeline: Timeline) -> Tensor:
    """Each span encoded on its own; positions stay absolute."""
    return torch.cat(
        [teacher(clip, s.indices(grid, len(clip), clip.device)) for s in _spans(timeline)], dim=1
    )


def _prefix(teacher: Backbone, clip: Tensor, grid: Grid, timeline: Timeline) -> Tensor:
    """Each span sees itself and what came before it."""
    return torch.cat(
        [
            teacher(clip, Span(0, s.stop).indices(grid, len(clip), clip.device))[:, s.start * grid.cells :]
            for s in _spans(timeline)
        ],
        dim=1,
    )


TARGETS = {"full": _full, "segment": _segment, "prefix": _prefix}
