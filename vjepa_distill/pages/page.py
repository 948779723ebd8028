"""The page: the contents of every run, drawn, put into one HTML text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from vjepa_distill.pages import compared, curves, evaluated, tables
from vjepa_distill.pages.colours import RAMP
from vjepa_distill.pages.contents import RunFacts
from vjepa_distill.pages.films import films, masks, searches
from vjepa_distill.pages.plots import COLOURS, Chart, colour, draw
from vjepa_distill.pages.strips import strips
from vjepa_distill.pages.verdict import sentence, tiles


def page(runs: Sequence[RunFacts], version: str) -> str:
    """One HTML text, in the order: what the runs are and came to, curves, time, tables, pictures.

    Needs nothing but itself: no script, and a policy in its head that forbids the browser every request.
    """
    return _template().render(
        runs=[_run(run, number) for number, run in enumerate(runs)],
        title=runs[0].name if len(runs) == 1 else f"{len(runs)} runs side by side",
        version=version,
        learning=_drawn(curves.learning(runs)),
        health=_drawn(curves.health(runs)),
        machine=_drawn(curves.machine(runs)),
        horizon=_drawn(evaluated.horizon(runs)),
        measured=_drawn(evaluated.anticipation(runs) + evaluated.positions(runs)),
        tables=tables.tables(runs) + compared.tables(runs),
        unevaluated=tables.unevaluated(runs),
        unmeasured=evaluated.unmeasured(runs),
        taught=any(run.stage == "jepa" for run in runs),
        colour=colour,
        ramp=["#{:02x}{:02x}{:02x}".format(*stop) for stop in RAMP.tolist()],
    )


@cache
def _template() -> Template:
    """Autoescaping, and an error for a name that is not there: a gap would go unseen."""
    loader = PackageLoader("vjepa_distill.pages", "templates")
    return Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    ).get_template("page.html.j2")


def _run(run: RunFacts, number: int) -> dict[str, Any]:
    """A run as the template wants it."""
    clips = run.clips
    return {
        "facts": run,
        "colour": number % COLOURS,
        "verdict": sentence(run),
        "tiles": tiles(run),
        "films": films(clips) if clips else None,
        "strips": strips(clips.watched) if clips else [],
        "among": clips.among if clips else 0,
        "masks": masks(clips) if clips else [],
        "searches": searches(clips) if clips else [],
        "notes": clips.notes if clips else [run.why_no_clips],
    }


def _drawn(charts: Iterable[Chart]) -> list[dict[str, Any]]:
    return [{"chart": chart, "svg": draw(chart)} for chart in charts]
