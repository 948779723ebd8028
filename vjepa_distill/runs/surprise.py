"""The run that looks for the unusual: how far each moment of every video lay from what was foretold."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from vjepa_distill.data.clips import Recipe
from vjepa_distill.data.index import Entry
from vjepa_distill.data.stretches import sampled, stretches
from vjepa_distill.errors import UserError
from vjepa_distill.files import write_atomic
from vjepa_distill.progress import progress
from vjepa_distill.protocols import DecodeError, Decoder
from vjepa_distill.runs import encode, encoders, videos
from vjepa_distill.runs.forecaster import check_frames, load_forecaster
from vjepa_distill.settings import Data
from vjepa_distill.stages.forecast import Forecaster

COLUMNS = ("file", "second", "surprise")
TUBELETS = 64
"""Of which the frames are in memory at a time."""


def surprise(
    run: str | Path,
    data: Data | Mapping[str, Any],
    out: str | Path | None = None,
    *,
    horizon: int = 1,
    device: Literal["auto", "cpu", "cuda"] = "auto",
) -> dict[str, Any]:
    """How far every moment of every video lay from what the run foretold of it, also as a CSV file `out`.

    A moment is a tubelet of the run's own clips, at their own rate; 0 is a median error, 1 the 95 % quantile
    of held-out videos. The first moments, of which there is no forecast yet, are left out.

    run: a run folder of jepa-train. data: which videos, as settings of `Data` by name: {"root": "data"}.
    horizon: from how many tubelets before each is foretold. Returns {"rows": [{"file", "second",
    "surprise"}], in the order of the files and of time, "bad": {file: why}}. UserError for bad input.
    """
    if out is not None and Path(out).is_dir():
        raise UserError(f"--out {out}: one CSV file is written; type --out {Path(out) / 'surprise.csv'}")
    model, data = load_forecaster(run), encode.settings(run, data)
    check(model, data, horizon, run)
    model.to(encoders.device_of(device))
    decoder = videos.decoder_of(data)
    index, recipe = videos.index_of(data, decoder), videos.recipe_of(data, train=False)
    rows: list[dict[str, Any]] = []
    bad = {entry.path: entry.why for entry in index.bad}
    with progress("foretelling") as update:
        for done, entry in enumerate(index.good, start=1):
            try:
                rows += list(moments(model, entry, index.root, recipe, decoder, horizon))
            except DecodeError as problem:
                bad[entry.path] = str(problem)
            update(done, len(index.good))
    if not rows:
        raise UserError(
            f"not one moment could be foretold; {next(iter(bad.items()), 'all videos are too short')}"
        )
    if out is not None:
        write(out, rows)
    return {"rows": rows, "bad": bad}


def check(model: Forecaster, data: Data, horizon: int, run: str | Path) -> None:
    """UserError for clips that are no longer those of the run, and for a horizon it does not have."""
    check_frames(model, data.num_frames, run)
    if not 1 <= horizon <= model.timeline.soon:
        raise UserError(f"--horizon {horizon}: the run foretells 1 to {model.timeline.soon} tubelets")


def moments(
    model: Forecaster, entry: Entry, root: str, recipe: Recipe, decoder: Decoder, horizon: int
) -> Iterator[dict[str, Any]]:
    """The rows of one video; DecodeError where it cannot be read, or is too short for any forecast."""
    before, step = (model.timeline.now + horizon - 1) * model.tubelet, model.tubelet
    frames = len(sampled(entry, recipe)[0])
    if frames < before + step:
        raise DecodeError(
            f"too short: {frames} frames at the run's rate, and a forecast needs {before + step}"
        )
    length = before + TUBELETS * step
    for part in stretches(entry, root, recipe, decoder, length, before, step):
        clip = part.clip.to(model.usual.device).float().div_(255)
        found = model.surprise(clip[None], horizon)[0].tolist()
        for second, value in list(zip(part.seconds[::step], found, strict=True))[before // step :]:
            yield {"file": entry.path, "second": round(second, 3), "surprise": value}


def write(out: str | Path, rows: list[dict[str, Any]]) -> None:
    """The rows as CSV."""
    text = io.StringIO()
    table = csv.writer(text)
    table.writerow(COLUMNS)
    table.writerows([row["file"], f"{row['second']:.3f}", f"{row['surprise']:.4f}"] for row in rows)
    write_atomic(out, lambda file: file.write(text.getvalue().encode("utf-8", "surrogateescape")))


def peaks(rows: list[dict[str, Any]], count: int, apart: int) -> list[dict[str, Any]]:
    """The most surprising rows, none within `apart` rows of a greater one of the same file."""
    found: list[int] = []
    for place in sorted(range(len(rows)), key=lambda number: -rows[number]["surprise"]):
        near = [other for other in found if abs(other - place) <= apart]
        if len(found) < count and not any(rows[other]["file"] == rows[place]["file"] for other in near):
            found.append(place)
    return [rows[place] for place in found]
