"""From what ``evaluate --compare`` wrote to tables: runs on the same videos, and what one has more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vjepa_distill.pages.contents import RunFacts
from vjepa_distill.pages.evaluated import RIVALS
from vjepa_distill.pages.numbers import signed
from vjepa_distill.pages.tables import NAMES, PROBES, READ, Cell, Table


def tables(runs: Sequence[RunFacts]) -> list[Table]:
    """One table for each run that was compared with others."""
    made = [_table(run.comparison, run.name if len(runs) > 1 else "") for run in runs if run.comparison]
    return [table for table in made if table.rows]


def _table(told: Mapping[str, Any], name: str) -> Table:
    first, *others = told["runs"]
    rows = []
    for row in told["differences"]:
        pairs = {pair["run"]: pair for pair in row["pairs"]}
        rows.append(
            [measure(row["what"]), Cell(f"{row['base']:.3f}"), *(more(pairs.get(one)) for one in others)]
        )
    words = (
        "Each score less that of the first run on the same videos, and the 95 % interval of the difference; "
        "bold where that lies clear of 0."
    )
    title = f"Beside other runs: {name}" if name else "Beside other runs"
    return Table(title, words, ["", first, *(f"{one}: more" for one in others)], rows)


def measure(what: str) -> Cell:
    """time/direction/mean in words."""
    kind, _, rest = what.partition("/")
    name, _, read = rest.rpartition("/")
    if kind == "time":
        return Cell(PROBES.get(name, name), READ.get(read, read))
    if kind == "labels":
        return Cell(name, NAMES.get(read, read))
    if kind == "eventually":
        return Cell("EVENTUALLY’s retrieval", f"among {rest}")
    if kind != "horizon":
        return Cell(what)
    rival, _, step = rest.partition("/")
    told = RIVALS.get(rival, rival)
    return Cell("SOON’s skill", f"{told}, {step} ahead" if step else told)


def more(pair: Mapping[str, Any] | None) -> Cell:
    """A difference with its interval; strong where that, as it is told, lies clear of 0."""
    if pair is None:
        return Cell("–")
    low, high = round(float(pair["low"]), 3), round(float(pair["high"]), 3)
    return Cell(signed(pair["score"], 3), f"{signed(low, 3)} to {signed(high, 3)}", low > 0 or high < 0)
