"""A thread for what may hang: oneDNN's kernels wait for other threads, and some wait for ever.

Seen with torch 2.15 on two cores with AMX: the weight gradient of a bf16 Conv3d(256, 256, kernel 3 x 3 x 3)
of 4 x 28 x 28 never ends. Such a thread cannot be stopped, only left alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from queue import Empty, Queue
from threading import Thread
from typing import Any, TypeVar

T = TypeVar("T")
Work = Callable[[], Any]

PATIENCE = 10.0
"""Seconds that some hundredths may take, on however busy a machine."""
PACE = 3e8
"""Multiply-adds a second that are expected until slower ones were seen: with AVX2 one thread does 1.4e8."""
SLACK = 5.0
"""How many times as long as that a work may take, which is not alone on the machine."""
LARGE = 1e8
"""Multiply-adds from which on the pace is taken; of fewer, other things take the time."""

hanging: list[str] = []
"""What still occupies its thread: the interpreter cannot end in peace then (it crashed)."""


class EndlessError(RuntimeError):
    """It did not end within the time it was given."""


class Aside:
    """Does one thing after the other in a thread of its own, which is given up when it hangs.

    One thread for all, because each brings torch's threads of OpenMP along, which takes milliseconds.
    """

    def __init__(self) -> None:
        self.asked: Queue[Work | None] | None = None
        self.pace = PACE

    def do(self, work: Callable[[], T], named: str, multiply_adds: float = 0.0) -> T:
        """What `work` gives or raises; EndlessError (and a name in `hanging`) where it takes far too long."""
        if self.asked is None:
            self.asked, self.done = Queue(), Queue[tuple[Any, BaseException | None]]()
            Thread(target=serve, args=(self.asked, self.done), daemon=True).start()
        begun = time.perf_counter()
        self.asked.put(work)
        try:
            made, problem = self.done.get(timeout=PATIENCE + SLACK * multiply_adds / self.pace)
        except Empty:
            hanging.append(named)
            self.asked = None
            raise EndlessError(named) from None
        if multiply_adds >= LARGE:
            self.pace = min(self.pace, multiply_adds / (time.perf_counter() - begun))
        if problem:
            raise problem
        return made

    def close(self) -> None:
        """Let the thread end; another one is started when there is more to do."""
        if self.asked:
            self.asked.put(None)
            self.asked = None


def serve(asked: Queue[Work | None], done: Queue[tuple[Any, BaseException | None]]) -> None:
    """What the thread does, until it is handed None."""
    while (work := asked.get()) is not None:
        try:
            done.put((work(), None))
        except BaseException as problem:  # raised again where it was asked for
            done.put((None, problem))
