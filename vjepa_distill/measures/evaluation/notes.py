"""What must be known beside the scores of an evaluation, in words."""

from __future__ import annotations

from vjepa_distill.measures.evaluation.collect import Collected
from vjepa_distill.measures.evaluation.variants import Views

FEW = 30


def notes(views: Views, found: Collected, bad: int) -> list[str]:
    """Of videos that are short, few or bad, and of tokens that were averaged."""
    said = []
    if still := views.still():
        said.append(
            f"speed: {still} videos have too few frames for half speed, frames repeat there, and that shows"
        )
    for tau in views.seconds:
        if short := views.short(tau):
            said.append(f"{short} videos are over before {tau:g} s: there the whole is read")
    for name, kept in found.kept.items():
        if kept.tokens and kept.cells != kept.grid[1:]:
            said.append(
                f"attentive probe of {name}: tokens averaged to {kept.cells[0]} x {kept.cells[1]} cells"
            )
    if len(found.files) < FEW:
        said.append(f"{len(found.files)} videos are few: the intervals are wide, and rough themselves")
    if bad:
        said.append(f"{bad} files could not be read")
    return said
