"""The run that tells what an encoder knows about time, what a stage kept, and how runs differ."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from torch import nn

from vjepa_distill.errors import UserError
from vjepa_distill.files import write_atomic
from vjepa_distill.measures.evaluation.compare import differences
from vjepa_distill.measures.table import read_labels
from vjepa_distill.runs import encoders, starts
from vjepa_distill.runs.encode import settings
from vjepa_distill.runs.place import Place
from vjepa_distill.runs.record import Asked, ready, record_of
from vjepa_distill.runs.shared import guard_of
from vjepa_distill.runs.written import COMPARISON, EVALUATION, FORMAT
from vjepa_distill.settings import Data
from vjepa_distill.training.optim import precision

TIE = {"fp32": 5e-5, "bf16": 1e-3}
"""The share of the tokens' size up to which two features are the same but for rounding."""
SECONDS = (0.5, 1.0, 2.0)
"""Of the beginning of a video, from which its labels are read."""


def evaluate(
    source: str | Path | nn.Module,
    data: Data | Mapping[str, Any],
    *,
    labels: str | Path | None = None,
    columns: Sequence[str] | None = None,
    exclude: Sequence[str] = (),
    seconds: Sequence[float] | None = None,
    start: str | Path | nn.Module | None = None,
    random: nn.Module | None = None,
    compare: Sequence[str | Path | nn.Module] = (),
    out: str | Path | None = None,
    options: Mapping[str, Any] | None = None,
    which: Literal["student", "teacher"] = "student",
    batch_size: int = 16,
    amp: Literal["bf16", "fp32"] = "bf16",
    device: Literal["auto", "cpu", "cuda"] = "auto",
    seed: int = 0,
) -> dict[str, Any]:
    """What an encoder knows about time, beside the same with random weights and the run it started from.

    source: a run folder, an exported file, a registered name with its `options`, or a module of yours.
    data: which videos, as settings of `Data` by name; a run's own clip settings hold where nothing else is
        said, e.g. evaluate("runs/future", {"root": "data"}).
    labels: a CSV file with a column "file"; `columns` of it are probed (none given: all that can be), at once
        and from the first `seconds` alone (0.5, 1 and 2).
    exclude: videos that share all these columns are one group.
    start: what `source` started from, where its own config.yaml does not lead there.
    random: for a module, the same one untrained; without, that comparison is left out.
    compare: other runs, measured on the same videos.
    out: the folder for evaluation.json; by default the run's own, or ./evaluation of a name.

    Returns what is written there (docs/evaluate.md); with `compare` what is written to comparison.json beside
    it, whose "evaluations" hold every run's. UserError for bad input.
    """
    on = encoders.device_of(device)
    how = precision(amp, on, guard_of(amp, on))
    _check(source, seconds, compare, {"columns": columns, "exclude": exclude}, labels)
    table = read_labels(labels, [*(columns or ()), *exclude]) if labels else {}
    asked = Asked(
        columns, () if not labels else SECONDS if seconds is None else seconds, batch_size, TIE[amp]
    )
    folder = _folder(source, out)
    chosen = [starts.of(source, which, options, seed, start=start, random=random)]
    chosen += [starts.of(one, which, None, seed) for one in compare]
    # all are built and tried before the first is measured: one that cannot be is said at once
    made = [
        ready(one, encoders_of, Place(settings(one, data), on, how, table, exclude), asked)
        for one, encoders_of in zip((source, *compare), chosen, strict=True)
    ]
    said: list[Any] = []
    records: list[dict[str, Any]] = []
    for one in made:
        record, own = record_of(one, asked)
        if not records:
            _write(folder, EVALUATION, record)
        said.append(own)
        records.append(record)
    if not compare:
        return records[0]
    runs = [record["source"] for record in records]
    comparison = {
        "format": FORMAT,
        "runs": runs,
        "evaluations": records,
        "differences": differences(runs, said),
    }
    _write(folder, COMPARISON, comparison)
    return comparison


def _check(
    source: Any, seconds: Sequence[float] | None, compare: Sequence[Any], named: Any, labels: Any
) -> None:
    """UserError before anything is loaded; named: columns and exclude."""
    for what, columns in named.items():
        if isinstance(columns, str):
            raise UserError(f"{what}={columns!r}: give a list of names")
        if columns and not labels:
            raise UserError(f"{what} {', '.join(columns)} of which table? Give it by --labels FILE.csv")
    for tau in seconds or ():
        if not isinstance(tau, int | float) or not 0 < tau < math.inf:
            raise UserError(f"seconds={tau!r}: give numbers above 0")
    if seconds and not labels:
        told = ",".join(f"{tau:g}" for tau in seconds)
        raise UserError(f"--seconds {told} of which labels? Give them by --labels FILE.csv")
    names = [str(one) for one in (source, *compare)]
    if len(set(names)) < len(names):
        raise UserError(f"--compare {' '.join(names[1:])}: a run is compared with others, each named once")


def _folder(source: Any, out: str | Path | None) -> Path | None:
    if out is not None and Path(out).exists() and not Path(out).is_dir():
        raise UserError(f"--out {out} is a file: give a folder, in which {EVALUATION} is written")
    if out is not None or isinstance(source, nn.Module):
        return Path(out) if out is not None else None
    path = starts.exports.locate(source)
    return path.parent if path else Path("evaluation")


def _write(folder: Path | None, name: str, record: Mapping[str, Any]) -> None:
    if folder is not None:
        text = json.dumps(record, indent=1)
        write_atomic(folder / name, lambda file: file.write(text.encode()))
