"""Presentation times as runs of an even beat, in exact fractions: a constant-rate video is one run."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

Run = tuple[int, int, int, int]
"""(a, b, d, count): the times a/d, (a + b)/d, ..., (a + (count - 1) b)/d seconds."""


def pack(times: Sequence[float]) -> list[Run]:
    """Runs from which `unpack` makes exactly these floats again."""
    runs: list[Run] = []
    for time in times:
        longer = _extended(runs[-1], time) if runs else None
        if longer:
            runs[-1] = longer
        else:
            start = _rational(time)
            runs.append((start.numerator, 0, start.denominator, 1))
    return runs


def unpack(runs: Sequence[Sequence[int]]) -> tuple[float, ...]:
    """The times of `pack`; dividing whole numbers rounds once, as the decoder's own tick * time base did."""
    return tuple((a + b * i) / d for a, b, d, count in runs for i in range(count))


def _extended(run: Run, time: float) -> Run | None:
    a, b, d, count = run
    if count == 1:
        start, step = Fraction(a, d), _rational(time) - Fraction(a, d)
        d = start.denominator * step.denominator
        a, b = int(start * d), int(step * d)
    return (a, b, d, count + 1) if (a + b * count) / d == time else None


def _rational(time: float) -> Fraction:
    """The tick this float stands for: no time base in use is finer than 1e-7 s."""
    tick = Fraction(time).limit_denominator(10**7)
    return tick if float(tick) == time else Fraction(time)
