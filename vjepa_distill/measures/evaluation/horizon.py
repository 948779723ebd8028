"""How far a forecaster sees: SOON against what costs nothing, step by step, and EVENTUALLY found again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vjepa_distill.measures.evaluation.intervals import estimate, means, skilled
from vjepa_distill.protocols import Timeline

ROWS = 256
"""Rows compared with all others at a time."""


class Foreteller(Protocol):
    """What is asked of ``stages.forecast.Forecaster``."""

    timeline: Timeline

    @property
    def now_frames(self) -> int: ...

    def forecast(self, clip_now: Tensor) -> Any: ...

    def rivals(self, clip_now: Tensor) -> dict[str, Tensor]: ...

    def targets(self, clip: Tensor) -> Tensor: ...


class Horizon:
    """Gathers what a forecaster says of clips, and what came."""

    def __init__(self, forecaster: Foreteller) -> None:
        self.forecaster = forecaster
        self.files: list[str] = []
        self.errors: dict[str, list[np.ndarray]] = {}
        """Of the forecast ("soon") and of each rival: mean absolute error of a clip by step, [t]."""
        self.outcomes: list[Tensor] = []
        self.futures: list[Tensor] = []
        self.starts: list[tuple[str, Tensor, Tensor]] = []

    @torch.inference_mode()
    def add(self, clip: Tensor, files: Sequence[str]) -> None:
        """Clips [B, 3, T, H, W] in [0, 1] of these files; a file may come again with another of its clips."""
        said, future, target = self._asked(clip)
        now = clip[:, :, : self.forecaster.now_frames]
        for name, guess in {"soon": said.tokens, **self.forecaster.rivals(now)}.items():
            apart = (guess.float() - target.float()).abs().mean(dim=(2, 3, 4))
            self.errors.setdefault(name, []).extend(apart.double().cpu().numpy())
        self.files += files
        if said.outcome is not None:
            self.outcomes.append(said.outcome.float().cpu())
            self.futures.append(future)

    @torch.inference_mode()
    def add_starts(self, clips: Tensor, file: str) -> None:
        """Clips [S, 3, T, H, W] of one video that begin at different moments, to be told apart."""
        said, future, _ = self._asked(clips)
        if said.outcome is not None and len(clips) > 1:
            self.starts.append((file, said.outcome.float().cpu(), future))

    def _asked(self, clip: Tensor) -> tuple[Any, Tensor, Tensor]:
        """The forecast, the direction of EVENTUALLY's mean token [B, D], and SOON's tokens."""
        now, soon = self.forecaster.timeline.now, self.forecaster.timeline.soon
        said = self.forecaster.forecast(clip[:, :, : self.forecaster.now_frames])
        target = self.forecaster.targets(clip)
        far = target[:, now + soon :].float().mean(dim=(1, 2, 3))
        return said, F.normalize(far, dim=-1).cpu(), target[:, now : now + soon]

    def record(self) -> dict[str, Any]:
        """``horizon`` of an evaluation: skill by step and over all of SOON, against each rival."""
        errors = {name: np.stack(rows) for name, rows in self.errors.items()}
        soon, rivals = errors.pop("soon"), errors
        steps = list(range(1, soon.shape[1] + 1))
        return {
            "steps": steps,
            "rivals": {
                name: [skill(self.files, soon[:, step], floor[:, step]) for step in range(len(steps))]
                for name, floor in rivals.items()
            },
            "all": {name: skill(self.files, soon.mean(1), floor.mean(1)) for name, floor in rivals.items()},
        }

    def eventually(self, groups: Mapping[str, str] | None = None) -> dict[str, Any] | None:
        """``eventually`` of an evaluation: how often an outcome finds its own far future, three ways.

        Among other "videos", among other "starts" of the same video, and among other videos of the same
        "group". groups: file -> group, where labels give one. None where nothing can be compared.
        """
        if not self.outcomes:
            return None
        outcome, future, files = torch.cat(self.outcomes), torch.cat(self.futures), np.array(self.files)
        found = {"videos": retrieval(outcome, future, files), "starts": self._starts(), "group": None}
        if groups:
            of = np.array([groups.get(file, "") for file in self.files])
            found["group"] = retrieval(outcome, future, files, of)
        return found

    def found(self) -> list[tuple[Any, ...]]:
        """(file, whether its outcome finds its own far future among all videos, chance)."""
        if not self.outcomes:
            return []
        return retrieved(torch.cat(self.outcomes), torch.cat(self.futures), np.array(self.files))

    def _starts(self) -> dict[str, float] | None:
        rows = [
            (file, *row)
            for file, outcome, future in self.starts
            for row in zip(*_found(outcome @ future.T, np.eye(len(outcome), dtype=bool)), strict=True)
        ]
        return _averaged(rows) if rows else None


def skill(files: Sequence[str], error: np.ndarray, floor: np.ndarray) -> dict[str, float]:
    """1 - Σ error / Σ floor of clips [N], and its 95 % interval over resamples of the videos."""
    return estimate(skilled(files, _videos(files), error, floor))


def retrieval(
    outcome: Tensor, future: Tensor, files: np.ndarray, groups: np.ndarray | None = None
) -> dict[str, float] | None:
    """How often an outcome [N, D] is nearest to its own future [N, D], among those of other videos.

    Other clips of the same file are no candidates. groups: only files of the same one are, and rows without
    one ("") are left out. None where no row has a rival.
    """
    rows = retrieved(outcome, future, files, groups)
    return _averaged(rows) if rows else None


def retrieved(
    outcome: Tensor, future: Tensor, files: np.ndarray, groups: np.ndarray | None = None
) -> list[tuple[Any, ...]]:
    """``retrieval`` row by row: (file, whether it was found, chance) of each that has a rival."""
    rows: list[tuple[Any, ...]] = []
    for first in range(0, len(files), ROWS):
        part = slice(first, first + ROWS)
        rival = files[part, None] != files[None]
        if groups is not None:
            rival &= (groups[part, None] == groups[None]) & (groups[part, None] != "")
        own = np.arange(len(files))[None] == np.arange(len(files))[part, None]
        told = zip(files[part], rival.any(axis=1), *_found(outcome[part] @ future.T, own, rival), strict=True)
        rows += [(file, hit, chance) for file, has, hit, chance in told if has]
    return rows


def _found(
    likeness: Tensor, own: np.ndarray, rival: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Of similarities [N, M] whether the own one is the greatest, a tie as its share, and the chance."""
    apart = likeness.double().numpy() - likeness.double().numpy()[own][:, None]
    rival = ~own if rival is None else rival & ~own
    beaten = ((apart > 1e-6) & rival).any(axis=1)
    tied = 1 + ((np.abs(apart) <= 1e-6) & rival).sum(axis=1)
    return np.where(beaten, 0.0, 1 / tied), 1 / (1 + rival.sum(axis=1))


def _averaged(rows: Sequence[tuple[Any, ...]]) -> dict[str, float]:
    """Rows (file, score, chance): their mean, its interval over videos, and the mean chance."""
    files, scores, chances = zip(*rows, strict=True)
    return estimate(means(files, _videos(files), np.array(scores), chance=float(np.mean(chances))))


def _videos(files: Sequence[str]) -> np.ndarray:
    """A number for each row: clips of one file are drawn together."""
    return np.unique(np.asarray(files), return_inverse=True)[1]
