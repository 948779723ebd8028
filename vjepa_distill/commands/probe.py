"""probe: how much of a column of labels can be read from frozen features, beside its floor."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any, Literal

from vjepa_distill.errors import UserError

SUMMARY = "Score features against columns of a labels CSV (k-NN and linear)."


def add_arguments(parser: Any) -> None:
    """The options of probe."""
    add = parser.add_argument
    add("--features", required=True, help="What encode wrote.")
    add("--labels", required=True, help="A CSV file with a column named file.")
    add("--column", required=True, help="What to read, e.g. a or a,b,c: text (accuracy) or numbers (R²).")
    add(
        "--exclude",
        default="",
        help="Columns, e.g. lab,date: rows that share them all do not help each other.",
    )
    add("--floor", default=None, type=str | None, help="Features of the same encoder with random weights.")
    add("--kind", type=Literal["auto", "text", "number"], default="auto", help="What the columns hold.")
    add("--k", type=int, default=5, help="Neighbours.")
    add("--json", action="store_true", help="Machine-readable.")


def run(chosen: Any) -> int:
    """Print one table, or JSON: of one column its result, of several a list."""
    from vjepa_distill.measures.probe import probe_columns, render

    exclude = [column for column in chosen.exclude.split(",") if column]
    columns = columns_of(chosen.column, chosen.labels)
    results = probe_columns(
        chosen.features, chosen.labels, columns, exclude, chosen.floor, kind=chosen.kind, k=chosen.k
    )
    if chosen.json:
        print(json.dumps(results if len(results) > 1 else results[0], indent=1))
        return 0
    from rich.console import Console

    Console().print(render(results))
    return 0


def columns_of(text: str, labels: Path | str) -> list[str]:
    """The columns of "a,b,c", or the text itself where it is a column; UserError where a name is bad."""
    from vjepa_distill.measures.table import read_labels

    names = [name.strip() for name in text.split(",")]
    if len(names) == 1 or text in next(iter(read_labels(labels, []).values()), {}):
        return [text]
    once = [name for name in dict.fromkeys(names) if name]
    if once != names:
        fault = "an empty name" if "" in names else "a name twice"
        better = shlex.quote(",".join(once)) if once else "NAME,NAME"
        raise UserError(f"--column {text} holds {fault}: type --column {better}")
    return names
