"""demo: the whole road on a toy world, from mp4 files to a table of scores."""

from __future__ import annotations

from typing import Any

SUMMARY = "The whole road on a toy world: teacher, distill, jepa-train, probes. Needs no data."


def add_arguments(parser: Any) -> None:
    """The options of the demo."""
    parser.add_argument("--out", default="runs/demo", help="The folder it writes to.")


def run(chosen: Any) -> int:
    """Run it and print the table."""
    from vjepa_distill.demo.road import demo

    return demo(chosen.out)
