"""Which frames of a video make a clip, in which order videos come, and what is drawn for each place in it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

ORDER, AUGMENT = 0, 1
"""What a generator is for: part of its key, so that no two uses ever share a stream."""


def generator(seed: int, purpose: int, number: int) -> np.random.Generator:
    """A generator keyed by values: the same in every process, on every rank, after every resume."""
    return np.random.default_rng((seed % 2**63, purpose, number))


@lru_cache(maxsize=4)
def permutation(seed: int, epoch: int, length: int) -> np.ndarray:
    """The order of an epoch: int64 [length]."""
    return generator(seed, ORDER, epoch).permutation(length)


def uniform_indices(frames: int, num_frames: int) -> list[int]:
    """`num_frames` frames evenly over the whole video, first and last included; one frame is the middle one.

    A video with fewer frames gives all of them, then its last again and again.
    """
    if frames < num_frames:
        return [min(i, frames - 1) for i in range(num_frames)]
    if num_frames == 1:
        return [(frames - 1) // 2]
    # integers, rounded half up: no float decides which frame is taken
    return [(2 * i * (frames - 1) + num_frames - 1) // (2 * (num_frames - 1)) for i in range(num_frames)]


def fps_indices(times: Sequence[float], num_frames: int, fps: float, start: float) -> list[int]:
    """The frame on show at start + i / fps, in seconds since the first frame, for i < num_frames.

    A video slower than `fps` repeats frames; past its end the last frame stays.
    """
    moments = times[0] + start + np.arange(num_frames) / fps
    # a tenth of a millisecond of grace: 30 fps asked of a 30 fps video must give every frame, rounding or not
    return (np.searchsorted(times, moments + 1e-4, side="right") - 1).clip(0, len(times) - 1).tolist()


def duration(times: Sequence[float], fps: float) -> float:
    """Seconds from the first frame's appearance to the last one's disappearance."""
    return times[-1] - times[0] + 1 / fps
