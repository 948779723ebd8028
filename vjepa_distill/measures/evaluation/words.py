"""The table that `evaluate` prints: every score with its interval, beside chance and the other encoders."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

HEADS = {"this": "this", "random": "random weights", "start": "started from"}
PROBES = {"knn": "k-NN"}
FEATURES = {"mean": "", "change": ", change"}
NARROW = 17
"""Of the names of measures: three scores with their intervals, one of them negative, go beside them in 80."""
SMALL = 0.1
"""Of an interval within this of 0 hundredths would not tell on which side it ends."""
NEEDS = "horizon and EVENTUALLY need a run of jepa-train with its predictor"


def render(record: Mapping[str, Any]) -> Any:
    """For rich's print: one table of 80 columns, and what must be known beside it."""
    from rich.console import Group
    from rich.markup import escape

    names = [name for name in HEADS if name in record["health"]]
    table = _table(["", "floor", *(HEADS[name] for name in names)])
    for section in (_time(record, names), _labels(record, names), _future(record), _health(record, names)):
        for what, chance, *cells in section:
            table.add_row(escape(what), chance, *cells)
        table.add_section()
    notes = [*_drift(record), *([] if record["horizon"] else [NEEDS]), *record.get("notes", ())]
    clip = record["clip"]
    of = f"{record['source']}: {record['data']['videos']} videos, {clip['num_frames']} frames of "
    of += f"{clip['height']} x {clip['width']}, 95 % intervals over {record['data']['groups']}"
    return Group(escape(of), table, *(escape(f"- {note}") for note in notes))


def render_comparison(comparison: Mapping[str, Any]) -> Any:
    """For rich's print: each score of the first run, and of the others what they have more."""
    from rich.console import Group
    from rich.markup import escape

    runs = comparison["runs"]
    names = [Path(run).name for run in runs]
    names = names if len(set(names)) == len(names) else runs
    table = _table(["", names[0], *(f"{name}: more" for name in names[1:])])
    for row in comparison["differences"]:
        by_run = {pair["run"]: pair for pair in row["pairs"]}
        cells = [cell(by_run[run], "+") if run in by_run else "-" for run in runs[1:]]
        table.add_row(escape(_shortly(row["what"])), f"{row['base']:.3f}", *cells)
    return Group(escape(f"differences of {', '.join(runs[1:])} to {runs[0]}, 95 % intervals"), table)


def cell(found: Mapping[str, float] | None, sign: str = "") -> str:
    """0.677 [.62 .73], near 0 to three places: 0.012 [.009 .015]; or a dash."""
    if not found:
        return "-"
    places = 3 if max(abs(found["low"]), abs(found["high"])) < SMALL else 2
    low, high = (_short(found[end], sign, places) for end in ("low", "high"))
    return f"{found['score']:{sign}.3f} \\[{low} {high}]"  # escaped: rich reads brackets as its own


def _short(end: float, sign: str, places: int) -> str:
    """As many characters as fit: .62, -.05, 1.00, -1.4."""
    if end <= -1:
        return f"{end:.1f}" if end > -10 else f"{end:.0f}"
    return f"{end:{sign}.{places}f}".replace("0.", ".", 1)


def _table(heads: Sequence[str]) -> Any:
    from rich.box import SIMPLE
    from rich.table import Table

    table = Table(box=SIMPLE, padding=0, pad_edge=False, show_edge=False)
    table.add_column(heads[0], overflow="fold", width=NARROW if len(heads) > 4 else None)
    for head in heads[1:]:
        table.add_column(head, justify="right", overflow="fold")
    return table


def _time(record: Mapping[str, Any], names: Sequence[str]) -> Iterator[list[str]]:
    for test, found in record["time"].items():
        for feature, words in FEATURES.items():
            yield [
                test + words,
                f"{found['chance']:.2f}",
                *(cell(found[feature].get(name)) for name in names),
            ]


def _labels(record: Mapping[str, Any], names: Sequence[str]) -> Iterator[list[str]]:
    for column, found in (record["labels"] or {}).items():
        unit = " R²" if found["kind"] == "number" else ""
        for probe, scores in found["probes"].items():
            yield [
                f"{column} {PROBES.get(probe, probe)}{unit}",
                f"{found['floor']:.2f}",
                *(cell(scores[name]) for name in names),
            ]
        for early in found["anticipation"]:
            for scores in early["probes"].values():
                what = f"{column} in {early['seconds']:g} s{unit}"
                yield [what, f"{found['floor']:.2f}", *(cell(scores[name]) for name in names)]


def _future(record: Mapping[str, Any]) -> Iterator[list[str]]:
    """What a predictor foresees: skill against each rival and at each step, and retrievals."""
    horizon = record["horizon"] or {"all": {}}
    for rival, found in horizon["all"].items():
        yield [f"SOON, {rival}", "0.00", cell(found)]
        if rival == "persistence":
            for step, skill in zip(horizon["steps"], horizon["rivals"][rival], strict=True):
                yield [_ahead(step), "0.00", cell(skill)]
    for among, found in (record["eventually"] or {}).items():
        if found:
            yield [f"EVENTUALLY {among}", f"{found.get('chance', 0):.2f}", cell(found)]


def _health(record: Mapping[str, Any], names: Sequence[str]) -> Iterator[list[str]]:
    for what, form in (("rank", ".1f"), ("std", ".3f"), ("dead", "d"), ("norm", ".2f")):
        called = "dead channels" if what == "dead" else f"token {what}"
        yield [called, "", *(format(record["health"][name][what], form) for name in names)]


def _drift(record: Mapping[str, Any]) -> Iterator[str]:
    for layer in record["drift"] or ():
        cosine = f"cosine {layer['cosine']['score']:.3f}, " if layer["cosine"] else ""
        yield f"drift from where it started, layer {layer['layer']}: {cosine}CKA {layer['cka']:.3f}"


def _shortly(what: str) -> str:
    """time/direction/change as the other table calls it."""
    kind, _, rest = what.partition("/")
    name, _, last = rest.rpartition("/")
    if kind == "time":
        return name + FEATURES.get(last, f", {last}")
    if kind == "labels":
        return f"{name} {PROBES.get(last, last.replace('first ', 'in '))}"
    if kind == "horizon":
        return _ahead(int(last)) if name else f"SOON, {rest}"
    return f"EVENTUALLY {rest}" if kind == "eventually" else what


def _ahead(step: int) -> str:
    return f"SOON +{step} tubelet{'s'[: step > 1]}"
