"""What a run's process is told from outside, and what it takes of the machine."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def stop_signals(ask: Callable[[], None]) -> Iterator[None]:
    """SIGTERM and Ctrl-C call `ask`, which stops after the current step; a second one stops at once."""

    def heard(number: int, frame: Any) -> None:
        signal.signal(number, before[signal.Signals(number)])
        ask()

    before = {number: signal.signal(number, heard) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def peak_memory(device: torch.device) -> float:
    """GiB: what torch held on the GPU at most, or what this process held of the machine's memory."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    if sys.platform == "win32":  # has no getrusage
        return float("nan")
    import resource

    unit = 1 if sys.platform == "darwin" else 1024  # getrusage counts bytes there and KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30
