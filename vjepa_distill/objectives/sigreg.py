"""SIGReg: tokens keep the shape of an isotropic Gaussian, so that they cannot collapse."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from vjepa_distill.distributed import gather_with_grad
from vjepa_distill.errors import UserError
from vjepa_distill.modules.masks import Span
from vjepa_distill.protocols import Latents, Timeline, View
from vjepa_distill.tokens import promote

REACH, KNOTS = 5.0, 17  # of the integral over the characteristic function's argument


class SIGReg(nn.Module):
    """Sketched isotropic Gaussian regularisation (LeJEPA: Balestriero & LeCun 2025, arXiv 2511.08544).

    The student's tokens of NOW are projected on random directions, and each projection is compared with a
    standard normal by Epps and Pulley's statistic: the squared difference of the characteristic functions,
    integrated under a Gaussian window. The directions are new at every update and the same on all ranks,
    and so are the places whose tokens are looked at.

    Args:
        directions: random projections an update.
        rows: tokens of a clip that are looked at, at most, at random places, the same ones in every clip.
    """

    count: Tensor

    def __init__(
        self,
        embed_dim: int,
        timeline: Timeline,
        directions: int = 256,
        rows: int = 32,
        target_dim: int | None = None,  # any: it looks at the student alone
    ) -> None:
        super().__init__()
        if directions < 1 or rows < 1:
            raise UserError(f"directions={directions} and rows={rows}: give 1 or more of each")
        self.directions, self.rows = directions, rows
        self.now = Span(0, timeline.now)
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    def views(self) -> Sequence[View]:
        return (self.now,)

    def forward(self, latents: Latents) -> Tensor:
        tokens = promote(latents.seen[self.now])
        draw = torch.Generator().manual_seed(int(self.count))
        tokens = tokens[:, torch.randperm(tokens.shape[1], generator=draw)[: self.rows].to(tokens.device)]
        if self.training:
            tokens = gather_with_grad(tokens)
        rows = tokens.flatten(0, 1)
        with torch.autocast(rows.device.type, enabled=False):
            return epps_pulley(rows @ self._directions(rows, draw)).mean()

    def _directions(self, rows: Tensor, draw: torch.Generator) -> Tensor:
        """[D, directions], each of length 1; the draw is keyed by the number of updates made."""
        drawn = torch.randn(rows.shape[1], self.directions, generator=draw, dtype=torch.float64)
        return (drawn / drawn.norm(dim=0)).to(rows)

    def after_step(self) -> None:
        """New directions from now on."""
        self.count += 1


def epps_pulley(samples: Tensor) -> Tensor:
    """How far the columns of [N, M] are from a standard normal each: [M], 0 for N → ∞ where they are one.

    ∫ |φ_N(t) - exp(-t²/2)|² exp(-t²/2) dt by the trapezoid rule (Epps & Pulley 1983). Not multiplied by N,
    so that its weight means the same for every batch size.
    """
    t = torch.linspace(-REACH, REACH, KNOTS, dtype=samples.dtype, device=samples.device)
    normal = torch.exp(-(t**2) / 2)
    angle = samples[..., None] * t
    real, imaginary = angle.cos().mean(dim=0), angle.sin().mean(dim=0)
    return torch.trapezoid(((real - normal) ** 2 + imaginary**2) * normal, t, dim=-1)
