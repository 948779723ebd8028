"""From what ``evaluate`` wrote to charts: how far ahead a run sees, and how early something can be read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from vjepa_distill.pages.contents import RunFacts
from vjepa_distill.pages.plots import REST, Chart, Line, Point
from vjepa_distill.pages.tables import ENCODERS, Told

RIVALS = {"persistence": "repeating the last NOW tubelet", "linear": "going on in a straight line"}


def horizon(runs: Sequence[RunFacts]) -> list[Chart]:
    """SOON's skill by Δt: of one run against every rival in one plot, of several against each rival."""
    found = [(run, told["horizon"]) for run in runs if (told := run.evaluation) and told.get("horizon")]
    title, words = "SOON's skill, by how far ahead", "1 − error / the rival's error; above 0 is gain."
    if len(found) == 1:
        [(_, told)] = found
        lines = [_skill(f"against {_rival(name)}", told, name, at) for at, name in enumerate(told["rivals"])]
        return [Chart(title, words, [*lines, _zero()], "tubelets after NOW")]
    names = dict.fromkeys(name for _, told in found for name in told["rivals"])
    return [
        Chart(
            f"{title}, against {_rival(name)}",
            words,
            [*_against(name, runs, found), _zero()],
            "tubelets after NOW",
        )
        for name in names
    ]


def _against(rival: str, runs: Sequence[RunFacts], found: Told) -> Iterator[Line]:
    for run, told in found:
        if rival in told["rivals"]:
            yield _skill(run.name, told, rival, runs.index(run))


def _rival(name: str) -> str:
    return RIVALS.get(name, name)


def _zero() -> Line:
    return Line("no better than the rival", [(0, 0.0)], "floor", REST)


def _skill(label: str, told: Mapping[str, Any], rival: str, colour: int) -> Line:
    rows = list(zip(told["steps"], told["rivals"][rival], strict=True))
    points = [(float(step), float(one["score"])) for step, one in rows]
    return Line(label, points, "main", colour, [(float(one["low"]), float(one["high"])) for _, one in rows])


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
