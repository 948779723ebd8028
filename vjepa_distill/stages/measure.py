"""What both stages measure alike: the distinct views, a sample of the teacher's tokens, averages over batches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import Tensor

from vjepa_distill.protocols import Objective, View

SAMPLE = 2048
"""Tokens looked at for rank and spread: enough for a stable RankMe at D = 1024, and a cheap SVD."""


def distinct_views(objectives: Iterable[Objective]) -> list[View]:
    """Every view that any objective asks for, once, in the order first asked."""
    return list(dict.fromkeys(view for objective in objectives for view in objective.views()))


def rows_of(tokens: Tensor) -> Tensor:
    """At most ``SAMPLE`` tokens, spread evenly over batch and grid: [N, D], detached."""
    rows = tokens.detach().flatten(0, 1)
    return rows[:: max(1, len(rows) // SAMPLE)][:SAMPLE]


def averages(rows: Iterable[Mapping[str, Tensor]]) -> dict[str, float]:
    """The mean of every named scalar over batches."""
    rows = list(rows)
    return {name: sum(float(row[name]) for row in rows) / len(rows) for name in (rows[0] if rows else ())}
