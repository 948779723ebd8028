"""How the models of stage 2 look at a part of a clip as they did in training: each token in its place."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from vjepa_distill.errors import UserError
from vjepa_distill.modules.masks import Span
from vjepa_distill.stages.jepa import Jepa
from vjepa_distill.tokens import Grid

EDGE = 0.1
"""How far values may lie outside [0, 1]: resizing can overshoot."""


class Sight(nn.Module):
    """A stage, and the spans of its clips of so many frames."""

    def __init__(self, stage: Jepa, frames: int) -> None:
        super().__init__()
        self.stage, self.timeline, self.frames = stage, stage.timeline, frames
        self.tubelet = frames // sum(stage.timeline)
        self.now = Span(0, self.timeline.now)
        self.soon = Span(self.timeline.now, self.timeline.now + self.timeline.soon)

    @property
    def now_frames(self) -> int:
        """How many frames NOW is."""
        return self.timeline.now * self.tubelet

    def grid(self, H: int, W: int) -> Grid:
        """The grid of a whole clip of H by W pixels."""
        return self.stage.student.grid(self.frames, H, W)

    def context(self, clip_now: Tensor, grid: Grid) -> tuple[Tensor, Tensor | None]:
        """The student's tokens of NOW [B, K, D], and what the anchor copies, if there is one."""
        clip = self.padded(clip_now)
        seen = self.stage.student(clip, self.now.indices(grid, len(clip), clip.device))
        if self.stage.predictor.anchor is None:
            return seen, None
        return seen, self.stage.through_head(seen) if self.stage.other else self.looked(clip, grid, self.now)

    def predicted(self, seen: Tensor, copy: Tensor | None, grid: Grid, asked: Span) -> Tensor:
        """The tokens of some tubelets, foretold from tokens that stand where NOW does: [B, t, h, w, D]."""
        keep, query = (span.indices(grid, len(seen), seen.device) for span in (self.now, asked))
        return self.stage.predictor(seen, keep, query, grid, copy).unflatten(1, (-1, grid.h, grid.w))

    def looked(self, clip: Tensor, grid: Grid, span: Span) -> Tensor:
        """The teacher's tokens of some tubelets and of nothing else, scaled: [B, K, D]."""
        return self.stage.scaled(self.stage.eye.span(self.padded(clip), grid, span))

    def padded(self, clip: Tensor) -> Tensor:
        """A clip with black frames behind, which nobody looks at: a tubelet has its place in a whole one."""
        missing = self.frames - clip.shape[2]
        return F.pad(clip, (0, 0, 0, 0, 0, missing)) if missing else clip

    def check(self, clip: Any, frames: int | None, whose: str) -> None:
        """UserError for what is no clip of so many frames (None: of any number)."""
        count = f" {frames}" if frames else ""
        due = f"give {whose}{count} frames as float RGB in [0, 1], [B, 3,{count or ' T'}, H, W]"
        if not isinstance(clip, Tensor):
            raise UserError(f"a clip that is a {type(clip).__name__} and no torch.Tensor: {due}")
        right = clip.ndim == 5 and clip.shape[1] == 3 and frames in (None, clip.shape[2])
        if not right or not clip.is_floating_point() or not clip.numel():
            raise UserError(f"a clip of {clip.dtype} {tuple(clip.shape)}: {due}")
        low, high = (value.item() for value in clip.detach().aminmax())
        if not -EDGE <= low <= high <= 1 + EDGE:
            raise UserError(f"a clip with values from {low:g} to {high:g}: {due}")
