"""What goes wrong in a run, and what its settings say to that: told, left out, stopped, or gone back on."""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from vjepa_distill.distributed import any_true
from vjepa_distill.settings import Trouble
from vjepa_distill.training.step import Diverged

WINDOW = 50
"""Steps whose median is the usual loss. All finite losses count, so that after half as many a new level is
the usual one: what goes on is no spike."""
LEAST = 10
"""Steps before which nothing is called a spike."""
IN_A_ROW = 40
"""Updates left out one after the other that are lived with: beyond, it is not the data."""


class Spiked(Diverged):
    """The loss is many times what it was; nothing was updated."""


class Troubles:
    """A run's troubles so far, and what is to be done about the next; the same on all ranks."""

    def __init__(self, settings: Trouble, say: Callable[[str], None]) -> None:
        self.settings, self.say = settings, say
        self.losses: deque[float] = deque(maxlen=WINDOW)
        self.spiked = False
        """Whether the last update was made in spite of a spike."""
        self.skipped = self.in_a_row = self.rollbacks = 0
        self.returned: int | None = None
        """The step that the last rollback went back to."""

    @property
    def rate(self) -> float:
        """The share of the planned learning rate: halved at every rollback."""
        return 0.5**self.rollbacks

    @property
    def counts(self) -> dict[str, float]:
        """For the log: what has happened at all."""
        counts = {"skipped": self.skipped, "rollbacks": self.rollbacks}
        return {name: float(count) for name, count in counts.items() if count}

    def judge(self, loss: float) -> None:
        """Takes the total loss, the mean over ranks, of an update that is about to be made. A collective.

        Raises Spiked where a spike is more than told. A median of 0 or below knows no spikes.
        """
        usual = statistics.median(self.losses) if len(self.losses) >= LEAST else 0.0
        before, self.spiked = self.spiked, any_true(0 < usual * self.settings.spike_factor < loss)
        self.losses.append(loss)
        if not self.spiked:
            return
        words = f"spike: the loss is {loss:.4g}, {loss / usual:.1f} times its median of late ({usual:.4g})"
        if self.settings.spike != "warn":
            self.spiked = False
            raise Spiked(words)
        if not before:
            self.say(words)

    def skips(self, problem: Diverged) -> bool:
        """Whether the update is left out for this and the run goes on; raises the problem once too often."""
        if self._response(problem) != "skip":
            return False
        if self.in_a_row >= IN_A_ROW:
            raise type(problem)(f"{problem}; the {IN_A_ROW} updates before were left out, too") from problem
        self.skipped += 1
        self.in_a_row += 1
        return True

    def passed(self) -> None:
        """An update was made."""
        self.in_a_row = 0

    def count_rollback(self, problem: RuntimeError) -> None:
        """Counts a rollback for this problem; raises it where the settings say stop, or once too often."""
        if self._response(problem) != "rollback":
            raise problem
        if self.rollbacks >= self.settings.max_rollbacks:
            raise type(problem)(
                f"{problem}; rolled back {self.rollbacks} times before (trouble.max_rollbacks)"
            ) from problem
        self.rollbacks += 1

    def _response(self, problem: RuntimeError) -> str:
        if isinstance(problem, Spiked):
            return self.settings.spike
        return self.settings.nonfinite if isinstance(problem, Diverged) else self.settings.collapse

    def state_dict(self) -> dict[str, Any]:
        """Plain types, for a checkpoint."""
        counts = {
            name: getattr(self, name) for name in ("spiked", "skipped", "in_a_row", "rollbacks", "returned")
        }
        return {"losses": list(self.losses), **counts}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The other half of state_dict; nothing for a run of a version that kept none."""
        for name, value in state.items():
            setattr(self, name, deque(value, maxlen=WINDOW) if name == "losses" else value)
