"""What stage 2 made, to be called: from NOW's frames the tokens of what comes, and how far off that was."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vjepa_distill.errors import UserError
from vjepa_distill.modules.bridge import Bridge
from vjepa_distill.modules.masks import Span
from vjepa_distill.modules.rivals import rivals
from vjepa_distill.stages.jepa import Jepa
from vjepa_distill.stages.sight import Sight
from vjepa_distill.tokens import Grid, promote

MEDIAN, HIGH = 0.5, 0.95
"""The shares of usual errors that a surprise of 0 and of 1 stand for."""
WORST = 0.25
"""Share of the cells, those furthest off, that count: what breaks is seldom as large as the picture."""
WINDOWS = 32
"""Forecasts made at a time while NOW slides over a clip."""


def worst(deviation: Tensor) -> Tensor:
    """The mean deviation of the worst quarter of the cells: [B, t, h, w] to [B, t].

    In the toy world a shape that jumps or vanishes was told from one that does not at AUROC 0.98 and 0.83; by
    the mean of all cells at 0.92 and 0.60.
    """
    cells = deviation.flatten(2)
    return cells.topk(max(1, round(WORST * cells.shape[2])), dim=2).values.mean(dim=2)


class Forecast(NamedTuple):
    """What is foretold of a clip from its first frames."""

    tokens: Tensor
    """[B, t, h, w, D]: SOON's tubelets, in the targets' space."""
    outcome: Tensor | None
    """[B, D]: the direction of EVENTUALLY's mean token, of length 1; None where it was not asked for."""


