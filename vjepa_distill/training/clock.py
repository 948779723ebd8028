"""How long steps take, and how much of that is spent waiting for video."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Clock:
    """Runs from the last restart on; ``timing`` restarts it."""

    def __init__(self) -> None:
        self.restart(0)

    def restart(self, done: int) -> None:
        """From now, when `done` steps are finished."""
        self.since, self.since_step, self.waited = time.perf_counter(), done, 0.0

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Around a wait."""
        before = time.perf_counter()
        yield
        self.waited += time.perf_counter() - before

    def timing(self, done: int) -> dict[str, float]:
        """Seconds a step, and the share of them spent waiting."""
        spent, steps, waited = time.perf_counter() - self.since, max(1, done - self.since_step), self.waited
        self.restart(done)
        return {"s/step": spent / steps, "wait": waited / spent}
