"""backbones check: every claim of the contract as a row, and how to mend what does not hold."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from vjepa_distill.errors import UserError


def run(source: Any, chosen: Any) -> int:
    """Print the table, or the rows as JSON; exit code 1 where a claim does not hold.

    Without --clip it is tried with the first of a few small clips that its grid takes.
    """
    from vjepa_distill.testing import examine_backbone

    module = source.built()
    clip = clip_for(module, chosen.clip)
    findings = examine_backbone(module, *clip, fresh=source.fresh, optional=chosen.compile)
    if chosen.json:
        print(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        print_findings(source.name, clip, findings)
    return int(not all(finding.passed for finding in findings))


def clip_for(module: Any, asked: list[int] | None) -> tuple[int, int, int]:
    """The clip asked for, once the encoder is known to take it, or one that it takes."""
    from vjepa_distill.testing import fitting_clip

    if asked is None:
        return fitting_clip(module)
    T, H, W = asked
    if min(asked) < 1:
        raise UserError(f"--clip {T} {H} {W}: give frames, height and width, each above 0")
    try:
        module.grid(T, H, W)
    except ValueError as problem:
        raise UserError(f"--clip {T} {H} {W}: the encoder does not take it: {problem}") from problem
    except AttributeError:
        pass  # it has no grid at all, which the first row of the table says
    return T, H, W


def print_findings(name: str, clip: tuple[int, int, int], findings: list[Any]) -> None:
    """Three columns that are readable at 80 characters: the verdict, the claim, what came."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    T, H, W = clip
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("", no_wrap=True)
    table.add_column("check", no_wrap=True)
    table.add_column("what came")
    for finding in findings:
        verdict = Text("pass", "green") if finding.passed else Text("FAIL", "bold red")
        words = Text(finding.came)
        if not finding.passed:
            words = Text.assemble(
                ("expected ", "bold"), finding.expected, ("\ncame ", "bold"), finding.came,
                ("\nto mend it: ", "bold"), finding.mend,
            )  # fmt: skip
        table.add_row(verdict, Text(finding.check), words)
    console = Console(highlight=False)
    console.print(f"{name}, tried with {T} frames of {H} x {W} pixels", markup=False)
    console.print(table)
    wrong = sum(not finding.passed for finding in findings)
    total = f"{wrong} of them broken" if wrong else "all of them hold"
    console.print(f"{len(findings)} claims judged, {total}", markup=False)
