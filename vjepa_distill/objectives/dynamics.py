"""Dynamics: every token says how its place will change, or its moment, and what moves counts most."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vjepa_distill.errors import UserError
from vjepa_distill.modules.masks import Whole
from vjepa_distill.objectives.context import weighted
from vjepa_distill.protocols import Latents, Timeline, View
from vjepa_distill.tokens import promote


class Dynamics(nn.Module):
    """The change of the teacher's tokens from a tubelet to a later one, read from the student's by an MLP.

    A target token minus that of the same cell some tubelets before is said by the earlier one of the
    student, which sees the whole clip. Each place counts by how much it changes, as a share of its clip's
    mean change, because in most videos most places stand still (hard-region weighting and latent dynamics:
    Adhikari 2026, arXiv 2605.17165). Its rival says that nothing changes.

    Args:
        steps: how many tubelets later; each has an output of its own.
        weighting: power of the change in the weights; 0: every place counts the same.
        hidden: width of the MLP's inner layer; 0: one linear layer.
        of: every place of the grid (``places``), or each tubelet's mean token alone (``tubelets``), as
            those read it who pool: ways of moving that cancel out over the picture do not count then.
        distance: between what is said and the change: ``l1``, or 1 - ``cosine``, which asks for the direction
            of the change and not for its size.
        target_dim: width of the targets, where it is not embed_dim.
    """

    def __init__(
        self,
        embed_dim: int,
        timeline: Timeline,
        steps: Sequence[int] = (1, 2, 4),
        weighting: float = 1.0,
        hidden: int = 0,
        of: Literal["places", "tubelets"] = "places",
        distance: Literal["l1", "cosine"] = "l1",
        target_dim: int | None = None,
    ) -> None:
        super().__init__()
        total = sum(timeline)
        self.steps = tuple(step for step in steps if step < total)
        if not self.steps or min(self.steps) < 1:
            raise UserError(f"steps={list(steps)}: give tubelets ahead from 1 to {total - 1}")
        if weighting < 0:
            raise UserError(f"weighting={weighting}: give 0 or more")
        if of not in ("places", "tubelets"):
            raise UserError(f"of={of}: give places or tubelets")
        if distance not in AWAY:
            raise UserError(f"distance={distance}: give {' or '.join(AWAY)}")
        self.weighting, self.view = weighting, Whole()
        self.of, self.away = of, AWAY[distance]
        out = (target_dim or embed_dim) * len(self.steps)
        inner = [nn.Linear(embed_dim, hidden), nn.GELU()] if hidden else []
        self.head = nn.Sequential(nn.LayerNorm(embed_dim), *inner, nn.Linear(hidden or embed_dim, out))

    def views(self) -> Sequence[View]:
        return (self.view,)

    def forward(self, latents: Latents) -> Tensor:
        seen, target, cells = latents.seen[self.view], promote(latents.target), latents.grid.cells
        if self.of == "tubelets":
            seen, target = (z.unflatten(1, (-1, cells)).mean(dim=2) for z in (seen, target))
            cells = 1
        said = self.head(seen).chunk(len(self.steps), dim=-1)
        pairs = [self._loss(target, step * cells, z) for step, z in zip(self.steps, said, strict=True)]
        loss, floor = torch.stack(pairs).mean(dim=0)
        latents.note("dynamics/skill", 1 - loss.detach() / floor.clamp_min(torch.finfo(floor.dtype).tiny))
        return loss

    def _loss(self, target: Tensor, far: int, said: Tensor) -> Tensor:
        """The loss of saying the change to `far` tokens on, and that of saying that there is none: [2]."""
        change = target[:, far:] - target[:, :-far]
        moved = change.abs().mean(dim=-1)
        share = moved / moved.mean(dim=1, keepdim=True).clamp_min(torch.finfo(moved.dtype).tiny)
        weights = share**self.weighting
        return torch.stack(
            [
                weighted(self.away(promote(z), change), weights)
                for z in (said[:, :-far], torch.zeros_like(change))
            ]
        )


def _l1(z: Tensor, change: Tensor) -> Tensor:
    return (z - change).abs().mean(dim=-1)


def _cosine(z: Tensor, change: Tensor) -> Tensor:
    """1 - cosine similarity; 1 where one of both is zero."""
    return 1 - F.cosine_similarity(z, change, dim=-1)


AWAY = {"l1": _l1, "cosine": _cosine}
"""Distances of [B, M, D] and [B, M, D], one a token: [B, M]."""
