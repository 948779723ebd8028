"""What one process does for all of them, and how all of them end where it may not be done."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

from vjepa_distill.distributed import active, broadcast_object, rank
from vjepa_distill.errors import Echo, UserError

T = TypeVar("T")


def from_first(work: Callable[[], T]) -> T:
    """What rank 0 makes (anything picklable), on every rank; its UserError ends all of them."""
    if not active():
        return work()
    made: tuple[T | None, str | None] = (None, None)
    if rank() == 0:
        try:
            made = work(), None
        except UserError as problem:
            broadcast_object((None, str(problem)))
            raise
    value, wrong = broadcast_object(made)
    if wrong is not None:
        raise Echo(wrong)
    return cast(T, value)
