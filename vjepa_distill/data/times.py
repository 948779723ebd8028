"""Presentation times as runs of an even beat: a constant-rate video is one run, however long."""

from __future__ import annotations

from collections.abc import Sequence


def pack(times: Sequence[float]) -> list[tuple[float, float, int]]:
    """[(start, step, count), ...]; exact to 1e-8 s, a tenth of the shortest tick in use (ISMV: 1e-7 s)."""
    runs: list[tuple[float, float, int]] = []
    for time in times:
        if runs:
            start, step, count = runs[-1]
            if count == 1:
                runs[-1] = (start, time - start, 2)
                continue
            if abs(start + step * count - time) < 1e-8:
                runs[-1] = (start, step, count + 1)
                continue
        runs.append((time, 0.0, 1))
    return runs


def unpack(runs: Sequence[Sequence[float]]) -> tuple[float, ...]:
    """The times of `pack`."""
    return tuple(start + step * i for start, step, count in runs for i in range(int(count)))
