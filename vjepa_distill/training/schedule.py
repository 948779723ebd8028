"""Learning rate and teacher momentum as pure functions of the step."""

from __future__ import annotations

import math


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