class Forecaster(Sight):
    """The world model of a run: student, predictor, outcome head, and the teacher whose tokens are foretold.

    Clips are float RGB [B, 3, T, H, W] in [0, 1]; tokens are in the targets' space: the teacher's,
    layer-normed, or another encoder's, standardised. Nothing here takes a gradient.

    Args:
        stage: what was trained; shared, not copied.
        frames: T of the clips it was trained on.
        outcome: the head of EVENTUALLY, if there is one.
        bridge: from the targets' space to the student's, for ``rollout``.
        usual: quantiles of errors by horizon [t, 2]: ``MEDIAN`` and ``HIGH``, for ``surprise``.
    """

    usual: Tensor

    def __init__(
        self,
        stage: Jepa,
        frames: int,
        outcome: nn.Module | None = None,
        bridge: Bridge | None = None,
        usual: Tensor | None = None,
    ) -> None:
        super().__init__(stage, frames)
        self.outcome = outcome
        dims = stage.predictor.out.out_features, stage.student.embed_dim
        self.bridge = bridge or Bridge(*dims)
        self.register_buffer(
            "usual", torch.full((self.timeline.soon, 2), torch.nan) if usual is None else usual
        )

    @torch.no_grad()
    def forecast(self, clip_now: Tensor) -> Forecast:
        """From NOW's frames [B, 3, T_now, H, W]: what comes SOON, and how it will be EVENTUALLY.

        What the stage predicts of the same clip in eval mode, to the last bit. UserError for other lengths.
        """
        self.check(clip_now, self.now_frames, "NOW's")
        grid = self.grid(*clip_now.shape[3:])
        seen, copy = self.context(clip_now, grid)
        tokens = self.predicted(seen, copy, grid, self.soon)
        if self.outcome is None:
            return Forecast(tokens, None)
        return Forecast(tokens, F.normalize(promote(self.outcome(seen)), dim=-1))

    @torch.no_grad()
    def rollout(self, clip_now: Tensor, steps: int) -> Tensor:
        """[B, steps · t, h, w, D]: SOON from NOW, then from the end of that what comes after, and so on.

        Each step the last tubelets, as many as NOW has, stand where NOW stood, and time moves on by SOON's
        length. Foretold tokens are read through ``bridge``, and copied by the anchor as they are.
        """
        self.check(clip_now, self.now_frames, "NOW's")
        if not isinstance(steps, int) or steps < 1:
            raise UserError(f"steps={steps!r}: give a whole number from 1")
        grid, now = self.grid(*clip_now.shape[3:]), self.timeline.now
        seen, copy = self.context(clip_now, grid)
        shape = (now, grid.h, grid.w)
        seen, copied = seen.unflatten(1, shape), None if copy is None else copy.unflatten(1, shape)
        found = []
        for _ in range(steps):
            flat = None if copied is None else copied.flatten(1, 3)
            found.append(self.predicted(seen.flatten(1, 3), flat, grid, self.soon))
            seen = torch.cat([seen, self.bridge(found[-1]).to(seen.dtype)], dim=1)[:, -now:]
            copied = None if copied is None else torch.cat([copied, found[-1]], dim=1)[:, -now:]
        return torch.cat(found, dim=1)

    @torch.no_grad()
    def targets(self, clip: Tensor) -> Tensor:
        """The teacher's tokens of a whole clip [B, 3, T, H, W], as in training: [B, t, h, w, D]."""
        self.check(clip, self.frames, "a whole clip's")
        grid = self.grid(*clip.shape[3:])
        return self.stage.target(clip, grid).unflatten(1, grid)

    @torch.no_grad()
    def rivals(self, clip_now: Tensor) -> dict[str, Tensor]:
        """What the teacher's tokens of NOW alone say of SOON for nothing: by name, [B, t, h, w, D]."""
        self.check(clip_now, self.now_frames, "NOW's")
        grid = self.grid(*clip_now.shape[3:])
        found = rivals(self.looked(clip_now, grid, self.now), self.timeline.soon, grid.cells)
        return {name: guess.unflatten(1, (-1, grid.h, grid.w)) for name, guess in found.items()}

    @torch.no_grad()
    def both(self, clip: Tensor) -> tuple[Tensor, Tensor]:
        """NOW's tokens in the targets' space [B, K, D'] and the student's [B, K, D], as ``bridge`` has it."""
        now, grid = clip[:, :, : self.now_frames], self.grid(*clip.shape[3:])
        seen, copy = self.context(now, grid)
        return self.looked(now, grid, self.now) if copy is None else copy, seen

    def surprise(self, clip: Tensor, horizon: int = 1) -> Tensor:
        """How far each tubelet of a clip [B, 3, T, H, W] lay from its forecast: [B, t]; T of any length.

        NOW slides over the clip, and every tubelet is foretold from the frames just before it (with `horizon`
        k from k tubelets before), so that nothing after a moment counts; of its cells the worst quarter do.
        0 is the median error of held-out videos, 1 their 95 % quantile; NaN before there is a forecast.
        """
        error = worst(self.deviation(clip, horizon))
        median, high = self.usual[horizon - 1]
        return (error - median) / (high - median).clamp_min(1e-12)

    @torch.no_grad()
    def deviation(self, clip: Tensor, horizon: int = 1, first: int = 0, every: int = 1) -> Tensor:
        """Mean absolute difference between forecast and target at every place: [B, t, h, w], NaN before any.

        first, every: NOW begins at these tubelets alone, and what none of them foretells is NaN.
        """
        self.check(clip, None, "its")
        ahead, soon = self.timeline.now + horizon, self.timeline.soon
        tubelets = clip.shape[2] // self.tubelet
        if not 1 <= horizon <= soon:
            raise UserError(f"horizon={horizon}: this run foretells 1 to {soon} tubelets")
        if clip.shape[2] % self.tubelet or tubelets < ahead:
            raise UserError(
                f"a clip of {clip.shape[2]} frames: give a multiple of {self.tubelet}, "
                f"and at least {ahead * self.tubelet}"
            )
        grid = self.grid(*clip.shape[3:])
        starts = range(first, tubelets - ahead + 1, every)
        found = torch.full((len(clip), tubelets, grid.h, grid.w), torch.nan, device=clip.device)
        for places, windows in self._windows(clip, starts, ahead):
            apart = self._apart(windows, grid, horizon).unflatten(0, (len(clip), -1))
            found[:, [place + ahead - 1 for place in places]] = apart.to(found.dtype)
        return found

    def _windows(self, clip: Tensor, starts: range, length: int) -> Iterator[tuple[range, Tensor]]:
        """Some starts and their stretches of `length` tubelets, [B · starts, 3, frames, H, W]."""
        each = max(1, WINDOWS // len(clip))
        for begin in range(0, len(starts), each):
            some = starts[begin : begin + each]
            cuts = [clip[:, :, at * self.tubelet : (at + length) * self.tubelet] for at in some]
            yield some, torch.stack(cuts, dim=1).flatten(0, 1)

    def _apart(self, windows: Tensor, grid: Grid, horizon: int) -> Tensor:
        """The error of the last tubelet of stretches [N, 3, frames, H, W], foretold from NOW: [N, h, w]."""
        now = self.timeline.now
        seen, copy = self.context(windows[:, :, : self.now_frames], grid)
        asked = Span(now + horizon - 1, now + horizon)
        said = self.predicted(seen, copy, grid, asked)[:, 0]
        shown = Span(now if self.stage.teacher_context == "segment" else 0, now + horizon)
        came = self.looked(windows, grid, shown)[:, -grid.cells :].unflatten(1, (grid.h, grid.w))
        return (promote(said) - came).abs().mean(dim=-1)
