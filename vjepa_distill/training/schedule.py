"""Learning rate and teacher momentum as pure functions of the step; lengths given as a share of the run."""

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


def learning_rate(step: int, total: int, warmup: int, peak: float, final: float = 0.0) -> float:
    """Rate of update number `step` (0 is the first): linear warm-up to `peak`, cosine to `final` at `total`.

    The warm-up starts from exactly 0, as the scaffold's LambdaLR does: update `step` of it has
    peak * step / warmup, and update `warmup` is the first with the peak. `final` is the limit at `total`, one
    past the last update: a `final` of 0 is never used. Beyond it the rate stays.
    """
    if step < warmup:
        return peak * step / warmup
    done = min(1.0, (step - warmup) / max(1, total - warmup))
    return final + (peak - final) * 0.5 * (1.0 + math.cos(math.pi * done))


def ema_momentum(
    step: int, total: int, half_life: float | None = None, fixed: tuple[float, float] | None = None
) -> float:
    """Share of itself that the teacher keeps after update `step`: by a half-life, or by fixed (start, end).

    half_life: in steps; after that many, half of the old teacher is left: momentum 0.5 ** (1 / half_life).
    fixed: linear over the run (V-JEPA, arXiv 2404.08471: 0.998 to 1.0); start = end is constant.
    """
    if half_life is not None and fixed is None:
        return 0.5 ** (1.0 / half_life) if half_life > 0 else 0.0
    if fixed is None or half_life is not None:
        raise ValueError("give either half_life (steps) or fixed (start, end)")
    start, end = fixed
    return start + (end - start) * min(1.0, step / max(1, total))
