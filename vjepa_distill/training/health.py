"""Is it learning? Skill, effective rank, spread, retrieval, and a watch that warns of collapse and stops."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vjepa_distill.distributed import all_true, gather

# The tokens of one clip are far from independent, and the rank is
# taken at every log: 0.05 s for 2048 x 768 on 2 cores.
ROWS = 2048


class Collapsed(RuntimeError):
    """The teacher's tokens have become nearly the same everywhere: going on would train on nothing."""


def effective_rank(tokens: Tensor) -> float:
    """RankMe (Garrido et al. 2023, arXiv 2210.02885) of [N, D]: exp(entropy of the singular values' shares).

    Between 1 (all rows on one line through the origin) and min(N, D); not centred, as published. The singular
    values are the roots of the Gram matrix's eigenvalues, in fp64: cheaper than an SVD of the rows, and exact
    to 1e-8 of the largest, which the entropy does not see. NaN where a number is not finite.
    """
    x = tokens.detach().double()
    if not bool(torch.isfinite(x).all()):
        return math.nan  # the decomposition would raise
    gram = x.T @ x if x.shape[0] >= x.shape[1] else x @ x.T
    values = torch.linalg.eigvalsh(gram).clamp_min(0).sqrt()
    share = values / values.sum()
    share = share[share > 1e-12]
    return math.exp(-(share * share.log()).sum().item()) if len(share) else 0.0


def per_dimension_std(tokens: Tensor) -> float:
    """Standard deviation over the rows of [N, D], averaged over channels; 0 when all rows are equal."""
    return tokens.detach().float().std(dim=0, correction=0).mean().item()


def mean_share(tokens: Tensor) -> float:
    """Share of the energy of [N, D] in its mean row: 0 when centred, 1 when all rows are equal."""
    x = tokens.detach().float()
    return (x.mean(dim=0).square().sum() / x.square().sum(dim=1).mean()).item()


def measure(tokens: Tensor) -> dict[str, float]:
    """Rank, std and mean share of tokens [B, L, D] (or [N, D]), an even sample of the rows of all ranks.

    A collective: all ranks call it and get the same numbers, so a decision made from them is the same.
    """
    rows = tokens.detach().flatten(0, -2)
    rows = gather(rows[:: max(1, len(rows) // ROWS)][:ROWS].float())
    return {"rank": effective_rank(rows), "std": per_dimension_std(rows), "mean_share": mean_share(rows)}


class Watch:
    """Warns when rank or std stay below their floors for `warn` logs in a row, stops after `stop`.

    rank: floor of the effective rank; a collapsing teacher passes 3 on its way to 1, a working one has tens.
    std: floor of the per-dimension std, for layer-normed tokens, whose own scale is 1.
    stop: 0 never stops.
    """

    def __init__(self, rank: float = 3.0, std: float = 0.05, warn: int = 3, stop: int = 10):
        self.rank, self.std, self.warn, self.stop = rank, std, warn, stop
        self.low = 0

    def fine(self, rank: float, std: float) -> bool:
        """Whether no floor is broken, on any rank. A collective; NaN is not fine."""
        return all_true(rank >= self.rank and std >= self.std)

    def update(self, rank: float, std: float) -> str:
        """Takes one log's numbers; returns a warning or "". Raises Collapsed at the end of patience."""
        self.low = 0 if self.fine(rank, std) else self.low + 1
        if self.stop and self.low >= self.stop:
            raise Collapsed(
                f"{self._words(rank, std)} (lower the learning rate, raise the EMA half-life, or start from "
                "a distilled student, --init RUN)"
            )
        return self._words(rank, std) if self.low and self.low % self.warn == 0 else ""

    def _words(self, rank: float, std: float) -> str:
        return (
            f"collapse: the teacher's tokens have effective rank {rank:.1f} (floor {self.rank:g}) and "
            f"std {std:.3f} (floor {self.std:g}), for {self.low} logs in a row"
        )

    def state_dict(self) -> dict[str, int]:
        """How long it has been low, for a checkpoint."""
        return {"low": self.low}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """The other half of state_dict."""
        self.low = state["low"]
