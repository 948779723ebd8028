"""What a bf16 run on a CPU asks of its kernels: each is tried before it is trusted, and avoided if wrong."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import inf
from pathlib import Path
from typing import Any

from vjepa_distill.errors import UserError
from vjepa_distill.files import cache_folder
from vjepa_distill.kernels.aside import Aside, EndlessError, hanging
from vjepa_distill.kernels.calls import Call
from vjepa_distill.kernels.judge import ENDLESS, INFINITE, finite, first_fault
from vjepa_distill.kernels.trial import fault_of
from vjepa_distill.kernels.verdicts import Verdicts
from vjepa_distill.kernels.watch import Detour

ALLOWANCE = ((0.1, 3e8), (0.3, 5e7), (inf, 1e7))
"""Until so many seconds went into trials, so many multiply-adds may go into one."""
ENOUGH = 0.6
"""Seconds of trials in a process; what is met when they are over is compared as it is made."""
NAMED = 3
"""Wrong kernels that are told by name; of more, their number."""


class Guard:
    """Stands before the kernels while something runs for the first time, and from then on if one is wrong.

    A kind of call that was never met is tried on random numbers before it is made; what was found is kept
    for this processor, torch and shapes. The first time the call itself is watched, too: it may hang, or
    give what is not finite, for its size alone. Calls whose kernel is wrong are computed in fp32, and these
    alone.

    say: is told of wrong kernels, in one line. folder: where verdicts are kept; the user's cache.
    """

    def __init__(self, say: Callable[[str], None], folder: Path | None = None) -> None:
        self.say = say
        self.verdicts = Verdicts(folder or cache_folder())
        self.aside = Aside()
        self.passed: set[str] = set()
        self.wrong: dict[str, str] = {}
        self.told: set[str] = set()
        self.spent = 0.0

    @contextmanager
    def __call__(self, what: str) -> Iterator[None]:
        """Around everything of one kind, such as a step: a repetition of what passed once costs nothing.

        UserError, after it is told, where a kernel hangs: nothing can stop it, but it is known next time.
        """
        first = what not in self.passed
        if not first and not self.wrong:
            yield
            return
        try:
            with Detour(self.watched if first else self.trusted):
                yield
        finally:
            self.aside.close()
            self.verdicts.save()
            self.tell()
        if hanging:
            raise UserError(
                "what does not end still occupies the processor, and nothing can stop it. It is known now: "
                "type the same command again (with --overwrite where it asks for it)"
            )
        self.passed.add(what)

    def trusted(self, call: Call, make: Callable[[], Any], exact: Callable[[], Any]) -> Any:
        """The result of a call; None where its kernel is wrong."""
        return None if self.fault(call) else make()

    def watched(self, call: Call, make: Callable[[], Any], exact: Callable[[], Any]) -> Any:
        """The same for a call that is made for the first time."""
        untried = repr(call) not in self.verdicts.faults and self.spent > ENOUGH
        if not untried and self.fault(call):
            return None
        try:
            made = self.aside.do(make, call.words(), call.work())
        except EndlessError:
            return self.blame(call, ENDLESS)
        if untried and (words := first_fault(made, exact())):
            return self.blame(call, words)
        return made if finite(made) else self.blame(call, INFINITE)

    def blame(self, call: Call, words: str) -> None:
        """Remember a fault that no trial showed. A call of numbers that are not finite is not asked about."""
        self.verdicts.learn(repr(call), words)
        self.wrong[repr(call)] = f"{call.words()} {words}"

    def fault(self, call: Call) -> str:
        """What is wrong with the kernel of such a call; tried if nobody knows yet."""
        key = repr(call)
        if key not in self.verdicts.faults:
            self.verdicts.learn(key, self.tried(call))
        words = self.verdicts.faults[key]
        if words:
            self.wrong[key] = f"{call.words()} {words}"
        return words

    def tried(self, call: Call) -> str:
        """The trial of a call, cut to what is left of a second."""
        begun = time.perf_counter()
        work = next(most for seconds, most in ALLOWANCE if self.spent <= seconds)
        try:
            return self.aside.do(lambda: fault_of(call, work), call.words(), work)
        except EndlessError:
            return ENDLESS
        finally:
            self.spent += time.perf_counter() - begun

    def tell(self) -> None:
        """One line about the wrong kernels that were not told yet."""
        new = [words for key, words in self.wrong.items() if key not in self.told]
        self.told.update(self.wrong)
        if new:
            rest = f"; and {len(new) - NAMED} more" if len(new) > NAMED else ""
            self.say(
                f"WARNING: bf16 kernels of this processor are wrong: {'; '.join(new[:NAMED])}{rest}. "
                "These are computed in fp32, the rest in bf16; type --amp fp32 for all of it in fp32"
            )
