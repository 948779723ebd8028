"""Constraints of settings, each shape of them said once; a field is named as it is typed, ``data.scale``."""

from __future__ import annotations

import math
from typing import Any

from vjepa_distill.errors import UserError


def require(holds: bool, message: str) -> None:
    """One clear line when a constraint does not hold."""
    if not holds:
        raise UserError(message)


def value_of(owner: object, name: str) -> Any:
    """What stands in the field that a typed name ends in."""
    return getattr(owner, name.rpartition(".")[2])


def positive(owner: object, *names: str) -> None:
    """Every named field is above 0."""
    for name in names:
        value = value_of(owner, name)
        require(value > 0, f"{name}={value}: give a number above 0")


def positive_or_null(owner: object, *names: str) -> None:
    """Every named field is above 0, or null."""
    for name in names:
        value = value_of(owner, name)
        require(value is None or value > 0, f"{name}={value}: give a number above 0, or null")


def not_negative(owner: object, *names: str) -> None:
    """Every named field is 0 or more."""
    for name in names:
        value = value_of(owner, name)
        require(value >= 0, f"{name}={value}: give 0 or more")


def share(owner: object, *names: str, below: bool = False) -> None:
    """Every named field, or both of its two numbers, is from 0 to 1; with `below`, 1 itself is too much."""
    for name in names:
        value = value_of(owner, name)
        numbers = value if isinstance(value, list | tuple) else [value]
        holds = all(0 <= number <= 1 and not (below and number == 1) for number in numbers)
        words = "of at least 0 and below 1" if below else "from 0 to 1"
        require(
            holds, f"{name}={_shown(value)}: give {'two shares' if len(numbers) > 1 else 'a share'} {words}"
        )


def ordered(owner: object, *names: str, most: float = math.inf) -> None:
    """Every named field is [low, high] with 0 < low <= high, and high at most `most`."""
    for name in names:
        low, high = value_of(owner, name)
        bound = "" if math.isinf(most) else f" <= {most:g}"
        words = f"give [low, high] with 0 < low <= high{bound}"
        require(0 < low <= high <= most, f"{name}={[low, high]}: {words}")


def _shown(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
