"""The run that tells what an encoder knows about time, what a stage kept, and how runs differ."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
from threadpoolctl import threadpool_limits
from torch import nn

from vjepa_distill.data.loader import Loader
from vjepa_distill.errors import UserError
from vjepa_distill.files import write_atomic
from vjepa_distill.measures.evaluation import collect
from vjepa_distill.measures.evaluation import labels as by_labels
from vjepa_distill.measures.evaluation.compare import differences
from vjepa_distill.measures.evaluation.health import health
from vjepa_distill.measures.evaluation.intervals import Judged
from vjepa_distill.measures.evaluation.time import time_tests
from vjepa_distill.measures.evaluation.variants import Views
from vjepa_distill.measures.table import groups_of, read_labels
from vjepa_distill.progress import progress
from vjepa_distill.runs import encoders, starts, videos
from vjepa_distill.runs.encode import settings
from vjepa_distill.runs.shared import guard_of
from vjepa_distill.settings import Data
from vjepa_distill.training.optim import Precision, precision

FORMAT = 1
TIE = {"fp32": 1e-5, "bf16": 3e-4}
"""The share of the tokens' size up to which two features are the same but for rounding."""


@dataclass
class Place:
    """Where and of what an evaluation is made: what a measure of the future needs besides a run."""

    data: Data
    device: torch.device
    how: Precision
    table: dict[str, dict]
    """The labels by file; empty without."""
    exclude: Sequence[str]
    """The columns that make groups of videos."""


class Future(collect.Watching, Protocol):
    """What sees every clip as it passes, and afterwards tells how well the future was foreseen."""

    def entries(self, files: list[str], groups: np.ndarray) -> tuple[dict[str, Any], dict[str, Judged]]:
        """{"horizon", "eventually"}, and what was said of each video, for comparisons."""


def future_of(source: str | Path | nn.Module, place: Place) -> Future | None:
    """For a run of jepa-train with an exported predictor the measure of its forecasts; else None."""
    return None


