"""Match: every student token becomes the teacher's token at the same place (stage 1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

from vjepa_distill.modules.masks import Sample, Whole
from vjepa_distill.objectives.distances import DISTANCES
from vjepa_distill.protocols import Latents, Timeline, View
from vjepa_distill.tokens import take


class Match(nn.Module):
    """A distance per token between the student's projected tokens and the teacher's standardised ones.

    ``share`` below 1 lets the student see only that part of the tokens and takes the loss on those alone.
    """

    def __init__(
        self,
        embed_dim: int,
        timeline: Timeline | None = None,
        distance: Literal["cosine+smooth_l1", "cosine", "smooth_l1", "l1", "mse"] = "cosine+smooth_l1",
        share: float = 1.0,
    ) -> None:
        super().__init__()
        if not 0 < share <= 1:
            raise ValueError(
                f"share={share}: the share of tokens the student sees lies above 0 and at most at 1"
            )
        if distance not in DISTANCES:
            raise ValueError(f"distance={distance!r} is not one of {', '.join(DISTANCES)}")
        self.distance = DISTANCES[distance]
        self.view: View = Whole() if share == 1 else Sample(share)

    def views(self) -> Sequence[View]:
        return (self.view,)

    def forward(self, latents: Latents) -> Tensor:
        query = latents.splits[self.view].rest
        return self.distance(latents.predict(self.view, query), take(latents.target, query))
