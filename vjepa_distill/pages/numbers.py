"""Numbers as a reader wants them: short, and round on an axis."""

from __future__ import annotations

import math


def ticks(low: float, high: float, about: int = 4, least: float = 0.0) -> list[float]:
    """Round numbers between low and high, about so many: 1, 2 or 5 times a power of ten
    apart, and at least `least`."""
    if not high > low:
        return [low]
    raw = max((high - low) / about, least)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    if last <= first and step > least:
        return ticks(low, high, 2 * about, least)  # one number says nothing of the distance
    return [round(number * step, 12) for number in range(first, last + 1)]


def short(value: float) -> str:
    """Four figures at most: 0.617, 1200, 3e-04; with a true minus."""
    return _plain(value).replace("-", "−", 1) if value < 0 else _plain(value)


def _plain(value: float) -> str:
    if value == 0 or (float(value).is_integer() and abs(value) < 1e6):
        return f"{value:.0f}"
    return f"{value:.0e}".replace("+", "") if abs(value) < 1e-3 or abs(value) >= 1e6 else f"{value:.4g}"


def signed(value: float, places: int) -> str:
    """With its sign, a true minus, and so many places; what rounds to 0 has none."""
    told = f"{value:+.{places}f}"
    return told.replace("-", "−") if float(told) else told[1:]