def evaluate(
    source: str | Path | nn.Module,
    data: Data | Mapping[str, Any],
    *,
    labels: str | Path | None = None,
    columns: Sequence[str] | None = None,
    exclude: Sequence[str] = (),
    seconds: Sequence[float] = (0.5, 1.0, 2.0),
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
        and from the first `seconds` alone. exclude: videos that share all these columns are one group.
    start: what `source` started from, where its own config.yaml does not lead there.
    random: for a module, the same one untrained; without, that comparison is left out.
    compare: other runs, measured on the same videos.
    out: the folder for evaluation.json; by default the run's own, or ./evaluation of a name.

    Returns what is written there (docs/evaluate.md); with `compare` what is written to comparison.json beside
    it, whose "evaluations" hold every run's. UserError for bad input.
    """
    on = encoders.device_of(device)
    how = precision(amp, on, guard_of(amp, on))
    _check(source, seconds, compare, columns, labels)
    table = read_labels(labels, [*(columns or ()), *exclude]) if labels else {}
    said, records = [], []
    for number, one in enumerate((source, *compare)):
        place = Place(settings(one, data), on, how, table, exclude)
        sides: dict[str, Any] = {"start": start, "random": random} if number == 0 else {}
        chosen = starts.of(one, which, options if number == 0 else None, seed, **sides)
        record, own = _one(one, chosen, place, columns, seconds if labels else (), batch_size, TIE[amp])
        said.append(own)
        records.append(record)
    folder = _folder(source, out)
    _write(folder, "evaluation.json", records[0])
    if not compare:
        return records[0]
    runs = [record["source"] for record in records]
    comparison = {
        "format": FORMAT,
        "runs": runs,
        "evaluations": records,
        "differences": differences(runs, said),
    }
    _write(folder, "comparison.json", comparison)
    return comparison


def _one(
    source: Any,
    chosen: starts.Chosen,
    place: Place,
    columns: Sequence[str] | None,
    seconds: Sequence[float],
    batch_size: int,
    tie: float,
) -> tuple[dict[str, Any], dict[str, Judged]]:
    """The record of one encoder, and what was said of each video."""
    began = time.monotonic()
    data = place.data
    grids = _tried(chosen.encoders, place)
    decoder = videos.decoder_of(data)
    index = videos.index_of(data, decoder)
    recipe = videos.recipe_of(data, train=False)
    views = Views(index.good, index.root, recipe, decoder, seconds)
    loader = Loader(views, batch_size, workers=data.workers, timeout=data.timeout, max_bad=1.0)
    future = future_of(source, place)
    with progress("evaluating") as update:
        found = collect.collect(
            chosen.encoders,
            grids,
            loader,
            device=place.device,
            autocast=place.how.autocast,
            guard=place.how.guard,
            tokens=bool(place.table),
            watching=future,
            progress=update,
        )
    groups = _groups(found.files, place)
    # small matrices: several threads would wait for each other longer than they compute
    with threadpool_limits(1, user_api="blas"):
        moments, said = time_tests(found, groups, tie)
        probes, words = _by_labels(found, groups, place, columns, seconds, said)
    ahead: dict[str, Any] = {"horizon": None, "eventually": None}
    if future:
        ahead, foreseen = future.entries(found.files, groups)
        said |= foreseen
    bad = len(index.bad) + len(index.good) - len(found.files)
    record = {
        "format": FORMAT,
        "source": chosen.name,
        **chosen.made,
        "data": {
            "root": data.root,
            "files": list(data.files),
            "videos": len(found.files),
            "bad": bad,
            "groups": _grouped(groups, place),
        },
        "clip": {
            name: getattr(recipe, name) for name in ("num_frames", "height", "width", "sampling", "fps")
        },
        **ahead,
        "time": moments,
        "drift": found.drift.record(found.files, groups) if found.drift else None,
        "health": {name: health(torch.cat(kept.sample)) for name, kept in found.kept.items()},
        "labels": probes,
        "notes": [*chosen.notes, *_notes(views, found, bad), *words],
        "seconds": round(time.monotonic() - began, 1),
    }
    return record, said


def _by_labels(
    found: collect.Collected,
    groups: np.ndarray,
    place: Place,
    columns: Sequence[str] | None,
    seconds: Sequence[float],
    said: dict[str, Judged],
) -> tuple[dict[str, Any] | None, list[str]]:
    """The probes of every column, what was said put into `said`, and words about columns left out."""
    if not place.table:
        return None, []
    good, words = by_labels.chosen_columns(found.files, place.table, groups, columns)
    probes = {}
    with progress("probing labels") as update:
        for done, column in enumerate(good):
            probes[column], own = by_labels.probed(found, place.table, column, groups, seconds, place.device)
            said |= own
            update(done + 1, len(good))
    return probes, words


def _tried(chosen: Mapping[str, nn.Module], place: Place) -> dict[str, Any]:
    """The grid of each encoder's tokens; one clip is put through each before any video is read."""
    grids = {}
    for name, encoder in chosen.items():
        some: Any = encoder
        if not callable(getattr(some, "grid", None)):
            raise UserError(
                f"a {type(some).__name__} has no grid(T, H, W), which says which tokens are of one moment"
            )
        grids[name] = encoders.grid_of(name, some, place.data.clip)
        encoders.try_out(name, some.to(place.device), place.data.clip, place.device, False, place.how)
    return grids


def _groups(files: list[str], place: Place) -> np.ndarray:
    """A number for each video; UserError where there are too few to judge by."""
    blank = dict.fromkeys(place.exclude, "")
    groups = groups_of(files, {file: place.table.get(file, blank) for file in files}, place.exclude)
    if len(np.unique(groups)) < 2:
        shared = " and ".join(place.exclude) or "file"
        raise UserError(
            f"all {len(files)} videos of {place.data.root} are of one {shared}: evaluate needs at least two"
        )
    return groups


def _grouped(groups: np.ndarray, place: Place) -> str:
    """For the record: over what the intervals are taken."""
    return f"{groups.max() + 1} groups of one {' and '.join(place.exclude)}" if place.exclude else "videos"


def _notes(views: Views, found: collect.Collected, bad: int) -> list[str]:
    notes = []
    if still := views.still():
        notes.append(
            f"speed: {still} videos have too few frames for half speed, frames repeat there, and that shows"
        )
    for tau in views.seconds:
        if short := views.short(tau):
            notes.append(f"{short} videos are over before {tau:g} s: there the whole is read")
    for name, kept in found.kept.items():
        if kept.tokens and kept.cells != kept.grid[1:]:
            notes.append(
                f"attentive probe of {name}: tokens averaged to {kept.cells[0]} x {kept.cells[1]} cells"
            )
    if len(found.files) < 30:
        notes.append(f"{len(found.files)} videos are few: the intervals are wide, and rough themselves")
    if bad:
        notes.append(f"{bad} files could not be read")
    return notes


def _check(source: Any, seconds: Sequence[float], compare: Sequence[Any], columns: Any, labels: Any) -> None:
    if isinstance(columns, str):
        raise UserError(f"columns={columns!r}: give a list of names")
    if columns is not None and not labels:
        raise UserError(f"columns {', '.join(columns)} of which table? Give it by --labels FILE.csv")
    for tau in seconds:
        if not tau > 0:
            raise UserError(f"seconds={tau}: give numbers above 0")
    names = [str(one) for one in (source, *compare)]
    if len(set(names)) < len(names):
        raise UserError(f"--compare {' '.join(names[1:])}: a run is compared with others, each named once")


def _folder(source: Any, out: str | Path | None) -> Path | None:
    if out is not None or isinstance(source, nn.Module):
        return Path(out) if out is not None else None
    path = starts.exports.locate(source)
    return path.parent if path else Path("evaluation")


def _write(folder: Path | None, name: str, record: Mapping[str, Any]) -> None:
    if folder is not None:
        text = json.dumps(record, indent=1)
        write_atomic(folder / name, lambda file: file.write(text.encode()))
