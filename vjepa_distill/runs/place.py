"""Where and of what an evaluation is made: videos, device, labels, and encoders that were tried out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn

from vjepa_distill.data.index import Index
from vjepa_distill.errors import UserError
from vjepa_distill.measures.evaluation.collect import Watching
from vjepa_distill.measures.evaluation.intervals import Judged
from vjepa_distill.measures.table import groups_of
from vjepa_distill.protocols import Decoder
from vjepa_distill.runs import encoders, videos
from vjepa_distill.settings import Data
from vjepa_distill.training.optim import Precision


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

    @cached_property
    def decoder(self) -> Decoder:
        """What reads the videos."""
        return videos.decoder_of(self.data)

    @cached_property
    def index(self) -> Index:
        """Which videos there are, listed when first asked."""
        return videos.index_of(self.data, self.decoder)


class Future(Watching, Protocol):
    """What sees every clip as it passes, and afterwards tells how well the future was foreseen."""

    def entries(self, files: list[str], groups: np.ndarray) -> tuple[dict[str, Any], dict[str, Judged]]:
        """{"horizon", "eventually"}, and what was said of each video, for comparisons."""


def tried(chosen: Mapping[str, nn.Module], place: Place, source: str) -> dict[str, Any]:
    """The grid of each encoder's tokens; one clip is put through each before any video is read.

    source: what "this" and "random" are called.
    """
    grids = {}
    for name, encoder in chosen.items():
        some: Any = encoder
        if not callable(getattr(some, "grid", None)):
            raise UserError(
                f"a {type(some).__name__} has no grid(T, H, W), which says which tokens are of one moment"
            )
        called = "the start" if name == "start" else source
        grids[name] = encoders.grid_of(called, some, place.data.clip)
        encoders.try_out(called, some.to(place.device), place.data.clip, place.device, False, place.how)
    return grids


def grouped(files: list[str], place: Place) -> np.ndarray:
    """A number for each video; UserError where there are too few to judge by."""
    blank = dict.fromkeys(place.exclude, "")
    groups = groups_of(files, {file: place.table.get(file, blank) for file in files}, place.exclude)
    if len(np.unique(groups)) < 2:
        shared = " and ".join(place.exclude) or "file"
        raise UserError(
            f"all {len(files)} videos of {place.data.root} are of one {shared}: evaluate needs at least two"
        )
    return groups


def words_of(groups: np.ndarray, place: Place) -> str:
    """For the record: over what the intervals are taken."""
    return f"{groups.max() + 1} groups of one {' and '.join(place.exclude)}" if place.exclude else "videos"
