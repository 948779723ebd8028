"""What of a table of labels can be read from an encoder: at once, and from the first seconds alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from vjepa_distill.errors import UserError
from vjepa_distill.measures.evaluation.attentive import attentive
from vjepa_distill.measures.evaluation.collect import Collected
from vjepa_distill.measures.evaluation.intervals import Judged, estimate, means, regressed
from vjepa_distill.measures.scores import knn_labels, knn_values, linear_labels, majority_share, ridge_values
from vjepa_distill.measures.table import numbers_of

Said = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
PROBES: dict[str, dict[str, Said]] = {
    "text": {"knn": knn_labels, "linear": linear_labels},
    "number": {"knn": knn_values, "ridge": ridge_values},
}
EARLY = {"text": "linear", "number": "ridge"}
MANY = 50


def answers_of(files: Sequence[str], table: dict[str, dict], column: str) -> tuple[np.ndarray, np.ndarray]:
    """The rows [n] of files that have this label, and the labels: float where every one is a number."""
    rows = [row for row, file in enumerate(files) if table.get(file, {}).get(column)]
    values = [table[files[row]][column] for row in rows]
    numbers = numbers_of(values, column) if values else None
    return np.array(rows, dtype=np.int64), np.array(values) if numbers is None else numbers


def why_not(answers: np.ndarray, groups: np.ndarray) -> str:
    """Why a column cannot be probed, or an empty text."""
    kinds = len(np.unique(answers))
    if not len(answers):
        return "no video has it"
    if kinds < 2:
        return f"all {len(answers)} videos have {answers[0]}"
    if len(np.unique(groups)) < 2:
        return f"all {len(answers)} videos are of one group"
    if answers.dtype.kind != "f" and kinds > min(len(answers) // 2, max(MANY, len(answers) // 4)):
        return f"{kinds} different values among {len(answers)} videos"
    return ""


def chosen_columns(
    files: Sequence[str],
    table: dict[str, dict],
    groups: np.ndarray,
    asked: Sequence[str] | None,
) -> tuple[list[str], list[str]]:
    """Columns to probe, words about those left out; one that was asked for and will not do is refused."""
    known = [column for column in next(iter(table.values()), {}) if column != "file"]
    good, words = [], []
    for column in known if asked is None else asked:
        reason = _why_not(files, table, column, groups)
        if reason and asked is not None:
            raise UserError(f"column {column} cannot be read: {reason}. Name others by --column")
        if reason:
            words.append(f"column {column} left out: {reason}")
        else:
            good.append(column)
            labelled = len(answers_of(files, table, column)[0])
            words += [f"{column}: {labelled} of {len(files)} videos have it"] if labelled < len(files) else []
    return good, words


def _why_not(files: Sequence[str], table: dict[str, dict], column: str, groups: np.ndarray) -> str:
    try:
        rows, answers = answers_of(files, table, column)
    except UserError as problem:
        return str(problem).removeprefix(f"column {column} ")
    return why_not(answers, groups[rows])


@dataclass
class Column:
    """A column of labels, and the videos that have it."""

    name: str
    found: Collected
    rows: np.ndarray
    answers: np.ndarray
    groups: np.ndarray
    """int [n], of the videos that have it."""
    own: dict[str, Judged] = field(default_factory=dict)
    """What was said of "this", by the name of the probe."""

    @property
    def kind(self) -> str:
        """Text or number."""
        return "number" if self.answers.dtype.kind == "f" else "text"

    def scored(self, name: str, say: Callable[[str], np.ndarray]) -> dict[str, Any]:
        """An estimate for each encoder of what `say` tells [n]."""
        files = [self.found.files[row] for row in self.rows]
        scores = {}
        for encoder in self.found.kept:
            said = say(encoder)
            if self.kind == "number":
                judged = regressed(files, self.groups, self.answers, said)
            else:
                judged = means(files, self.groups, said == self.answers)
            scores[encoder] = estimate(judged)
            if encoder == "this":
                self.own[f"labels/{self.name}/{name}"] = judged
        return scores

    def by(self, probe: Said, name: str, view: str = "clip") -> dict[str, Any]:
        """Of a probe of the mean token of a view."""

        def say(encoder: str) -> np.ndarray:
            features = self.found.kept[encoder].view(view).mean.numpy()[self.rows]
            return probe(features, self.answers, self.groups)

        return self.scored(name, say)

    def by_attention(self, device: Any) -> dict[str, Any]:
        """Of the attentive probe of all tokens."""

        def say(encoder: str) -> np.ndarray:
            tokens = torch.cat(self.found.kept[encoder].tokens)[torch.from_numpy(self.rows)]
            return attentive(tokens, self.answers, self.groups, device)

        return self.scored("attentive", say)


def probed(
    found: Collected,
    table: dict[str, dict],
    column: str,
    groups: np.ndarray,
    seconds: Sequence[float],
    device: Any = "cpu",
) -> tuple[dict[str, Any], dict[str, Judged]]:
    """The record of one column, and what was said of it from "this"."""
    rows, answers = answers_of(found.files, table, column)
    asked = Column(column, found, rows, answers, groups[rows])
    probes = {name: asked.by(probe, name) for name, probe in PROBES[asked.kind].items()}
    probes["attentive"] = asked.by_attention(device)
    early = EARLY[asked.kind]
    probe = PROBES[asked.kind][early]
    anticipation = [
        {"seconds": tau, "probes": {early: asked.by(probe, f"first {tau:g} s", f"{tau:g} s")}}
        for tau in seconds
    ]
    floor = 0.0 if asked.kind == "number" else majority_share(answers)
    record = {"kind": asked.kind, "videos": len(rows), "floor": floor, "probes": probes}
    return {**record, "anticipation": anticipation}, asked.own
