"""A video over its time: a strip of its frames, and under it how unusual each moment was."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from markupsafe import Markup

from vjepa_distill.pages import pictures
from vjepa_distill.pages.contents import Watched
from vjepa_distill.pages.numbers import short
from vjepa_distill.pages.pictures import GAP, Picture
from vjepa_distill.pages.plots import Point, tag

FRAMES = 10
"""Frames of a strip, at most."""
COLUMN, HEIGHT = 72, 104
"""The width of a frame and the height of the curve, in the curve's own units."""
TOP, BOTTOM = 20, 8
"""Room above, and below."""
APART = 13
"""Between two lines of text, at least."""


@dataclass(frozen=True)
class Strip:
    """Frames of one video, and on the same axis of time the curve of its surprise."""

    title: str
    words: str
    """Where the peak is."""
    picture: Picture
    seconds: Sequence[str]
    """Of every frame that is shown."""
    peak: int
    """The column that shows the peak."""
    left: float
    """Where that column begins, and how wide it is, in per cent of the strip."""
    width: float
    curve: Markup


def strips(watched: Sequence[Watched]) -> list[Strip]:
    """One strip a video; one of which nothing was foretold is left out."""
    return [strip(one) for one in watched if np.isfinite(one.surprise).any()]


def strip(one: Watched) -> Strip:
    """A column for each frame; a moment lies in the column under which its time passes."""
    peak, moments = int(np.nanargmax(one.surprise)), len(one.surprise)
    shown = frames_shown(moments, peak)
    at = shown.index(peak)
    seconds = [f"{one.seconds[moment]:.1f}" for moment in shown]
    words = f"{len(shown)} frames of {one.name}, at {', '.join(seconds)} seconds; number {at + 1} is the peak"
    picture = pictures.strip(one.frames[shown], words)
    # the strip has no gap at its ends, so its columns are not quite equal parts of it
    whole = picture.width + GAP
    left, width = at * whole / len(shown), whole / len(shown) - GAP
    cut = f", in its first {one.seconds[-1]:.1f} s" if one.cut else ""
    return Strip(
        one.name,
        f"surprise peaks at {one.seconds[peak]:.1f} s, with {_number(one.surprise[peak])}{cut}",
        picture,
        seconds,
        at,
        round(100 * left / picture.width, 3),
        round(100 * width / picture.width, 3),
        curve(one, shown, GAP / picture.width),
    )


def frames_shown(moments: int, peak: int) -> list[int]:
    """The moment that each column shows: the middle one of its part of time, in the peak's part the peak."""
    columns = min(FRAMES, moments)
    middles = [(2 * column + 1) * moments // (2 * columns) for column in range(columns)]
    middles[(2 * peak + 1) * columns // (2 * moments)] = peak
    return middles


def place(moment: int, moments: int, width: float, gap: float) -> float:
    """Where the middle of a moment lies under a strip of that width, between whose frames are such gaps."""
    return round((moment + 0.5) / moments * (width + gap) - gap / 2, 2)


def curve(one: Watched, shown: Sequence[int], gap: float) -> Markup:
    """The curve as SVG, as wide as the strip; 1 is dashed, the peak has a dot, its number, and a line up.

    gap: between two frames, as a share of the strip.
    """
    width, values = COLUMN * len(shown), np.asarray(one.surprise, float)
    top, low = max(1.0, float(np.nanmax(values))), min(0.0, float(np.nanmin(values)))

    def y(value: float) -> float:
        return round(TOP + (top - value) / (top - low) * (HEIGHT - TOP - BOTTOM), 2)

    points = [
        (place(at, len(values), width, gap * width), y(value)) for at, value in enumerate(values.tolist())
    ]
    peak = int(np.nanargmax(values))
    return tag(
        "svg",
        *_unknown(values, width, gap * width),
        *_levels(width, y),
        *_lines(points),
        *_peak(*points[peak], _number(values[peak]), width),
        class_="plot surprise", viewBox=f"0 0 {width} {HEIGHT}", role="img",
        aria_label=description(one, shown),
    )  # fmt: skip


def _number(value: float) -> str:
    return short(round(float(value), 2))


def _unknown(values: np.ndarray, width: float, gap: float) -> Iterator[Markup]:
    """A field over the first moments, of which there is no forecast, with words where they have room."""
    known = int(np.isfinite(values).argmax())
    if known:
        wide = place(known, len(values), width, gap) - (width + gap) / len(values) / 2
        yield tag("rect", x=0, y=0, width=round(wide, 2), height=HEIGHT, class_="blank")
        if wide > 100:
            yield tag("text", "no forecast yet", x=round(wide / 2, 2), y=TOP - 6, class_="middle")


def _levels(width: float, y: Callable[[float], float]) -> Iterator[Markup]:
    """What is usual: the median at 0, and dashed the 95 % quantile at 1."""
    yield tag("line", x1=0, x2=width, y1=y(0), y2=y(0), class_="grid")
    yield tag("line", x1=0, x2=width, y1=y(1), y2=y(1), class_="line floor rest")
    yield tag("text", "1", x=3, y=y(1) - 3)
    if y(0) - y(1) > APART:
        yield tag("text", "0", x=3, y=y(0) - 3)


def _lines(points: Sequence[Point]) -> Iterator[Markup]:
    """A line through neighbours that are known, and a dot at each."""
    for known, part in groupby(points, key=lambda point: bool(np.isfinite(point[1]))):
        if known:
            some = list(part)
            yield tag("polyline", points=" ".join(f"{x:g},{y:g}" for x, y in some), class_="line main c0")
            yield from (tag("circle", cx=x, cy=y, r=2.2, class_="dot c0") for x, y in some)


def _peak(x: float, y: float, number: str, width: float) -> list[Markup]:
    """A line from the frame above to a dot, and the number beside it, on the side that has room."""
    right = x > 0.75 * width
    return [
        tag("line", x1=x, x2=x, y1=0, y2=y, class_="line faint c1"),
        tag("circle", cx=x, cy=y, r=4.5, class_="dot c1 peak"),
        tag("text", number, x=x - 6 if right else x + 6, y=y - 6, class_="number end" if right else "number"),
    ]


def description(one: Watched, shown: Sequence[int]) -> str:
    """The curve in words, for who does not see it."""
    values = np.asarray(one.surprise, float)
    peak, known = int(np.nanargmax(values)), np.isfinite(values)
    first = int(known.argmax())
    early = f" There is no forecast before {one.seconds[first]:.1f} s." if first else ""
    return (
        f"Surprise of {one.name} from {one.seconds[first]:.1f} to {one.seconds[-1]:.1f} seconds: it peaks at "
        f"{one.seconds[peak]:.1f} s, under frame {list(shown).index(peak) + 1} of {len(shown)}, with "
        f"{_number(values[peak])}; {(values > 1).sum()} of {known.sum()} moments lie above 1, "
        f"the 95 % quantile of what is usual.{early}"
    )
