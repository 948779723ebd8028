"""probe: how much of a column of labels can be read from frozen features, beside its floor."""

from __future__ import annotations

import json
from typing import Any, Literal

SUMMARY = "Score features against a column of a labels CSV (k-NN and linear)."


def add_arguments(parser: Any) -> None:
    """The options of probe."""
    add = parser.add_argument
    add("--features", required=True, help="What encode wrote.")
    add("--labels", required=True, help="A CSV file with a column named file.")
    add("--column", required=True, help="The column to read: text (accuracy) or numbers (R²).")
    add(
        "--exclude",
        default="",
        help="Columns, e.g. lab,date: rows that share them all do not help each other.",
    )
    add("--floor", default=None, type=str | None, help="Features of the same encoder with random weights.")
    add("--kind", type=Literal["auto", "text", "number"], default="auto", help="What the column holds.")
    add("--k", type=int, default=5, help="Neighbours.")
    add("--json", action="store_true", help="Machine-readable.")


def run(chosen: Any) -> int:
    """Print the table, or JSON."""
    from vjepa_distill.measures.probe import probe, render

    exclude = [column for column in chosen.exclude.split(",") if column]
    result = probe(
        chosen.features, chosen.labels, chosen.column, exclude, chosen.floor, kind=chosen.kind, k=chosen.k
    )
    if chosen.json:
        print(json.dumps(result, indent=1))
        return 0
    from rich.console import Console

    Console().print(render(result))
    return 0
