"""What one clip costs an encoder here: FLOPs by torch's counter, seconds, peak memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

LONGEST = 8.0
"""Seconds that one pass may be expected to take; a longer clip is not tried."""
REPEAT = 1.5
"""Seconds that go into repeating a quick pass."""


@dataclass(frozen=True)
class Cost:
    """Of one clip in eval() without gradient."""

    clip: tuple[int, int, int]
    flops: int
    seconds: float
    passes: int
    """How many were timed; the seconds are their median."""
    memory: int
    """Bytes at the peak."""
    memory_of: str
    """What they are counted of."""


def measure(backbone: Any, clips: Sequence[tuple[int, int, int]], device: torch.device) -> Cost:
    """The cost of the last of these ever longer clips that is expected to take less than `LONGEST`.

    The first is run whatever it takes, twice, to warm up. One pass is enough where it takes long.
    """
    first, *longer = clips
    once(backbone, first, device)
    cost = once(backbone, first, device)
    for clip in longer:
        # Attention grows with the square of the tokens, so a pass may grow with the square of the frames.
        if cost.seconds * (clip[0] / cost.clip[0]) ** 2 > LONGEST:
            break
        cost = once(backbone, clip, device)
    return cost if cost.seconds > REPEAT else again(backbone, cost, device)


@torch.no_grad()
def once(backbone: nn.Module, clip: tuple[int, int, int], device: torch.device) -> Cost:
    """One pass under torch's counter (matrix products, convolutions, attention; a multiply-add is 2)."""
    pixels = torch.rand(1, 3, *clip, device=device)
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # the counter does not see into torch's fused layers
    try:
        with FlopCounterMode(display=False) as counter:
            memory, memory_of, seconds = peak(lambda: backbone(pixels), device)
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
    return Cost(clip, counter.get_total_flops(), seconds, 1, memory, memory_of)


@torch.no_grad()
def again(backbone: nn.Module, cost: Cost, device: torch.device) -> Cost:
    """The same cost with the median time of more passes."""
    pixels = torch.rand(1, 3, *cost.clip, device=device)
    times = [seconds(lambda: backbone(pixels), device)]
    while sum(times) < REPEAT and len(times) < 50:
        times.append(seconds(lambda: backbone(pixels), device))
    return Cost(cost.clip, cost.flops, median(times), len(times), cost.memory, cost.memory_of)


def seconds(step: Callable[[], Any], device: torch.device) -> float:
    start = time.perf_counter()
    step()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def peak(step: Callable[[], Any], device: torch.device) -> tuple[int, str, float]:
    """Bytes at the peak of a step, what they are counted of, and its seconds."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        took = seconds(step, device)
        return torch.cuda.max_memory_allocated(device), "tensors on the GPU", took
    status, reset = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    try:
        reset.write_text("5")  # Linux: the highest resident size counts from here
        since = "the process while encoding, torch itself included"
    except OSError:
        since = "the process since it began, torch itself included"
    took = seconds(step, device)
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return 1024 * int(line.split()[1]), since, took
    return highest_resident(), since, took


def highest_resident() -> int:
    """Bytes, where there is no /proc: macOS counts in bytes; 0 where nobody counts (Windows)."""
    try:
        import resource
    except ImportError:
        return 0
    return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
