"""What the demo says: a heading and the equivalent command before each step, and the table at the end."""

from __future__ import annotations

import itertools
import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Column, Table

from vjepa_distill.settings import Component, Data, DistillConfig, JepaConfig, Run

Scores = Mapping[str, Mapping[str, Mapping[str, float]]]
"""Encoder -> column -> {"score": of the linear probe, "knn", "floor"}."""
VERBS: dict[type[Run], tuple[str, dict[str, Any]]] = {
    DistillConfig: ("distill", {"teachers": {"main": Component("-")}}),
    JepaConfig: ("jepa-train", {}),
}
"""Of each configuration: its command, and what it cannot be made without."""
TITLES = {"shape": "shape class", "velocity": "velocity, R²", "outcome": "outcome"}
LEGEND = (
    "Linear probes of frozen, averaged tokens, 5 folds of {videos} videos that no encoder was trained on: "
    "accuracy of shape class and outcome, R² of velocity (mean of vx and vy). Only the teacher was told "
    "labels, those of the training videos. k-NN scores are in {saved}."
)


def heading(title: str, *commands: str) -> None:
    """A title and what to type for the same, on stderr, where bars and logs go."""
    console = Console(stderr=True)
    console.print(f"\n[bold]{title}[/bold]", highlight=False)
    for line in commands:
        console.print(line, style="dim", markup=False, highlight=False, soft_wrap=True)


def command(config: Run) -> str:
    """What a person would type for this configuration: every option that is not its default."""
    verb, required = VERBS[type(config)]
    plain = dict(flat(asdict(type(config)(out="-", **required))))
    if getattr(config, "init", None):
        plain["student.name"] = ""  # it is the initial run's; only what differs from a plain run is typed
    typed = [option(name, value) for name, value in flat(asdict(config)) if plain.get(name) != value]
    return " ".join(["vjepa-distill", verb, *typed])


def encode_command(source: Path, out: Path, data: Data, random_weights: bool) -> str:
    """The encode command of a probe."""
    plain = dict(flat(asdict(Data())))
    where = [option(f"data.{name}", value) for name, value in flat(asdict(data)) if plain[name] != value]
    flags = ["--random_weights"] if random_weights else []
    return " ".join(
        ["vjepa-distill encode", option("from", str(source)), option("out", str(out)), *where, *flags]
    )


def probe_command(features: Path, labels: Path, columns: Mapping[str, Sequence[str]]) -> str:
    """The probe command of all these columns of the labels."""
    named = ",".join(itertools.chain(*columns.values()))
    given = [option("features", str(features)), option("labels", str(labels)), option("column", named)]
    return " ".join(["vjepa-distill probe", *given])


def flat(settings: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Nested settings as dotted names."""
    for name, value in settings.items():
        if isinstance(value, dict):
            yield from flat(value, f"{before}{name}.")
        else:
            yield before + name, value


def option(name: str, value: Any) -> str:
    typed = value if isinstance(value, str) else json.dumps(value)
    return f"--{name} {shlex.quote(typed)}"


def averaged(parts: Sequence[Mapping[str, Mapping[str, float]]]) -> dict[str, float]:
    """The probes of one or two columns as one: {"score": linear or ridge, "knn", "floor"}."""
    found = []
    for part in parts:
        knn, linear = part.values()
        found.append({"score": linear["score"], "knn": knn["score"], "floor": linear["floor"]})
    return {name: sum(one[name] for one in found) / len(found) for name in found[0]}


def show(scores: Scores, videos: int, saved: Path, page: Path) -> None:
    """The table, on stdout and within 80 columns, and how to read it."""
    console, (first, *_) = Console(width=80), scores.values()
    table = Table(Column("encoder"), *(Column(TITLES[column], justify="right") for column in first))
    for name, row in scores.items():
        table.add_row(name, *(f"{cell['score']:.3f}" for cell in row.values()))
    table.add_row("chance", *(f"{cell['floor']:.3f}" for cell in first.values()), style="dim")
    console.print()
    console.print(table)
    console.print(LEGEND.format(videos=videos, saved=saved), highlight=False)
    console.print(f"Curves and pictures of both stages: {page}", highlight=False)
