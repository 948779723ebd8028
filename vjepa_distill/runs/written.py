"""What other commands wrote into a run's folder, for the report: the log, an evaluation, a comparison."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vjepa_distill.errors import UserError

EVALUATION, COMPARISON = "evaluation.json", "comparison.json"
FORMAT = 1
"""Of both, up to which they are understood."""


def rows_of(folder: Path) -> list[dict[str, Any]]:
    """The rows of the log; none where there is no log yet, and a half-written one (a crash) is left out."""
    path = folder / "metrics.jsonl"
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict) and isinstance(row.get("step"), int | float):
            rows.append({name: value for name, value in row.items() if isinstance(value, int | float | None)})
    return rows


def evaluation_of(folder: Path) -> dict[str, Any] | None:
    """What ``evaluate`` wrote there. UserError where it is damaged or newer than this version."""
    return _read(folder / EVALUATION, f"vjepa-distill evaluate {folder}")


def comparison_of(folder: Path) -> dict[str, Any] | None:
    """What ``evaluate --compare`` wrote there. UserError where it is damaged or newer than this version."""
    command = f"vjepa-distill evaluate {folder} --compare RUN"
    return _read(folder / COMPARISON, command, ("runs", "differences"))


def _read(path: Path, command: str, parts: Sequence[str] = ()) -> dict[str, Any] | None:
    """A file of JSON with a format and these parts; None where there is none. command: what makes it."""
    if not path.is_file():
        return None
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        newer = told["format"] > FORMAT
        missing = [part for part in parts if part not in told]
    except (ValueError, KeyError, TypeError) as problem:
        raise UserError(f"{path} is no {path.stem} ({problem}): type {command} to make it anew") from problem
    if newer:
        raise UserError(
            f"{path} has format {told['format']}, this version reads up to {FORMAT}: upgrade vjepa-distill"
        )
    if missing:
        raise UserError(f"{path} is no {path.stem} (no {missing[0]}): type {command} to make it anew")
    return told
