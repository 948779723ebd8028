"""From what ``evaluate`` wrote to charts: how far ahead a run sees, and how early something can be read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from vjepa_distill.pages.contents import RunFacts
from vjepa_distill.pages.curves import ahead
from vjepa_distill.pages.plots import REST, Chart, Line, Point
from vjepa_distill.pages.tables import ENCODERS

ACROSS = "tubelets after NOW"
RIVALS = {"persistence": "repeating the last NOW tubelet", "linear": "going on in a straight line"}


def horizon(runs: Sequence[RunFacts]) -> list[Chart]:
    """SOON's skill by Δt: of one run against every rival in one plot, of several against each rival.

    From the evaluation, with intervals; of a run without one from its log, as it was at the last held-out
    scores.
    """
    found = {number: told for number, run in enumerate(runs) if (told := _skills(run))}
    title, words = "SOON's skill, by how far ahead", "1 − error / the rival's error; above 0 is gain."
    if len(found) == 1:
        [(number, skills)] = found.items()
        title = title if len(runs) == 1 else f"{title}: {runs[number].name}"
        lines = [replace(line, colour=at) for at, line in enumerate(skills.values())]
        return [Chart(title, words, [*lines, _zero()], ACROSS)]
    return [
        Chart(f"{title}, against {_rival(rival)}", words, [*_against(rival, runs, found), _zero()], ACROSS)
        for rival in dict.fromkeys(rival for skills in found.values() for rival in skills)
    ]


def unmeasured(runs: Sequence[RunFacts]) -> list[RunFacts]:
    """The runs of jepa-train that have a horizon, and no evaluation of it yet."""
    return [run for run in runs if run.stage == "jepa" and not (run.evaluation or {}).get("horizon")]


def _against(rival: str, runs: Sequence[RunFacts], found: Mapping[int, Mapping[str, Line]]) -> Iterator[Line]:
    for number, skills in found.items():
        if rival in skills:
            yield replace(skills[rival], label=runs[number].name, colour=number)


def _skills(run: RunFacts) -> dict[str, Line]:
    """A run's lines by rival, from the better of its sources."""
    told = (run.evaluation or {}).get("horizon")
    if not told:
        logged = ahead(run).items()
        return {rival: Line(f"against {_rival(rival)}", points) for rival, points in logged}
    return {rival: _skill(told, rival) for rival in told["rivals"]}


def _rival(name: str) -> str:
    return RIVALS.get(name, name)


def _zero() -> Line:
    return Line("no better than the rival", [(0, 0.0)], "floor", REST)


def _skill(told: Mapping[str, Any], rival: str) -> Line:
    rows = list(zip(told["steps"], told["rivals"][rival], strict=True))
    points = [(float(step), float(one["score"])) for step, one in rows]
    band = [(float(one["low"]), float(one["high"])) for _, one in rows]
    return Line(f"against {_rival(rival)}", points, band=band)


def anticipation(runs: Sequence[RunFacts]) -> list[Chart]:
    """What is read from the first seconds alone, one plot for each column of labels."""
    columns: dict[str, float] = {}
    for run in runs:
        columns |= {name: float(told["floor"]) for name, told in _labels(run).items()}
    words, across = "The linear probe's score when it sees the first seconds alone.", "seconds seen"
    charts = []
    for column, floor in columns.items():
        lines = _encoders(runs, partial(_early, column))
        if lines:
            still = Line("floor", [(0, floor)], "floor", REST)
            charts.append(Chart(f"Anticipation: {column}", words, [*lines, still], across, whole=False))
    return charts


def positions(runs: Sequence[RunFacts]) -> list[Chart]:
    """The effective rank of the tokens of every moment of a clip."""
    lines = _encoders(runs, _ranks)
    words = "Of the tokens of one tubelet, over all clips."
    return [Chart("Effective rank by tubelet", words, lines, "tubelet")] if lines else []


def _encoders(runs: Sequence[RunFacts], points: Callable[[RunFacts, str], list[Point]]) -> list[Line]:
    """Of one run a line for each encoder beside it; of several one for each run."""
    if len(runs) == 1:
        made = [
            Line(words, points(runs[0], name), "main", at)
            for at, (name, words) in enumerate(ENCODERS.items())
        ]
    else:
        made = [Line(run.name, points(run, "this"), "main", number) for number, run in enumerate(runs)]
    return [line for line in made if line.points]


def _labels(run: RunFacts) -> Mapping[str, Any]:
    return (run.evaluation or {}).get("labels") or {}


def _early(column: str, run: RunFacts, encoder: str) -> list[Point]:
    """(seconds, score) of the first probe of every moment."""
    moments = (_labels(run).get(column) or {}).get("anticipation") or []
    told: list[tuple[float, Mapping[str, Any]]] = [
        (moment["seconds"], next(iter(moment["probes"].values()), {})) for moment in moments
    ]
    return [(float(at), float(probe[encoder]["score"])) for at, probe in told if encoder in probe]


def _ranks(run: RunFacts, encoder: str) -> list[Point]:
    told: Mapping[str, Any] = ((run.evaluation or {}).get("health") or {}).get(encoder) or {}
    ranks = [one.get("rank") for one in told.get("positions") or []]
    return [(float(at), float(rank)) for at, rank in enumerate(ranks, 1) if rank is not None]
