"""Retain: what the student knew can still be read from its tokens, while it learns something new."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vjepa_distill.errors import UserError
from vjepa_distill.modules.masks import Layout, Span, Whole, short_and_long
from vjepa_distill.objectives.distances import DISTANCES
from vjepa_distill.protocols import Latents, Timeline, View
from vjepa_distill.tokens import promote, take


class Retain(nn.Module):
    """The teacher's tokens of the whole clip are said by the student's, through a linear map.

    With ``targets.kind frozen`` the teacher is the student as the run started, and this holds on to what it
    knew, while the map leaves room for more beside it: distillation from one's own past (Learning without
    Forgetting: Li and Hoiem, arXiv 1606.09282) through a projector (CaSSLe: Fini et al., arXiv 2112.04215).
    Tokens are layer-normed as the targets are. Where widths are equal the map starts as identity, so that
    the loss starts at zero.

    With ``parts`` they are also said by what the student makes of NOW alone, and of what the masks leave:
    half of the loss. An encoder that was never shown parts of clips makes other tokens of them, and a
    predictor can only guess from what it is given. These are the losses on visible tokens of V-JEPA 2.1
    (Mur-Labadia et al., arXiv 2603.14482) without its predictor; with NOW's masks they cost no further pass.

    Args:
        distance: of ``objectives.distances``, as for ``match``.
        free: whether the map is learned; else the tokens themselves are held.
        parts: whether parts of clips count, too.
        short, long, aspect, layout: of the masks, as for ``now``.
        target_dim: width of the targets, where it is not embed_dim.
    """

    def __init__(
        self,
        embed_dim: int,
        timeline: Timeline,
        distance: Literal["cosine+smooth_l1", "cosine", "smooth_l1", "l1", "mse"] = "mse",
        free: bool = True,
        parts: bool = False,
        short: Sequence[float] = (8, 0.15),
        long: Sequence[float] = (2, 0.7),
        aspect: Sequence[float] = (0.75, 1.5),
        layout: Layout = "exact",
        target_dim: int | None = None,
    ) -> None:
        super().__init__()
        if distance not in DISTANCES:
            raise UserError(f"distance={distance}: give one of {', '.join(DISTANCES)}")
        width = target_dim or embed_dim
        if not free and width != embed_dim:
            raise UserError(f"free=false holds tokens of width {embed_dim} to targets of {width}: give true")
        masks = short_and_long(short, long, aspect, layout)
        self.parts: tuple[View, ...] = (Span(0, timeline.now), *masks) if parts else ()
        self.whole, self.distance = Whole(), DISTANCES[distance]
        self.map = nn.Linear(embed_dim, width) if free else nn.Identity()
        if isinstance(self.map, nn.Linear) and width == embed_dim:
            nn.init.eye_(self.map.weight)
            nn.init.zeros_(self.map.bias)

    def views(self) -> Sequence[View]:
        return (self.whole, *self.parts)

    def forward(self, latents: Latents) -> Tensor:
        whole = self._apart(latents, self.whole)
        if not self.parts:
            return whole
        return (whole + torch.stack([self._apart(latents, view) for view in self.parts]).mean()) / 2

    def _apart(self, latents: Latents, view: View) -> Tensor:
        """How far the student's tokens of a view are from the teacher's at the same places."""
        tokens = promote(latents.seen[view])
        said = self.map(F.layer_norm(tokens, tokens.shape[-1:]))
        return self.distance(said, take(latents.target, latents.splits[view].keep))
