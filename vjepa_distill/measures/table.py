"""Features and labels as they lie on disk: rows with file names, and a CSV with a column "file"."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch

from vjepa_distill.errors import UserError

FORMAT = 1


Row = tuple[str, int]
"""A file, and which of its rows: a long video sampled by fps has several."""


@dataclass
class Features:
    """Vectors [N, D], and where the one of each row is."""

    vectors: np.ndarray
    index: dict[Row, int]

    def of(self, rows: Sequence[Row]) -> np.ndarray:
        """The vectors of these rows, [len(rows), D]."""
        return self.vectors[[self.index[row] for row in rows]]


def read_features(path: Path | str) -> Features:
    """What encode wrote; tokens [N, L, D] are averaged. UserError for anything else, or a newer format."""
    path = Path(path)
    try:
        vectors = safetensors.torch.load_file(path)["features"].float()
        record = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    except FileNotFoundError as problem:
        raise UserError(f"{problem.filename or path} is missing: vjepa-distill encode writes it") from problem
    except (OSError, KeyError, ValueError, safetensors.SafetensorError) as problem:
        raise UserError(f"{path} holds no features of vjepa-distill encode: {problem}") from problem
    if record.get("format", FORMAT + 1) > FORMAT:
        raise UserError(
            f"{path} has format {record.get('format')}, this version reads up to {FORMAT}: "
            "pip install --upgrade vjepa-distill"
        )
    if len(record["files"]) != len(vectors):
        raise UserError(f"{path} has {len(vectors)} rows and {len(record['files'])} names: encode it again")
    seen: Counter[str] = Counter()
    index = {}
    for number, file in enumerate(record["files"]):
        index[file, seen[file]] = number
        seen[file] += 1
    return Features((vectors.mean(dim=1) if vectors.ndim == 3 else vectors).numpy(), index)


def read_labels(path: Path | str, columns: Sequence[str]) -> dict[str, dict[str, str]]:
    """file name -> row of a CSV with the columns "file" and `columns`; UserError with near names if not.

    A cell "nan", as other tools write one that is missing, is empty.
    """
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            known = list(reader.fieldnames or [])
            rows = [{column: _cell(value) for column, value in row.items()} for row in reader]
    except FileNotFoundError as problem:
        raise UserError(f"there are no labels {path}: give a CSV file with a column file") from problem
    except (OSError, UnicodeDecodeError, csv.Error) as problem:
        raise UserError(f"the labels {path} cannot be read: {problem}") from problem
    if not known:
        raise UserError(f"the labels {path} are empty: give a CSV file with a column file")
    table: dict[str, dict[str, str]] = {}
    for row in rows:
        name = row.get("file", "").replace("\\", "/")
        if table.setdefault(name, row) != row:
            raise UserError(f"the labels {path} have two rows of {name} that differ: keep one of them")
    for column in ["file", *columns]:
        if column not in known:
            close = get_close_matches(column, known, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise UserError(f"{path} has no column {column!r}; it has {', '.join(known)}.{hint}")
    if not table:
        raise UserError(f"the labels {path} have no rows: give one for each video")
    return table


def _cell(value: Any) -> str:
    text = value if isinstance(value, str) else ""
    return "" if text.strip().lower() == "nan" else text


def numbers_of(values: Sequence[str], column: str) -> np.ndarray | None:
    """The values as numbers [n] where every one is one; UserError where one of them is infinite."""
    try:
        numbers = np.array([float(value) for value in values])
    except ValueError:
        return None
    if not np.isfinite(numbers).all():
        raise UserError(f"column {column} holds inf, which is no number: leave those cells empty")
    return numbers


def groups_of(files: Sequence[str], table: dict[str, dict], columns: Sequence[str]) -> np.ndarray:
    """A number for each row [N]: the same where all these columns are, or without columns where the file is.

    A row with a gap in one of the columns is known to share them with nobody but itself.
    """
    keys = []
    for file in files:
        values = tuple(table[file][column] or "" for column in columns)
        keys.append(values if values and all(values) else (file,))
    numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    return np.array([numbers[key] for key in keys])
