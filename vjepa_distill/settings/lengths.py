"""Lengths that may be given as a share of the run or in steps."""

from __future__ import annotations

import math

from vjepa_distill.errors import UserError


def resolve(length: float | int, total: int, what: str) -> int:
    """Steps of a length that is given as a fraction of the run (below 1) or in steps (1 and above).

    A fraction above 0 never rounds down to nothing: in a very short run it is one step.
    Raises UserError naming `what` for a length below 0, a broken number of steps, or one beyond the run.
    """
    if not math.isfinite(length) or length < 0:
        raise UserError(f"{what} is {length}: type a fraction of the run (below 1) or a number of steps")
    if length >= 1 and length != int(length):
        raise UserError(f"{what} is {length}: from 1 on it counts whole steps; type {round(length)}")
    steps = int(length) if length >= 1 else round(length * total)
    if length > 0:
        steps = max(1, steps)
    if steps > total:
        raise UserError(
            f"{what} is {steps} steps but the run has only {total}: type fewer, or a fraction such as 0.05"
        )
    return steps
