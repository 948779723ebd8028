"""How well a run's own forecaster foresees the videos of an evaluation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from vjepa_distill.data.stretches import starts
from vjepa_distill.measures.evaluation.horizon import Horizon
from vjepa_distill.measures.evaluation.intervals import Judged, means, skilled
from vjepa_distill.protocols import DecodeError
from vjepa_distill.runs import exports, videos
from vjepa_distill.runs.forecaster import PREDICTOR, check_frames, load_forecaster
from vjepa_distill.runs.place import Place


def future_of(source: str | Path | nn.Module, place: Place) -> Foretelling | None:
    """For a run of jepa-train with an exported predictor the measure of its forecasts; else None."""
    path = None if isinstance(source, nn.Module) else exports.locate(source)
    if path is None or not path.with_name(PREDICTOR).is_file():
        return None
    forecaster = load_forecaster(path.parent)
    check_frames(forecaster, place.data.num_frames, path.parent)
    return Foretelling(forecaster, place)


class Foretelling:
    """Sees every clip as it passes, and afterwards tells how far the forecaster saw."""

    def __init__(self, forecaster: Any, place: Place) -> None:
        self.place, self.horizon = place, Horizon(forecaster.to(place.device))

    def add(self, clip: Tensor, files: list[str]) -> None:
        """clip uint8 [B, 3, T, H, W], and whose they are."""
        with self.place.how.guard("foretell"), self.place.how.autocast():
            self.horizon.add(self._shown(clip), files)

    def entries(self, files: list[str], groups: np.ndarray) -> tuple[dict[str, Any], dict[str, Judged]]:
        """{"horizon", "eventually"}, and what was said of each video, for comparisons."""
        self._add_starts(set(files))
        told = dict(zip(files, map(str, groups), strict=True)) if self.place.exclude else None
        made = {"horizon": self.horizon.record(), "eventually": self.horizon.eventually(told)}
        return made, self._judged(dict(zip(files, groups, strict=True)))

    def _add_starts(self, files: set[str]) -> None:
        """Other starts of the same videos, where these are long enough to have some."""
        place, recipe = self.place, videos.recipe_of(self.place.data, train=False)
        for entry in place.index.good if self.horizon.outcomes else ():
            if entry.path not in files:
                continue
            try:
                clips = starts(entry, place.index.root, recipe, place.decoder)
            except DecodeError:
                continue  # its clip could be read, and is counted: a later part cannot
            if clips is not None:
                with self.place.how.guard("foretell"), self.place.how.autocast():
                    self.horizon.add_starts(self._shown(clips), entry.path)

    def _judged(self, groups: dict[str, int]) -> dict[str, Judged]:
        """Video by video: errors and those of each rival over all of SOON, over persistence at every step
        too, and whether the far future was found among others."""
        files, errors = self.horizon.files, {name: np.stack(e) for name, e in self.horizon.errors.items()}
        soon, of = errors.pop("soon"), np.array([groups[file] for file in files])
        said = {}
        for name, floor in errors.items():
            said[f"horizon/{name}"] = skilled(files, of, soon.mean(axis=1), floor.mean(axis=1))
            for step in range(soon.shape[1]) if name == "persistence" else ():
                said[f"horizon/{name}/{step + 1}"] = skilled(files, of, soon[:, step], floor[:, step])
        if rows := self.horizon.found():
            videos, hits, _ = zip(*rows, strict=True)
            said["eventually/videos"] = means(videos, np.array([groups[v] for v in videos]), np.array(hits))
        return said

    def _shown(self, clip: Tensor) -> Tensor:
        return clip.to(self.place.device).float().div(255)
