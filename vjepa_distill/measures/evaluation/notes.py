"""What must be known beside the scores of an evaluation, in words."""

from __future__ import annotations

from vjepa_distill.measures.evaluation.collect import Collected
from vjepa_distill.measures.evaluation.variants import Views

FEW = 30


def notes(views: Views, found: Collected, bad: int) -> list[str]:
    """Of videos that are short, few or bad, and of tokens that were averaged."""
    said, count = [], len(found.files)
    if still := views.still():
        said.append(
            f"speed: {still} of {count} videos have too few frames for half speed: frames repeat, which shows"
        )
    for tau in views.seconds:
        if short := views.short(tau):
            said.append(f"in {tau:g} s: {short} of {count} videos are over before, and are read whole")
    for name, kept in found.kept.items():
        if kept.tokens and kept.cells != kept.grid[1:]:
            said.append(
                f"attentive probe of {name}: tokens averaged to {kept.cells[0]} x {kept.cells[1]} cells"
            )
    if count < FEW:
        said.append(f"{count} videos are few: the intervals are wide, and rough themselves")
    if bad:
        said.append(f"files that could not be read: {bad}")
    return said
