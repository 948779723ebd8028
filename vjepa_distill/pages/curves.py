"""From the rows of the log to charts: every number beside its floor or rival, held-out beside training."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from vjepa_distill.pages.contents import RunFacts
from vjepa_distill.pages.known import FLOORS, HEALTH, LEARNING, MACHINE, Known
from vjepa_distill.pages.plots import REST, Chart, Line, Point

HELD = "heldout/"
FEW = 3
"""Held-out points that are too few to see a run by."""
MOST = 400
"""Points of a line; a longer log is thinned by means."""
AHEAD = re.compile(r"soon/skill(?:_(\w+))?/(\d+)")
"""SOON's skill against a rival, so many tubelets after NOW: told by the horizon, not over the steps."""


def learning(runs: Sequence[RunFacts]) -> list[Chart]:
    """Scores and losses; those that this version does not know come last, under their own names."""
    names = list(dict.fromkeys(name.removeprefix(HELD) for run in runs for name in _names(run)))
    beside = {floor for name in names for floor, _ in _floors(name)}
    said = {*LEARNING, *HEALTH, *MACHINE, *beside, "step"}
    others = [name for name in names if name not in said and not AHEAD.fullmatch(name)]
    known = LEARNING | {name: Known(name, "") for name in others}
    return _charts(runs, known)


def health(runs: Sequence[RunFacts]) -> list[Chart]:
    """Rank and spread of the tokens."""
    return [replace(chart, from_zero=True) for chart in _charts(runs, HEALTH)]


def machine(runs: Sequence[RunFacts]) -> list[Chart]:
    """What the machine did."""
    return _charts(runs, MACHINE)


def ahead(run: RunFacts) -> dict[str, list[Point]]:
    """The last held-out skill of SOON against each rival: (tubelets after NOW, skill)."""
    found: dict[str, list[Point]] = {}
    for name, value in run.heldout.items():
        if match := AHEAD.fullmatch(name):
            found.setdefault(match[1] or "persistence", []).append((float(match[2]), value))
    return {rival: sorted(points) for rival, points in found.items()}


def _names(run: RunFacts) -> Iterator[str]:
    for row in run.rows:
        yield from row


def _charts(runs: Sequence[RunFacts], known: dict[str, Known]) -> list[Chart]:
    charts = []
    for name, (title, words) in known.items():
        for kind, alike in _alike(runs, name).items():
            lines = [line for number in alike for line in _lines(runs[number], name, number, len(runs) > 1)]
            if lines:
                told = f"{words} {kind}".rstrip()
                charts.append(Chart(title, told, [*lines, *_constants([runs[n] for n in alike], name)]))
    return charts


def _alike(runs: Sequence[RunFacts], name: str) -> dict[str, list[int]]:
    """Which runs go into one plot, by number: all, but of a score those where it is the same thing."""
    found: dict[str, list[int]] = {}
    for number, run in enumerate(runs):
        found.setdefault(run.judged_by if name == "score" else "", []).append(number)
    return found


def _lines(run: RunFacts, name: str, number: int, several: bool) -> Iterator[Line]:
    """Held-out, else training; of a single run, or where few points are held out, both. Then the floors that
    move, in the log's own numbers."""
    held, train = points(run, HELD + name), points(run, name)
    if held:
        yield Line(run.name if several else "held out", held, "main", number)
    if train and not (several and len(held) >= FEW):
        called = ([run.name] if several else []) + ([] if several and not held else ["training"])
        yield Line(", ".join(called), train, "faint" if held else "main", number)
    moving = [(words, points(run, HELD + floor) or points(run, floor)) for floor, words in _floors(name)]
    for place, (words, found) in enumerate((words, found) for words, found in moving if found):
        if found:
            told = f"{words}, {run.name}" if several else words
            yield Line(told, found, "second" if place else "floor", number if several else REST)


def _floors(name: str) -> Iterator[tuple[str, str]]:
    """The names under which the log may have a floor of this number."""
    for ending, words in FLOORS.items():
        yield name + ending, words
    if name.endswith("/retrieval"):
        yield name.removesuffix("retrieval") + "chance", "chance"


def _constants(runs: Sequence[RunFacts], name: str) -> Iterator[Line]:
    """Floors that stand still: the rival of a skill, the mean token of R², what speaks of collapse."""
    if name == "direction":
        yield Line("chance", [(0, 0.5)], "floor", REST)
    if "skill" in name.rpartition("/")[2]:
        yield Line("the rival", [(0, 0.0)], "floor", REST)
    if name == "r2":
        yield Line("mean token", [(0, 0.0)], "floor", REST)
    for floor in {run.floors[name] for run in runs if name in run.floors}:
        yield Line("collapse below", [(0, floor)], "floor", REST)


def points(run: RunFacts, name: str) -> list[Point]:
    """(step, value) of a number of the log, where it is one; thinned to MOST by means of neighbours."""
    told = [(row.get("step"), row.get(name)) for row in run.rows]
    found = [(float(x), float(y)) for x, y in told if x is not None and y is not None and math.isfinite(y)]
    size = max(1, math.ceil(len(found) / MOST))
    parts = [found[start : start + size] for start in range(0, len(found), size)]
    return [(part[-1][0], sum(value for _, value in part) / len(part)) for part in parts]
