"""Dynamics: every token says how its place will change, and what moves counts most."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from vjepa_distill.errors import UserError
from vjepa_distill.modules.masks import Whole
from vjepa_distill.objectives.context import weighted_l1
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
        target_dim: width of the targets, where it is not embed_dim.
    """

    def __init__(
        self,
        embed_dim: int,
        timeline: Timeline,
        steps: Sequence[int] = (1, 2, 4),
        weighting: float = 1.0,
        hidden: int = 0,
        target_dim: int | None = None,
    ) -> None:
        super().__init__()
        total = sum(timeline)
        self.steps = tuple(step for step in steps if step < total)
        if not self.steps or min(self.steps) < 1:
            raise UserError(f"steps={list(steps)}: give tubelets ahead from 1 to {total - 1}")
        if weighting < 0:
            raise UserError(f"weighting={weighting}: give 0 or more")
        self.weighting, self.view = weighting, Whole()
        out = (target_dim or embed_dim) * len(self.steps)
        inner = [nn.Linear(embed_dim, hidden), nn.GELU()] if hidden else []
        self.head = nn.Sequential(nn.LayerNorm(embed_dim), *inner, nn.Linear(hidden or embed_dim, out))

    def views(self) -> Sequence[View]:
        return (self.view,)

    def forward(self, latents: Latents) -> Tensor:
        said = self.head(latents.seen[self.view]).chunk(len(self.steps), dim=-1)
        pairs = [self._loss(latents, step, z) for step, z in zip(self.steps, said, strict=True)]
        loss, floor = torch.stack(pairs).mean(dim=0)
        latents.note("dynamics/skill", 1 - loss.detach() / floor.clamp_min(torch.finfo(floor.dtype).tiny))
        return loss

    def _loss(self, latents: Latents, step: int, said: Tensor) -> Tensor:
        """The loss of one step, and that of saying that nothing changes: [2]."""
        far = step * latents.grid.cells
        target = promote(latents.target)
        change = target[:, far:] - target[:, :-far]
        moved = change.abs().mean(dim=-1)
        share = moved / moved.mean(dim=1, keepdim=True).clamp_min(torch.finfo(moved.dtype).tiny)
        weights = share**self.weighting
        return torch.stack(
            [weighted_l1(z, change, weights) for z in (said[:, :-far], torch.zeros_like(change))]
        )
