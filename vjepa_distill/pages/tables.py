"""From what ``evaluate`` wrote to tables; several runs side by side, in the order given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vjepa_distill.pages.contents import RunFacts
from vjepa_distill.pages.numbers import short

Estimate = Mapping[str, Any]
"""{"score", "low", "high"}: a score and its interval, 95 % over videos."""
Told = Sequence[tuple[RunFacts, Mapping[str, Any]]]
"""Runs with what was evaluated of them."""
ENCODERS = {"random": "random weights", "start": "where it started", "this": "this run"}
PROBES = {
    "direction": "direction of play",
    "speed": "speed",
    "order": "order of halves",
    "shuffled": "shuffled frames",
}
READ = {"mean": "mean token", "change": "change over time"}
NAMES = {"knn": "k-NN"}


@dataclass(frozen=True)
class Cell:
    """A number with what stands small beside it."""

    text: str
    beside: str = ""
    strong: bool = False
    """Its interval lies above what stands for nothing."""


@dataclass(frozen=True)
class Table:
    """A table with its title and how to read it; the first column names the row."""

    title: str
    words: str
    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]


def tables(runs: Sequence[RunFacts]) -> list[Table]:
    """Time, EVENTUALLY, labels, drift, health: those that some run was evaluated for."""
    told = [(run, run.evaluation) for run in runs if run.evaluation]
    made = [maker(told) for maker in (_time, _eventually, _labels, _drift, _health)]
    return [table for table in made if table.rows]


def _columns(told: Told) -> list[str]:
    """One column an encoder; of several runs each is named."""
    if len(told) == 1:
        return list(ENCODERS.values())
    return [f"{run.name}: {name}" for run, _ in told for name in ENCODERS.values()]


def _time(told: Told) -> Table:
    rows = []
    for probe in dict.fromkeys(probe for _, one in told for probe in one.get("time") or {}):
        for read, words in READ.items():
            found = [((one.get("time") or {}).get(probe) or {}) for _, one in told]
            chance = next((one["chance"] for one in found if "chance" in one), 0.5)
            cells = [
                estimate((one.get(read) or {}).get(encoder), chance) for one in found for encoder in ENCODERS
            ]
            rows.append([Cell(PROBES.get(probe, probe), words), Cell(short(chance)), *cells])
    words = "Accuracy of a linear probe, with its 95 % interval; what lies clear of chance is bold."
    return _slim("What it knows about time", words, ["probe", "chance", *_columns(told)], rows)


def _eventually(told: Told) -> Table:
    among = {"videos": "other videos", "starts": "other starts of the video", "group": "its own group"}
    rows = []
    for name, words in among.items():
        found = [((one.get("eventually") or {}).get(name) or {}) for _, one in told]
        if any(found):
            cells = [
                cell
                for one in found
                for cell in (
                    estimate(one, one.get("chance")),
                    Cell(short(one["chance"]) if "chance" in one else "–"),
                )
            ]
            rows.append([Cell(f"among {words}"), *cells])
    heads = ["found", "chance"]
    head = heads if len(told) == 1 else [f"{run.name}: {name}" for run, _ in told for name in heads]
    words = "How often EVENTUALLY's outcome finds the right far future."
    return Table("What EVENTUALLY retrieves", words, ["", *head], rows)


def _labels(told: Told) -> Table:
    rows = []
    for column in dict.fromkeys(column for _, one in told for column in one.get("labels") or {}):
        found = [((one.get("labels") or {}).get(column) or {}) for _, one in told]
        floor = next((one["floor"] for one in found if "floor" in one), None)
        for probe in dict.fromkeys(probe for one in found for probe in one.get("probes") or {}):
            scores = [(one.get("probes") or {}).get(probe) or {} for one in found]
            cells = [estimate(one.get(encoder), floor) for one in scores for encoder in ENCODERS]
            rows.append(
                [
                    Cell(column, {"knn": "k-NN"}.get(probe, probe)),
                    Cell("–" if floor is None else short(floor)),
                    *cells,
                ]
            )
    words = "Accuracy of text, R² of numbers, with a 95 % interval; what lies clear of the floor is bold."
    return _slim("What can be read from it", words, ["column", "floor", *_columns(told)], rows)


def _drift(told: Told) -> Table:
    layers = dict.fromkeys(row["layer"] for _, one in told for row in one.get("drift") or [])
    rows = []
    for layer in layers:
        cells = []
        for _, one in told:
            row: Mapping[str, Any] = next(
                (row for row in one.get("drift") or [] if row["layer"] == layer), {}
            )
            cells += [
                estimate(row.get("cosine")),
                Cell("–" if row.get("cka") is None else f"{row['cka']:.3f}"),
            ]
        rows.append([Cell("last layer" if layer == "last" else f"layer {layer}"), *cells])
    heads = ["cosine", "CKA"]
    head = heads if len(told) == 1 else [f"{run.name}: {name}" for run, _ in told for name in heads]
    words = "Tokens of this run beside those of the run it started from; 1 is no change."
    return Table("How far it moved from its start", words, ["", *head], rows)


def _health(told: Told) -> Table:
    rows = [
        [
            Cell(ENCODERS.get(encoder, encoder), run.name if len(told) > 1 else ""),
            *(Cell(_number(numbers.get(name))) for name in ("rank", "std", "dead", "norm")),
        ]
        for run, one in told
        for encoder, numbers in (one.get("health") or {}).items()
    ]
    words = "Effective rank, spread per dimension, dead dimensions, and the length of a token."
    return Table("Health of the tokens", words, ["", "rank", "spread", "dead", "norm"], rows)


def _number(value: float | None) -> str:
    return "–" if value is None else short(value)


def estimate(told: Estimate | None, floor: float | None = None) -> Cell:
    """A score with its interval; strong where that lies above the floor."""
    if not told or told.get("score") is None:
        return Cell("–")
    low, high = told.get("low"), told.get("high")
    beside = "" if low is None or high is None else f"{low:.2f} to {high:.2f}"
    return Cell(f"{told['score']:.3f}", beside, floor is not None and low is not None and low > floor)


def _slim(title: str, words: str, head: Sequence[str], rows: Sequence[Sequence[Cell]]) -> Table:
    """Without the columns in which nothing stands."""
    kept = [at for at in range(len(head)) if at < 2 or any(row[at].text != "–" for row in rows)]
    return Table(title, words, [head[at] for at in kept], [[row[at] for at in kept] for row in rows])


def unevaluated(runs: Sequence[RunFacts]) -> list[RunFacts]:
    """The runs of which there is nothing here yet."""
    return [run for run in runs if not run.evaluation]
