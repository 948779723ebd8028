"""evaluate: what an encoder knows about time, on any folder of videos, beside chance and random weights."""

from __future__ import annotations

import json
from typing import Any

from vjepa_distill.commands.chosen import add_data, add_encoder, add_running
from vjepa_distill.errors import UserError

SUMMARY = "Tell what an encoder knows about time, what a stage kept, and how runs differ."


def add_arguments(parser: Any) -> None:
    """The options of evaluate."""
    add = parser.add_argument
    add("source", help="A run folder, an exported .safetensors, or a registered name.")
    add("--labels", type=str | None, default=None, help="A CSV file with a column named file.")
    add("--column", default="", help="Columns to read, e.g. a,b: all that can be, where none is named.")
    add("--exclude", default="", help="Columns, e.g. lab,date: videos that share them all are one group.")
    words = "Read labels from so many first seconds alone, too; 0.5,1,2 where there are labels."
    add("--seconds", type=str | None, default=None, help=words)
    add("--start", type=str | None, default=None, help="The run it started from; else its config.yaml tells.")
    add("--compare", nargs="+", default=[], help="Other runs, measured on the same videos.")
    add("--out", type=str | None, default=None, help="Folder for evaluation.json; default: the run's own.")
    add_encoder(parser)
    add_running(parser, "bf16")
    add("--json", action="store_true", help="Machine-readable: what is written, on stdout.")
    add_data(parser)


def run(chosen: Any) -> int:
    """Print one table, with --compare one more, or JSON."""
    from vjepa_distill.measures.evaluation.words import render, render_comparison
    from vjepa_distill.runs.evaluate import evaluate

    given = dict(vars(chosen))
    as_json = given.pop("json")
    column = given.pop("column")
    given["columns"] = names_of(column) or None
    given["exclude"] = names_of(given["exclude"])
    typed = given.pop("seconds")
    if typed is not None:
        given["seconds"] = seconds_of(typed)
    done = evaluate(**given)
    if as_json:
        print(json.dumps(done, indent=1))
        return 0
    from rich.console import Console

    say = Console().print
    for record in done.get("evaluations", [done]):
        say(render(record))
    if "differences" in done:
        say(render_comparison(done))
    return 0


def names_of(text: str) -> list[str]:
    """The names in "a,b"."""
    return [name.strip() for name in text.split(",") if name.strip()]


def seconds_of(text: str) -> list[float]:
    """The numbers in "0.5,1,2"."""
    try:
        return [float(name) for name in names_of(text)]
    except ValueError as problem:
        raise UserError(f"--seconds {text}: give numbers, e.g. --seconds 0.5,1,2") from problem
