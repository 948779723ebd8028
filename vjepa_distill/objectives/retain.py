"""Retain: what the student knew can still be read from its tokens, while it learns something new."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from vjepa_distill.errors import UserError
from vjepa_distill.modules.masks import Whole
from vjepa_distill.objectives.distances import l1, mse
from vjepa_distill.protocols import Latents, Timeline, View
from vjepa_distill.tokens import promote


class Retain(nn.Module):
    """The teacher's tokens of the whole clip are said by the student's of the same, through a linear map.

    With ``targets.kind frozen`` the teacher is the student as the run started, and this holds on to what it
    knew, while the map leaves room for more beside it: distillation from one's own past (Learning without
    Forgetting: Li and Hoiem, arXiv 1606.09282) through a projector (CaSSLe: Fini et al., arXiv 2112.04215).
    Tokens are layer-normed as the targets are. Where widths are equal the map starts as identity, so that
    the loss starts at zero.

    Args:
        distance: ``mse`` or ``l1``.
        free: whether the map is learned; else the tokens themselves are held.
        target_dim: width of the targets, where it is not embed_dim.
    """

    def __init__(
        self,
        embed_dim: int,
        timeline: Timeline,
        distance: Literal["mse", "l1"] = "mse",
        free: bool = True,
        target_dim: int | None = None,
    ) -> None:
        super().__init__()
        if distance not in DISTANCES:
            raise UserError(f"distance={distance}: give {' or '.join(DISTANCES)}")
        width = target_dim or embed_dim
        if not free and width != embed_dim:
            raise UserError(f"free=false holds tokens of width {embed_dim} to targets of {width}: give true")
        self.view, self.distance = Whole(), DISTANCES[distance]
        self.map = nn.Linear(embed_dim, width) if free else nn.Identity()
        if isinstance(self.map, nn.Linear) and width == embed_dim:
            nn.init.eye_(self.map.weight)
            nn.init.zeros_(self.map.bias)

    def views(self) -> Sequence[View]:
        return (self.view,)

    def forward(self, latents: Latents) -> Tensor:
        tokens = promote(latents.seen[self.view])
        said = self.map(F.layer_norm(tokens, tokens.shape[-1:]))
        return self.distance(said, latents.target)


DISTANCES = {"mse": mse, "l1": l1}
