"""What both stages do alike: hold named parts, collect views, sample the teacher's tokens, average scores."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar, cast

from torch import Tensor, nn

from vjepa_distill.modules.masks import Whole
from vjepa_distill.protocols import Objective, Split, View

SAMPLE = 2048
"""Tokens looked at for rank and spread: enough for a stable RankMe at D = 1024, and a cheap SVD."""


Part = TypeVar("Part")


def registered(parts: Mapping[str, Part]) -> Mapping[str, Part]:
    """The parts as an ``nn.ModuleDict``: moved, saved and trained with the module that holds them.

    They are modules by contract but read by what else they are, and no type says both: hence the cast.
    """
    modules: Any = parts
    return cast(Mapping[str, Part], nn.ModuleDict(modules))


def distinct_views(objectives: Iterable[Objective]) -> list[View]:
    """Every view that any objective asks for, once, in the order first asked."""
    return list(dict.fromkeys(view for objective in objectives for view in objective.views()))


def kept(view: View, splits: Mapping[View, Split]) -> Tensor | None:
    """None for the whole clip: the encoder need not gather what it keeps anyway."""
    return None if view == Whole() else splits[view].keep


def rows_of(tokens: Tensor) -> Tensor:
    """At most ``SAMPLE`` tokens, spread evenly over batch and grid: [N, D], detached."""
    rows = tokens.detach().flatten(0, 1)
    return rows[:: max(1, len(rows) // SAMPLE)][:SAMPLE]


def averages(rows: Iterable[Mapping[str, Tensor]]) -> dict[str, float]:
    """The mean of every named scalar over batches."""
    rows = list(rows)
    return {name: sum(float(row[name]) for row in rows) / len(rows) for name in (rows[0] if rows else ())}


def tell(objectives: Mapping[str, Objective], event: str) -> None:
    """Call the method of that name, which an objective may have, on each: what became of an update."""
    for objective in objectives.values():
        getattr(objective, event, lambda: None)()
