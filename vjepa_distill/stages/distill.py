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
from vjepa_distill.stages.measure import averages, distinct_views, registered, rows_of, tell
from vjepa_distill.tokens import Grid, promote, resample

LARGEST_CELL = 64  # pixels; a teacher with a larger one is shown the clip's own size


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
        seen = {view: self.student(batch.clip, _keep(view, splits)) for view in self.views}
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
        teacher = self.teachers[name]
        clip = fitted(teacher, clip, grid)
        native = teacher.grid(*clip.shape[2:])
        common = Grid(grid.t, max(grid.h, native.h), max(grid.w, native.w))
        return resample(promote(teacher(clip)), native, common), common

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


def _keep(view: View, splits: Mapping[View, Split]) -> Tensor | None:
    """None for the whole clip: the encoder need not gather what it keeps anyway."""
    return None if view == Whole() else splits[view].keep


def fitted(teacher: Backbone, clip: Tensor, grid: Grid) -> Tensor:
    """The clip resized so that the teacher's grid has the student's height and width, where the teacher can.

    clip [B, 3, T, H, W] to [B, 3, T, H', W']; unchanged where grids agree already or no size makes them.
    """
    frames, height, width = clip.shape[2:]
    size = fitting(teacher, frames, height, width, grid)
    if size == (height, width):
        return clip
    pictures = F.interpolate(clip.transpose(1, 2).flatten(0, 1), size=size, mode="bilinear", antialias=True)
    return pictures.unflatten(0, (-1, frames)).transpose(1, 2)


def fitting(teacher: Backbone, frames: int, height: int, width: int, grid: Grid) -> tuple[int, int]:
    """The size a teacher is shown: one that gives it the student's rows and columns, else the clip's own.

    UserError where it takes neither.
    """
    try:
        native = teacher.grid(frames, height, width)
    except ValueError as problem:
        cells = sorted(range(1, LARGEST_CELL + 1), key=lambda cell: abs(cell - height / grid.h))
        sizes = [(grid.h * cell, grid.w * cell) for cell in cells]
        found = next((size for size in sizes if _makes(teacher, grid, frames, *size)), None)
        if found is None:
            raise UserError(
                f"the teacher does not take clips of {frames} frames of {height} x {width}: {problem}. "
                "Type --data.num_frames and --data.size that both it and the student take"
            ) from problem
        return found
    if (native.h, native.w) == (grid.h, grid.w):
        return height, width
    size = height * grid.h // native.h, width * grid.w // native.w
    return size if _makes(teacher, grid, frames, *size) else (height, width)


def _makes(teacher: Backbone, grid: Grid, frames: int, height: int, width: int) -> bool:
    try:
        made = teacher.grid(frames, height, width)
    except ValueError:  # the contract's way of saying "not this size"
        return False
    return (made.h, made.w) == (grid.h, grid.w)
