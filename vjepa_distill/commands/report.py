"""report: one HTML page that shows runs, with curves, tables and pictures."""

from __future__ import annotations

from typing import Any

from vjepa_distill.commands.chosen import add_device

SUMMARY = "Make one HTML page of runs: curves, tables, pictures."


def add_arguments(parser: Any) -> None:
    """The options of report."""
    add = parser.add_argument
    add("runs", nargs="+", metavar="RUN", help="Run folders of distill or jepa-train, several side by side.")
    add("--out", type=str | None, default=None, help="The .html file; else report.html in the first run.")
    add(
        "--data.root",
        type=str | None,
        default=None,
        help="Where the videos are now, if not where the run read them.",
    )
    add("--clips", type=int, default=6, help="Held-out clips that are shown; 0: no pictures.")
    add_device(parser)


def run(chosen: Any) -> int:
    """Make the page and print its path."""
    from vjepa_distill.runs.report import report

    print(report(chosen.runs, chosen.out, root=chosen.data.root, clips=chosen.clips, device=chosen.device))
    return 0
