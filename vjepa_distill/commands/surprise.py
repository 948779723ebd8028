"""surprise: when something unusual happens in a folder of videos, told by a run of jepa-train."""

from __future__ import annotations

import sys
from typing import Any

from vjepa_distill.commands.chosen import add_data, add_device
from vjepa_distill.errors import UserError

SUMMARY = "Find the moments that a jepa-train run did not foresee."


def add_arguments(parser: Any) -> None:
    """The options of surprise."""
    add = parser.add_argument
    add("--from", dest="run", required=True, help="A run folder of jepa-train.")
    add("--out", default="surprise.csv", help="The CSV file to write: file, second, surprise.")
    add("--top", type=int, default=10, help="How many moments are printed.")
    add("--horizon", type=int, default=1, help="From how many tubelets before each is foretold.")
    add_device(parser)
    add_data(parser)


def run(chosen: Any) -> int:
    """Write every moment of every readable video, and print the most surprising."""
    from vjepa_distill.data.quarantine import listed
    from vjepa_distill.runs.surprise import peaks, surprise

    if chosen.top < 0:
        raise UserError(f"--top {chosen.top}: give a number from 0")
    found = surprise(chosen.run, chosen.data, chosen.out, horizon=chosen.horizon, device=chosen.device)
    rows, bad = found["rows"], found["bad"]
    show(peaks(rows, chosen.top, apart=2))
    print("0: the median error of held-out videos, 1: their 95 % quantile")
    count = len({row["file"] for row in rows})
    print(f"{chosen.out}: moments {len(rows)}, videos {count}", file=sys.stderr)
    if bad:
        print(f"left out: {len(bad)}, {listed(bad)}", file=sys.stderr)
    return 0


def show(rows: list[dict[str, Any]]) -> None:
    """The table, with room for long names."""
    from rich.console import Console
    from rich.table import Column, Table
    from rich.text import Text

    numbers = (Column(name, justify="right", no_wrap=True) for name in ("second", "surprise"))
    table = Table(Column("file", overflow="fold"), *numbers)
    for row in rows:
        table.add_row(Text(row["file"]), f"{row['second']:.2f}", f"{row['surprise']:.2f}")
    Console().print(table)
