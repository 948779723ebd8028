"""Distill: any encoder learns to speak the tokens of a frozen teacher (stage 1).

The same three moves as in ``jepa.py``: the target (each teacher's tokens, standardised), the context
(student and head), the losses.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vjepa_distill.errors import UserError
from vjepa_distill.modules.heads import Projector
from vjepa_distill.modules.masks import Whole
from vjepa_distill.modules.standardise import Moments, Standardiser
from vjepa_distill.protocols import Backbone, Batch, Draw, Latents, Objective, Split, View
from vjepa_distill.stages.measure import averages, distinct_views, kept, registered, rows_of, tell
from vjepa_distill.stages.teacher import shown
from vjepa_distill.tokens import Grid, resample


class Distill(nn.Module):
    """Token matching. Teachers, heads and standardisers are mappings with the same keys, one teacher each.

    The student runs once per distinct view. Grids need not agree: a teacher is shown a resized clip if that
    makes them agree, else features are interpolated onto the larger grid in space, the student's in time.
    """

    tokens: Tensor

    def __init__(
        self,
        student: Backbone,
        teachers: Mapping[str, Backbone],
        heads: Mapping[str, Projector],
        standardisers: Mapping[str, Standardiser],
        objectives: Mapping[str, Objective],
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.student = student
        self.teachers, self.heads = registered(teachers), registered(heads)
        self.standardisers, self.objectives = registered(standardisers), registered(objectives)
        self.get_submodule("teachers").requires_grad_(False).eval()
        self.seed = seed
        self.views = distinct_views(objectives.values())
        self.notes: dict[str, Tensor] = {}

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Named, unweighted losses of a batch; with several teachers the names are ``teacher/objective``."""
        grid = self.student.grid(*batch.clip.shape[2:])
        draw = Draw(self.seed, batch.position)
        splits = {view: view.split(grid, draw) for view in self.views}
        seen = {view: self.student(batch.clip, kept(view, splits)) for view in self.views}
        losses: dict[str, Tensor] = {}
        self.notes = {}
        for name in self.heads:
            latents = self._latents(name, batch, grid, draw, splits, seen)
            prefix = f"{name}/" if len(self.heads) > 1 else ""
            losses |= {prefix + key: objective(latents) for key, objective in self.objectives.items()}
            self.notes |= {prefix + key: note for key, note in latents.notes.items()}
            self.tokens = rows_of(latents.target)
        return losses

    def _latents(
        self,
        name: str,
        batch: Batch,
        grid: Grid,
        draw: Draw,
        splits: dict[View, Split],
        seen: dict[View, Tensor],
    ) -> Latents:
        """What the objectives get of one teacher: its standardised tokens, the student's projected ones."""
        tokens, common = self.target(name, batch.clip, grid)
        if common != grid:
            if any(view != Whole() for view in self.views):
                raise UserError(
                    f"the student's grid {tuple(grid)} and the teacher's {tuple(common)} differ: a share of "
                    "the tokens can only be matched where grids agree; use share 1, or another size"
                )
            splits = {view: view.split(common, draw) for view in self.views}

        def predict(view: View, query: Tensor) -> Tensor:
            if query is not splits[view].rest:
                raise ValueError(
                    "a distillation head answers for the tokens of the view alone: query its rest"
                )
            z = self.heads[name](seen[view])
            return z if common == grid else resample(z, grid, common)

        return Latents(common, self.standardisers[name](tokens), splits, seen, predict, batch.video)

    @torch.no_grad()
    def target(self, name: str, clip: Tensor, grid: Grid) -> tuple[Tensor, Grid]:
        """A teacher's tokens in its own units, and the grid they lie on (the student's where possible)."""
        tokens, native = shown(self.teachers[name], clip, grid)
        common = Grid(grid.t, max(grid.h, native.h), max(grid.w, native.w))
        return resample(tokens, native, common), common

    @torch.no_grad()
    def estimate(self, batches: Iterable[Batch]) -> dict[str, Moments]:
        """Moments of every teacher's tokens over some batches, for ``Standardiser.fit``."""
        moments: dict[str, Moments] = {}
        for batch in batches:
            grid = self.student.grid(*batch.clip.shape[2:])
            for name in self.teachers:
                tokens, _ = self.target(name, batch.clip, grid)
                moments.setdefault(name, Moments(tokens.shape[-1])).add(tokens)
        return moments

    def skip_step(self) -> None:
        """An update was not made (fp16 overflow): objectives drop what they kept for it."""
        tell(self.objectives, "skip_step")

    @torch.no_grad()
    def evaluate(self, batches: Iterable[Batch]) -> dict[str, float]:
        """Held-out agreement with each teacher, in its own units, beside the floor of its mean token.

        ``cosine`` and ``r2`` per token; ``cosine_floor`` is the cosine of the mean token (whose R² is 0 by
        definition), ``cosine_shuffled`` that of the right tokens in the wrong places.
        """
        self.eval()
        rows = [self._agreement(name, batch) for batch in batches for name in self.heads]
        self.train()
        means = averages(rows)
        if means:
            means["r2"] = 1 - means.pop("squared_error") / means.pop("variance")
        return means

    def score(self, scores: Mapping[str, float]) -> float:
        """The held-out cosine."""
        return scores["cosine"]

    def _agreement(self, name: str, batch: Batch) -> dict[str, Tensor]:
        grid, standardiser = self.student.grid(*batch.clip.shape[2:]), self.standardisers[name]
        target, common = self.target(name, batch.clip, grid)
        z = resample(standardiser.inverse(self.heads[name](self.student(batch.clip))), grid, common)
        mean = standardiser.mean_token.expand_as(target)
        if not standardiser.affine:
            target, mean = standardiser(target), standardiser(mean)
        shuffled = z[:, torch.randperm(z.shape[1], generator=torch.Generator().manual_seed(0))]
        return {
            "cosine": F.cosine_similarity(z, target, dim=-1).mean(),
            "cosine_floor": F.cosine_similarity(mean, target, dim=-1).mean(),
            "cosine_shuffled": F.cosine_similarity(shuffled, target, dim=-1).mean(),
            "squared_error": (z - target).square().mean(),
            "variance": (mean - target).square().mean(),
        }

    def after_step(self, step: int) -> None:
        """The teachers are frozen; only objectives may want to know."""
        tell(self.objectives, "after_step")

    def train(self, mode: bool = True) -> Distill:
        """As in torch, but the teachers always stay in eval mode."""
        super().train(mode)
        self.get_submodule("teachers").eval()
        return self
