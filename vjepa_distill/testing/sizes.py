"""Which clip to try an encoder with, where nobody says so."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from vjepa_distill.errors import UserError

# Tried in this order where nobody says which: few cells for speed, and sides that differ where they may.
CLIPS = [
    *((4, 32, 48), (4, 28, 42), (4, 64, 96), (8, 32, 48), (16, 32, 48), (16, 64, 96)),
    *((T, side, side) for side in (112, 224, 256, 384) for T in (4, 8, 16)),
]


def fitting_clip(backbone: Any) -> tuple[int, int, int]:
    """The first (T, H, W) of a short list that its grid takes, or of the sizes that its refusal names.

    UserError with that refusal where it takes none; the first of the list where it has no grid to ask.
    """
    if not callable(getattr(backbone, "grid", None)):
        return CLIPS[0]
    first = refusal(backbone, CLIPS[0])
    for size in (*CLIPS, *mentioned(first)):
        if not refusal(backbone, size):
            return size
    raise UserError(
        f"the grid takes none of the clips tried; type --clip T H W with one it takes. It says: {first}"
    )


def refusal(backbone: Any, size: tuple[int, int, int]) -> str:
    """Why its grid does not take a clip of this size; empty where it does, or breaks otherwise."""
    try:
        backbone.grid(*size)
    except ValueError as error:
        return str(error) or "without words"
    except Exception:  # the row `members` says so
        return ""
    return ""


def mentioned(words: str) -> Iterator[tuple[int, int, int]]:
    """Clips of the sizes that a refusal names, such as ``takes 240 x 240 pixels``."""
    said = [(int(H), int(W)) for H, W in re.findall(r"(\d{1,4}) ?x ?(\d{1,4})", words)]
    numbers = [int(word) for word in re.findall(r"\b\d{1,4}\b", words)]
    for H, W in (*said, *pairwise(numbers), *zip(numbers, numbers, strict=True)):
        yield from ((T, H, W) for T in (4, 2, 8, 16, 32, 1))
    yield from zip(numbers, numbers[1:], numbers[2:], strict=False)
