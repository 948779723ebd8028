"""What one encoder knows: everything that an evaluation measures, as the record that is written."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from vjepa_distill.data.loader import Loader
from vjepa_distill.errors import UserError
from vjepa_distill.measures.evaluation import collect
from vjepa_distill.measures.evaluation import labels as by_labels
from vjepa_distill.measures.evaluation.health import health
from vjepa_distill.measures.evaluation.intervals import Judged
from vjepa_distill.measures.evaluation.notes import notes
from vjepa_distill.measures.evaluation.time import time_tests
from vjepa_distill.measures.evaluation.variants import Views
from vjepa_distill.progress import progress
from vjepa_distill.runs import starts, videos
from vjepa_distill.runs.foretelling import future_of
from vjepa_distill.runs.place import Future, Place, grouped, tried, words_of
from vjepa_distill.runs.written import FORMAT


@dataclass
class Asked:
    """How an evaluation is made."""

    columns: Sequence[str] | None
    """Of the labels; None for all that can be probed."""
    seconds: Sequence[float]
    """Of the parts of clips that labels are also read from."""
    batch_size: int
    tie: float
    """The share of the tokens' size up to which two features are the same but for rounding."""


@dataclass
class Ready:
    """One encoder that was found fit to be measured."""

    chosen: starts.Chosen
    place: Place
    grids: dict[str, Any]
    future: Future | None


def ready(source: Any, chosen: starts.Chosen, place: Place, asked: Asked) -> Ready:
    """All that can be refused is refused here, before any video is read."""
    _check_labels(place, asked)
    return Ready(chosen, place, tried(chosen.encoders, place, chosen.name), future_of(source, place))


def record_of(one: Ready, asked: Asked) -> tuple[dict[str, Any], dict[str, Judged]]:
    """The record of one encoder, and what was said of each video."""
    began = time.monotonic()
    chosen, place, future = one.chosen, one.place, one.future
    recipe = videos.recipe_of(place.data, train=False)
    views = Views(place.index.good, place.index.root, recipe, place.decoder, asked.seconds)
    found = _seen(one, views, asked)
    groups = grouped(found.files, place)
    # small matrices: several threads wait for each other longer than they compute, where cores are shared
    with threadpool_limits(1):
        moments, said = time_tests(found, groups, asked.tie)
        healthy = {name: health(torch.cat(kept.sample)) for name, kept in found.kept.items()}
    with threadpool_limits(1, user_api="blas"):
        probes, words = _by_labels(found, groups, place, asked, said)
    ahead: dict[str, Any] = {"horizon": None, "eventually": None}
    if future:
        ahead, foreseen = future.entries(found.files, groups)
        said |= foreseen
        words += _lacking(ahead["eventually"], place)
    bad = len(place.index.bad) + len(place.index.good) - len(found.files)
    clip = {name: getattr(recipe, name) for name in ("num_frames", "height", "width", "sampling", "fps")}
    record = {
        "format": FORMAT,
        "source": chosen.name,
        **chosen.made,
        "data": {
            "root": place.data.root,
            "files": list(place.data.files),
            "videos": len(found.files),
            "bad": bad,
            "groups": words_of(groups, place),
        },
        "clip": clip,
        **ahead,
        "time": moments,
        "drift": found.drift.record(found.files, groups) if found.drift else None,
        "health": healthy,
        "labels": probes,
        "notes": [*chosen.notes, *notes(views, found, bad), *words],
        "seconds": round(time.monotonic() - began, 1),
    }
    return record, said


def _check_labels(place: Place, asked: Asked) -> None:
    """UserError before any video is read, where the labels are of others or tell nothing."""
    files = [entry.path for entry in place.index.good]
    groups = grouped(files, place)
    if not place.table:
        return
    if not any(file in place.table for file in files):
        raise UserError(
            f"no video has labels: the videos are named like {files[0]}, the labels like "
            f"{next(iter(place.table))}. Point --data.root at the folder that the labels' names start from"
        )
    by_labels.chosen_columns(files, place.table, groups, asked.columns)


def _lacking(eventually: dict[str, Any] | None, place: Place) -> list[str]:
    """What of EVENTUALLY these videos cannot show, in words."""
    if eventually is None:
        return ["no EVENTUALLY: the run has no outcome head"]
    words = []
    if eventually["starts"] is None:
        words.append("no EVENTUALLY among starts: no video is long enough for a second clip")
    if eventually["group"] is None and place.exclude:
        words.append("no EVENTUALLY in the group: each has one video")
    return words


def _seen(one: Ready, views: Views, asked: Asked) -> collect.Collected:
    """One pass over the videos, through all encoders."""
    place, data = one.place, one.place.data
    loader = Loader(views, asked.batch_size, workers=data.workers, timeout=data.timeout, max_bad=1.0)
    with progress("evaluating") as update:
        return collect.collect(
            one.chosen.encoders,
            one.grids,
            loader,
            device=place.device,
            autocast=place.how.autocast,
            guard=place.how.guard,
            tokens=bool(place.table),
            watching=one.future,
            progress=update,
        )


def _by_labels(
    found: collect.Collected, groups: np.ndarray, place: Place, asked: Asked, said: dict[str, Judged]
) -> tuple[dict[str, Any] | None, list[str]]:
    """The probes of every column, what was said put into `said`, and words about columns left out."""
    if not place.table:
        return None, []
    good, words = by_labels.chosen_columns(found.files, place.table, groups, asked.columns)
    probes = {}
    with progress("probing labels") as update:
        for done, column in enumerate(good):
            probes[column], own = by_labels.probed(
                found, place.table, column, groups, asked.seconds, place.device
            )
            said |= own
            update(done + 1, len(good))
    return probes, words
