"""Line plots as SVG: a few lines with their floors and intervals; colours are the page's variables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from markupsafe import Markup

from vjepa_distill.pages.numbers import short, ticks

WIDTH, HEIGHT = 380, 210
LEFT, RIGHT, TOP, BOTTOM = 46, 10, 10, 34
"""The frame inside, in the plot's own units."""
COLOURS = 6
"""How many the page has: c0 to c5."""
REST = -1
"""The colour of what belongs to no run, and stands still."""
Style = Literal["main", "faint", "floor", "second"]
"""second: another floor, dotted."""
FLOORS = ("floor", "second")
Point = tuple[float, float]


@dataclass(frozen=True)
class Line:
    """One line of a plot."""

    label: str
    points: Sequence[Point]
    style: Style = "main"
    colour: int = 0
    band: Sequence[Point] = ()
    """(low, high) at every point: an interval."""


@dataclass(frozen=True)
class Chart:
    """A plot with its title and how to read it."""

    title: str
    words: str
    lines: Sequence[Line]
    across: str = "step"
    """What the horizontal axis counts."""
    whole: bool = True
    """It counts in whole numbers."""
    from_zero: bool = False
    """The vertical axis begins at 0, so that noise looks as small as it is."""


def tag(name: str, *inner: str, **attributes: Any) -> Markup:
    """One element of SVG or HTML; names as class_ and stroke_width, everything escaped but Markup."""
    given = [(key.rstrip("_").replace("_", "-"), value) for key, value in attributes.items()]
    told = Markup("").join(Markup(' {}="{}"').format(key, value) for key, value in given)
    return Markup("<{0}{1}>{2}</{0}>").format(Markup(name), told, Markup("").join(inner))


def colour(line: Line) -> str:
    """The class that gives a line its colour."""
    return "rest" if line.colour == REST else f"c{line.colour % COLOURS}"


def draw(chart: Chart) -> Markup:
    """The plot as one SVG element that scales with the page; a line without points is left out."""
    lines = [line for line in chart.lines if line.points]
    low, high = limits(lines)
    frame = Frame(*_across(lines), min(low, 0.0) if chart.from_zero else low, high)
    inside = [shape for line in lines for shape in _shapes(line, frame)]
    window = tag(
        "svg", *inside, x=LEFT, y=TOP, width=frame.width, height=frame.height,
        viewBox=f"{LEFT} {TOP} {frame.width} {frame.height}",
    )  # fmt: skip
    said = description(chart)
    return tag(
        "svg", *_axes(chart, frame), window, *_dots(lines, frame),
        class_="plot", viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img", aria_label=said,
    )  # fmt: skip


@dataclass(frozen=True)
class Frame:
    """From numbers to places."""

    first: float
    last: float
    low: float
    high: float
    width: float = WIDTH - LEFT - RIGHT
    height: float = HEIGHT - TOP - BOTTOM

    def x(self, value: float) -> float:
        span = self.last - self.first or 1.0
        return round(LEFT + (value - self.first) / span * self.width, 2)

    def y(self, value: float) -> float:
        return round(TOP + (self.high - value) / (self.high - self.low) * self.height, 2)

    def holds(self, value: float) -> bool:
        return self.low <= value <= self.high


def limits(lines: Sequence[Line]) -> tuple[float, float]:
    """Low and high of the vertical axis; what is only reached at the beginning is cut off where it would
    press all the rest together."""
    values = [y for line in lines for _, y in line.points]
    values += [y for line in lines for pair in line.band for y in pair]
    late = [y for line in lines for _, y in _late(line)] or values
    low, high = min(late), max(late)
    room = 4 * (high - low)
    low, high = max(min(values), low - room), min(max(values), high + room)
    edge = 0.06 * (high - low) or 0.1 * abs(high) or 0.5
    return low - edge, high + edge


def _late(line: Line) -> Sequence[Point]:
    """A floor, an interval's line and a short one count whole; of others what follows the first quarter."""
    whole = line.style in FLOORS or line.band or len(line.points) < 8
    return line.points if whole else line.points[len(line.points) // 4 :]


def _across(lines: Sequence[Line]) -> tuple[float, float]:
    """A floor that stands still has no place of its own."""
    moving = [line for line in lines if not (line.style in FLOORS and len(line.points) == 1)] or lines
    places = [x for line in moving for x, _ in line.points]
    first, last = min(places), max(places)
    return (min(0.0, first), last) if first == last else (first, last)  # one moment: since the beginning


def _shapes(line: Line, frame: Frame) -> list[Markup]:
    """The interval, then the line; one point of a floor is a line across."""
    points = list(line.points)
    if line.style in FLOORS and len(points) == 1:
        points = [(frame.first, points[0][1]), (frame.last, points[0][1])]
    shapes = []
    if line.band:
        places = [x for x, _ in line.points]
        there = [(x, high) for x, (_, high) in zip(places, line.band, strict=True)]
        back = [(x, low) for x, (low, _) in zip(places, line.band, strict=True)]
        shapes.append(
            tag("polygon", points=_path([*there, *reversed(back)], frame), class_=f"band {colour(line)}")
        )
    shapes.append(tag("polyline", points=_path(points, frame), class_=f"line {line.style} {colour(line)}"))
    return shapes


def _path(points: Sequence[Point], frame: Frame) -> str:
    return " ".join(f"{frame.x(x):g},{frame.y(y):g}" for x, y in points)


def _dots(lines: Sequence[Line], frame: Frame) -> list[Markup]:
    """A dot, with its number for a pointer that rests on it, at the points of short main lines."""
    return [
        tag(
            "circle", tag("title", f"{line.label}: {short(y)} at {short(x)}"),
            cx=frame.x(x), cy=frame.y(y), r=2.6, class_=f"dot {colour(line)}",
        )
        for line in lines if line.style == "main" and len(line.points) <= 40
        for x, y in line.points if frame.holds(y)
    ]  # fmt: skip


def _axes(chart: Chart, frame: Frame) -> list[Markup]:
    """Faint lines at round numbers, their numbers, and what is counted across."""
    parts = []
    for value in ticks(frame.low, frame.high):
        y = frame.y(value)
        parts.append(tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=y, y2=y, class_="grid"))
        parts.append(tag("text", short(value), x=LEFT - 6, y=y + 4, class_="end"))
    for value in ticks(frame.first, frame.last, 5, 1.0 if chart.whole else 0.0):
        parts.append(tag("text", short(value), x=frame.x(value), y=HEIGHT - BOTTOM + 15, class_="middle"))
    parts.append(tag("text", chart.across, x=WIDTH - RIGHT, y=HEIGHT - 4, class_="end"))
    return parts


def description(chart: Chart) -> str:
    """The plot in words, for who does not see it."""
    told = []
    for line in chart.lines:
        if line.points:
            (x0, y0), (x1, y1) = line.points[0], line.points[-1]
            still = len(line.points) == 1 or (line.style in FLOORS and y0 == y1)
            across = f"from {short(y0)} at {short(x0)} to {short(y1)} at {short(x1)}"
            told.append(f"{line.label}: {short(y1) if still else across}")
    return f"{chart.title}, by {chart.across}. " + "; ".join(told) + "."
