"""Where a run stands: its scores on the held-out clips, the one they make, and the step where it was best."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from vjepa_distill.distributed import Ranks, all_mean
from vjepa_distill.protocols import Batch, Stage
from vjepa_distill.training.health import effective_rank
from vjepa_distill.training.optim import Precision


def evaluate(
    stage: Stage,
    heldout: Sequence[Batch],
    ranks: Ranks,
    device: torch.device,
    how: Precision,
    watched: bool = False,
) -> dict[str, float]:
    """The stage's scores, each rank on its share of the batches: the mean over ranks by number of batches.

    What a rank finds from all its clips together (rank, direction of play) it finds from its share alone, so
    such a number depends a little on how many ranks there are; a share is the same at every evaluation.
    watched: add "rank", the effective rank of the tokens that the stage's evaluation leaves behind.
    """
    count, world = len(heldout), ranks.world
    mine = range(ranks.rank, count, world) if count >= world else range(count)
    with how.guard("evaluate"), how.autocast():
        scores = stage.evaluate(heldout[i].to(device) for i in mine)
    if watched:
        scores = scores | {"rank": effective_rank(stage.tokens)}
    counted = torch.tensor([*scores.values(), 1.0], dtype=torch.float64, device=device) * len(mine)
    *sums, total = all_mean(counted).tolist()
    return {name: value / total for name, value in zip(scores, sums, strict=True)}


@dataclass(frozen=True)
class Judged:
    """A step of the run and its score; more is better."""

    step: int
    score: float


class Standing:
    """The score of the last evaluation and of the best; the same on all ranks."""

    def __init__(self) -> None:
        self.best: Judged | None = None
        self.last: Judged | None = None
        self.first_rank: float | None = None
        """The effective rank at the first evaluation, of which later ones are a share."""

    def scored(
        self, stage: Stage, scores: dict[str, float], weights: Mapping[str, float]
    ) -> dict[str, float]:
        """The scores of an evaluation, and what is made of them.

        "loss": the weighted sum, where the stage scores its losses; "rank_kept": the rank as a share of that
        at the first evaluation, at most 1; "score": the stage's own judgement of all of these, NaN where one
        of them is.
        """
        whole = dict(scores)
        if all(name in scores for name in weights):
            whole["loss"] = sum(weight * scores[name] for name, weight in weights.items())
        if "rank" in scores:
            whole["rank_kept"] = self._rank_kept(scores["rank"])
        broken = any(math.isnan(score) for score in whole.values())
        return whole | {"score": math.nan if broken else stage.score(whole)}

    def _rank_kept(self, rank: float) -> float:
        if math.isnan(rank):
            return rank
        self.first_rank = rank if self.first_rank is None else self.first_rank
        return min(1.0, rank / self.first_rank) if self.first_rank else 0.0

    def take(self, step: int, score: float, sound: bool) -> bool:
        """Whether this is better than all before; where something was wrong, or with no number, it is not."""
        self.last = Judged(step, score)
        better = self.best is None or score > self.best.score
        if not (sound and better and math.isfinite(score)):
            return False
        self.best = self.last
        return True

    def words(self) -> str:
        """Which step was the best, and how the last compares with it."""
        if self.best is None:
            why = "there was trouble at every score (see the WARNING lines)"
            return "no best is kept: " + (why if self.last else "no held-out score so far")
        said = f"best: step {self.best.step}, score {self.best.score:.4g}"
        if self.last is None or self.last == self.best:
            return f"{said}, the last one"
        return f"{said}; the last, step {self.last.step}, has {self.last.score:.4g}"

    def state_dict(self) -> dict[str, Any]:
        """Plain types, for a checkpoint."""
        judged = {
            name: asdict(one) if one else None for name, one in (("best", self.best), ("last", self.last))
        }
        return {**judged, "first_rank": self.first_rank}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The other half of state_dict; nothing for a run of a version that kept none."""
        for name in ("best", "last"):
            setattr(self, name, Judged(**state[name]) if state.get(name) else None)
        self.first_rank = state.get("first_rank")
