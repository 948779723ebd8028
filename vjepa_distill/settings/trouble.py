"""What trouble in training leads to: numbers that are none, a loss that jumps, tokens that collapse."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vjepa_distill.settings.checks import not_negative, require
from vjepa_distill.settings.plain import settle

Response = Literal["warn", "skip", "stop", "rollback"]


@dataclass
class Trouble:
    """What trouble leads to: warn (say it), skip (leave that update out), stop, or rollback (go back to the
    last checkpoint that was sound, at half the rate, and on with other clips)."""

    collapse: Response = "stop"
    """The teacher's tokens stay below a floor for collapse.stop lines of the log (jepa-train); not skip."""
    nonfinite: Response = "stop"
    """A loss or a gradient is not finite; not warn: such an update is never made."""
    spike: Response = "warn"
    """The total loss is spike_factor times its median of the last 50 steps."""
    spike_factor: float = 10.0
    """How many times the median is a spike."""
    max_rollbacks: int = 3
    """After so many the run stops."""

    def __post_init__(self) -> None:
        settle(self)
        require(
            self.collapse != "skip",
            "trouble.collapse=skip: a collapse is in the weights, and no single update can be left out for "
            "it; type warn, stop or rollback",
        )
        require(
            self.nonfinite != "warn",
            "trouble.nonfinite=warn: an update that is not finite would make all weights so; type skip, "
            "which says it and leaves the update out, or stop or rollback",
        )
        require(
            self.spike_factor > 1,
            f"trouble.spike_factor={self.spike_factor}: give a number above 1, e.g. 10",
        )
        not_negative(self, "trouble.max_rollbacks")
        require(
            self.max_rollbacks > 0 or not self.rolls_back,
            "trouble.max_rollbacks=0 allows no rollback: give 1 or more, or type stop in place of rollback",
        )

    @property
    def rolls_back(self) -> bool:
        """Whether anything leads to a rollback."""
        return "rollback" in (self.collapse, self.nonfinite, self.spike)

    def check_collapse(self, stop: int, still: bool = False) -> None:
        """UserError for a rollback that would never come: targets hold `still`, or `stop` is 0."""
        require(
            not still or self.collapse != "rollback",
            "trouble.collapse=rollback would never come: targets that hold still cannot collapse; "
            "leave it out",
        )
        require(
            stop > 0 or self.collapse != "rollback",
            "trouble.collapse=rollback comes after collapse.stop log lines below a floor, and "
            "collapse.stop=0 is never: give it a number of lines, e.g. 10",
        )
