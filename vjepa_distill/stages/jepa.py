"""Jepa: teach an encoder the future (stage 2). What is foretold are the tokens of a teacher.

Three moves, in this order: the target (teacher), the context (student, once per distinct view), the losses.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vjepa_distill.modules.heads import Predictor
from vjepa_distill.modules.masks import Span, Whole
from vjepa_distill.modules.standardise import Moments
from vjepa_distill.protocols import Backbone, Batch, Draw, Latents, Layered, Objective, Split, Timeline, View
from vjepa_distill.stages.heldout import both_ways, direction_of_play, merits
from vjepa_distill.stages.measure import averages, distinct_views, kept, registered, rows_of, tell
from vjepa_distill.stages.targets import Eye, Kind, Other, OtherEye, OwnEye, TeacherContext, pieces
from vjepa_distill.tokens import Grid, promote


class Jepa(nn.Module):
    """Tri-temporal JEPA: masked and future latents, whatever the objectives ask (V-JEPA 1, 2).

    Args:
        objectives: by name; each is asked for its views and handed ``Latents``.
        momentum: (step) -> the share of itself an ``ema`` teacher keeps at that update.
        teacher_context: what the teacher sees when it makes a target: the whole clip (``full``), each of NOW,
            SOON and EVENTUALLY on its own (``segment``), or nothing later than the span (``prefix``).
        normalise_target: LayerNorm without affine over the teacher's tokens; without it scale drifts.
        kind: the teacher is a copy of the student that follows it (``ema``), one that never changes
            (``frozen``; SALT, arXiv 2509.24317), or the ``student`` itself, without gradient (LeJEPA).
        other: in place of a copy, an encoder of another kind: frozen, its tokens standardised.
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
        kind: Kind = "ema",
        other: Other | None = None,
    ) -> None:
        super().__init__()
        self.student, self.kind = student, kind
        self.head: nn.Module | None = None
        if other:
            self.teacher = other.teacher.requires_grad_(False).eval()
            self.standardisers = registered({"targets": other.standardiser})
            self.head = other.head.requires_grad_(False).eval() if other.head else None
        elif kind != "student":
            self.teacher = copy.deepcopy(student).requires_grad_(False).eval()
        self.other = other is not None
        self.predictor = predictor
        self.objectives = registered(objectives)
        self.timeline, self.momentum, self.seed = timeline, momentum, seed
        self.pieces, self.teacher_context = pieces(teacher_context, timeline), teacher_context
        self.normalise_target = normalise_target
        self.views = distinct_views(objectives.values())
        self.deep = distinct_views(one for one in objectives.values() if getattr(one, "deep", False))
        self.notes: dict[str, Tensor] = {}

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Named, unweighted losses of a batch."""
        grid = self.student.grid(*batch.clip.shape[2:])
        target = self.target(batch.clip, grid)

        draw = Draw(self.seed, batch.position)
        splits = {view: view.split(grid, draw) for view in self.views}
        seen, layers = self._context(batch.clip, splits)

        @cache
        def alone(view: View) -> Tensor:
            return self.alone(batch.clip, grid, view, splits, target)

        @cache
        def copied(view: View) -> Tensor | None:
            if self.predictor.anchor is None:
                return None
            return self.through_head(seen[view]) if self.other else alone(view)

        asked = []

        def predict(view: View, query: Tensor) -> Tensor:
            asked.append(view)
            return self.predictor(seen[view], splits[view].keep, query, grid, copied(view))

        latents = Latents(grid, target, splits, seen, predict, batch.video, alone=alone, layers=layers)
        losses = {name: objective(latents) for name, objective in self.objectives.items()}
        if not asked:  # DDP waits for a gradient of every weight
            name = next(iter(losses))
            losses[name] = losses[name] + 0 * sum(p.sum() for p in self.predictor.parameters())
        self.notes, self.tokens = latents.notes, rows_of(target)
        return losses

    def _context(
        self, clip: Tensor, splits: Mapping[View, Split]
    ) -> tuple[dict[View, Tensor], dict[View, list[Tensor]]]:
        """The student's tokens of every view, and its layers where an objective asks and it offers them."""
        layers = {
            view: self.student.layer_tokens(clip, kept(view, splits))
            for view in self.deep
            if isinstance(self.student, Layered)
        }
        seen = {
            view: layers[view][-1] if view in layers else self.student(clip, kept(view, splits))
            for view in self.views
        }
        return seen, layers

    @property
    def eye(self) -> Eye:
        """How the teacher, whoever it is, is shown clips and spans."""
        if self.other:
            return OtherEye(self.teacher)
        return OwnEye(self.student if self.kind == "student" else self.teacher)

    @torch.no_grad()
    def target(self, clip: Tensor, grid: Grid) -> Tensor:
        """The teacher's tokens of the whole clip: [B, L, D], layer-normed or standardised."""
        if self.teacher_context == "full":
            return self.scaled(self.eye.whole(clip, grid))
        parts = [
            self.eye.span(clip, grid, shown)[:, (used.start - shown.start) * grid.cells :]
            for shown, used in self.pieces
        ]
        return self.scaled(torch.cat(parts, dim=1))

    @torch.no_grad()
    def alone(
        self, clip: Tensor, grid: Grid, view: View, splits: Mapping[View, Split], target: Tensor
    ) -> Tensor:
        """The teacher's tokens of what a view shows, and of nothing else: [B, K, D]."""
        if view == Whole():
            return target if self.teacher_context == "full" else self.scaled(self.eye.whole(clip, grid))
        if not isinstance(view, Span):
            return self.scaled(self.eye.places(clip, grid, splits[view].keep))
        if (view, view) in self.pieces:  # that part of the target was made so
            return target[:, view.start * grid.cells : view.stop * grid.cells]
        return self.scaled(self.eye.span(clip, grid, view))

    def scaled(self, tokens: Tensor) -> Tensor:
        """The teacher's tokens on the scale on which they are foretold."""
        tokens = promote(tokens)
        if self.other:
            return self.standardisers["targets"](tokens)
        return F.layer_norm(tokens, tokens.shape[-1:]) if self.normalise_target else tokens

    @torch.no_grad()
    def through_head(self, tokens: Tensor) -> Tensor:
        """The student's tokens in another teacher's space, by the head that was distilled for it."""
        assert self.head is not None, "an anchor of another encoder's tokens goes through a head"
        return self.scaled(self.head(tokens))

    @torch.no_grad()
    def estimate(self, batches: Iterable[Batch]) -> dict[str, Moments]:
        """Moments of another teacher's tokens over some batches, for ``Standardiser.fit``."""
        moments: dict[str, Moments] = {}
        for batch in batches:
            tokens = self.eye.whole(batch.clip, self.student.grid(*batch.clip.shape[2:]))
            moments.setdefault("targets", Moments(tokens.shape[-1])).add(promote(tokens))
        return moments

    @torch.no_grad()
    def after_step(self, step: int) -> None:
        """An ``ema`` teacher follows: parameters by EMA, buffers (BatchNorm's, counters) by copy."""
        if self.kind == "ema":
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
        """Losses and notes on held-out batches, averaged; direction of play over all of them."""
        self.eval()
        rows, tokens, ways = [], [], []
        for batch in batches:
            rows.append({**self(batch), **self.notes})
            tokens.append(self.tokens)
            ways.append(both_ways(self.student, batch))
        self.train()
        self.tokens = rows_of(torch.cat(tokens)[None])
        return averages(rows) | {"direction": direction_of_play(ways)}

    def score(self, scores: Mapping[str, float]) -> float:
        """The mean of the scores' ``merits``; with frozen targets the held-out loss, which means something
        there, with its sign turned."""
        if self.kind == "frozen":
            return -scores["loss"]
        parts = merits(scores)
        return sum(parts.values()) / max(1, len(parts))

    def train(self, mode: bool = True) -> Jepa:
        """As in torch, but the teacher always stays in eval mode."""
        super().train(mode)
        if self.other or self.kind != "student":
            self.teacher.eval()
        return self
