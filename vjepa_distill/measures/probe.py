"""How much of a labels column can be read from frozen features, beside what can be had for nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from vjepa_distill.errors import UserError
from vjepa_distill.measures.scores import knn_accuracy, knn_r2, linear_accuracy, majority_share, ridge_r2
from vjepa_distill.measures.table import Features, Row, groups_of, numbers_of, read_features, read_labels

PROBES: dict[str, dict[str, Callable[..., float]]] = {
    "text": {"k-NN": knn_accuracy, "linear": linear_accuracy},
    "number": {"k-NN R²": knn_r2, "ridge R²": ridge_r2},
}


def probe(
    features: Path | str,
    labels: Path | str,
    column: str,
    exclude: Sequence[str] = (),
    floor: Path | str | None = None,
    kind: Literal["auto", "text", "number"] = "auto",
    k: int = 5,
) -> dict[str, Any]:
    """Scores of features [N, D] against a column of a CSV file, each beside its floor.

    Text: accuracy of k-NN and of a linear probe; their floor is the share of the commonest label. Numbers: R²
    of ridge and k-NN; their floor, 0, is the mean. `exclude`: rows that share all these columns with the one
    asked about are no neighbours of it (k-NN) and in no training fold for it (linear, ridge); without, only
    rows of the same file. `floor`: features of the same encoder with random weights, scored on the same rows.

    Returns {"column", "kind", "rows", "skipped", "classes", "scores": {probe: {"score", "floor", "random"}}}.
    UserError where files, columns or names do not go together, or where nothing is left to compare.
    """
    return probe_columns(features, labels, [column], exclude, floor, kind, k)[0]


def probe_columns(
    features: Path | str,
    labels: Path | str,
    columns: Sequence[str],
    exclude: Sequence[str] = (),
    floor: Path | str | None = None,
    kind: Literal["auto", "text", "number"] = "auto",
    k: int = 5,
) -> list[dict[str, Any]]:
    """What `probe` returns, for each of the columns: the files are read once, all names judged first."""
    sets = {name: read_features(path) for name, path in (("score", features), ("random", floor)) if path}
    table = read_labels(labels, [*columns, *exclude])
    return [_scored(sets, table, column, exclude, labels, kind, k) for column in columns]


def _scored(
    sets: dict[str, Features],
    table: dict[str, dict],
    column: str,
    exclude: Sequence[str],
    labels: Path | str,
    kind: str,
    k: int,
) -> dict[str, Any]:
    rows = _common(sets, table, column, labels)
    values = [table[file][column] for file, _ in rows]
    numbers = _numbers(values, kind, column)
    answers = np.array(values) if numbers is None else numbers
    groups = groups_of([file for file, _ in rows], table, exclude)
    _refuse_trivial(answers, groups, column, exclude)
    found = "text" if numbers is None else "number"
    scores = {name: {"floor": majority_share(answers) if found == "text" else 0.0} for name in PROBES[found]}
    for which, one_set in sets.items():
        for name, score in PROBES[found].items():
            scores[name][which] = score(one_set.of(rows), answers, groups, k)
    return {
        "column": column,
        "kind": found,
        "exclude": list(exclude),
        "rows": len(rows),
        "skipped": len(sets["score"].index) - len(rows),
        "classes": len(np.unique(answers)),
        "scores": scores,
    }


def _common(sets: dict[str, Features], table: dict[str, dict], column: str, labels: Path | str) -> list[Row]:
    """The rows that have a label and are in every feature set, in order."""
    labelled = [row for row in sets["score"].index if table.get(row[0], {}).get(column)]
    rows = [row for row in labelled if all(row in other.index for other in sets.values())]
    if not rows:
        given, known = next(iter(sets["score"].index))[0], next(iter(table), "none")
        raise UserError(
            f"no file of the features has a {column} in {labels}: features name {given}, labels {known}. "
            "Encode with --data.root at the folder that the labels' names start from"
        )
    return rows


def _refuse_trivial(answers: np.ndarray, groups: np.ndarray, column: str, exclude: Sequence[str]) -> None:
    if len(np.unique(answers)) < 2:
        raise UserError(f"all {len(answers)} rows have {column} {answers[0]}: there is nothing to tell apart")
    if len(np.unique(groups)) < 2:
        shared = " and ".join(exclude) or "file"
        raise UserError(f"all {len(answers)} rows share one {shared}: without its like no row can be judged")


def _numbers(values: list[str], kind: str, column: str) -> np.ndarray | None:
    """The column as numbers, None if it is text; "auto" takes it as numbers when every value is one."""
    if kind == "text":
        return None
    numbers = numbers_of(values, column)
    if numbers is None and kind == "number":
        wrong = next(value for value in values if numbers_of([value], column) is None)
        raise UserError(f"{column} is no column of numbers ({wrong!r}): type --kind text")
    return numbers


def render(results: Sequence[dict[str, Any]]) -> Any:
    """For rich's print: one table of results that share features, floor and exclude, and of how many rows."""
    from rich.console import Group
    from rich.markup import escape
    from rich.table import Table

    first = results[0]
    excluded = f", same {' and '.join(first['exclude'])} left out" if first["exclude"] else ""
    uneven = len({result["rows"] for result in results}) > 1
    skipped = f", {first['skipped']} skipped" if first["skipped"] else ""
    count = f"{first['rows']} rows{skipped}"
    if uneven:
        count = f"{first['rows'] + first['skipped']} rows, some skipped"
    random = any("random" in row for row in first["scores"].values())
    table = Table()
    table.add_column("column", overflow="fold")
    table.add_column("probe", no_wrap=True)
    for heading in [*(["rows"] if uneven else []), "score", "floor", *(["random weights"] if random else [])]:
        table.add_column(heading, justify="right", no_wrap=True)
    for result in results:
        rows = [str(result["rows"])] if uneven else []
        for name, row in result["scores"].items():
            cells = [row["score"], row["floor"], *([row["random"]] if random else [])]
            table.add_row(escape(result["column"]), name, *rows, *(f"{value:.3f}" for value in cells))
        table.add_section()
    return Group(escape(count + excluded), table)
