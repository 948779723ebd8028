"""Videos whose every frame carries its number, to find out which frames a decoder really returns."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

BITS, BLOCK = 12, 8
HEIGHT, WIDTH = 48, BITS * BLOCK


def paint_numbers(numbers: Sequence[int]) -> np.ndarray:
    """uint8 RGB [N, 48, 96, 3]: a number below 4096 as white and black blocks, negated in the lower half."""
    bits = (np.asarray(numbers)[:, None] >> np.arange(BITS)) & 1
    rows = np.stack([bits, 1 - bits], 1).repeat(HEIGHT // 2, 1).repeat(BLOCK, 2)
    return np.repeat((16 + 224 * rows)[..., None], 3, -1).astype(np.uint8)


def read_numbers(frames: np.ndarray) -> list[int]:
    """The numbers in uint8 [N, H, W, 3] of any size, upright; -1 where the two halves do not agree."""
    halves = []
    for half in np.array_split(frames.mean(-1), 2, axis=1):
        blocks = [block.mean((1, 2)) > 128 for block in np.array_split(half, BITS, axis=2)]
        halves.append(sum(block.astype(int) << bit for bit, block in enumerate(blocks)))
    upper, lower = halves
    return np.where(upper == 2**BITS - 1 - lower, upper, -1).tolist()
