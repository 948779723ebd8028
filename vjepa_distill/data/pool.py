"""Processes that may be lost: one that hangs or dies costs its own task, never the run."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from typing import Any, NamedTuple, cast

Work = Callable[[Any, Callable[[str], None]], Any]
"""work(task, say) -> value. `say(text)` tells what is being worked on, and starts the time limit anew."""


class Outcome(NamedTuple):
    """What became of a task."""

    key: Any
    value: Any
    lost: str
    """Empty, or why there is no value: the process hung or died."""
    said: str
    """The last thing the work said before that."""


class Pool:
    """Runs `work` in `workers` processes and kills one that says nothing for `timeout` seconds.

    The killing is done from outside: a timer inside the process never fires while a decoder holds the
    interpreter lock, and a hung decord call survives SIGTERM. One thread here receives results as they come,
    so that no process waits for a busy training step; pipes carry them: no /dev/shm to run out of.
    """

    def __init__(self, work: Work, workers: int, timeout: float) -> None:
        self._work, self._timeout = work, timeout
        self._todo: deque[tuple[Any, Any]] = deque()
        self._done: queue.SimpleQueue[Outcome | BaseException] = queue.SimpleQueue()
        self._wake, self._bell = multiprocessing.Pipe(duplex=False)
        self._closed = False
        self._hands = [_Hand(work) for _ in range(workers)]
        self._thread = threading.Thread(target=self._manage, name="pool", daemon=True)
        self._thread.start()

    def submit(self, key: Any, task: Any) -> None:
        """Queue a task; its outcome comes out of `next` under this key, in whatever order tasks end."""
        self._todo.append((key, task))
        self._bell.send_bytes(b"!")

    def next(self) -> Outcome:
        """Wait for any task to end. An exception raised by the work is raised here."""
        outcome = self._done.get()
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    def close(self) -> None:
        """Kill every process; what was not finished is forgotten."""
        if not self._closed:
            self._closed = True
            self._bell.send_bytes(b"!")
            self._thread.join()

    def _manage(self) -> None:
        try:
            while not self._closed:
                self._hand_out()
                self._collect()
        except BaseException as error:  # without this thread nothing would ever come out of `next`
            self._done.put(error)
        finally:
            for hand in self._hands:
                hand.kill()

    def _hand_out(self) -> None:
        for hand in self._hands:
            if hand.idle and self._todo:
                hand.give(*self._todo.popleft())

    def _collect(self) -> None:
        busy = {hand.pipe: hand for hand in self._hands if not hand.idle}
        now = time.monotonic()
        patience = min((hand.since + self._timeout - now for hand in busy.values()), default=None)
        for pipe in cast(
            list[Connection], wait([self._wake, *busy], None if patience is None else max(0.0, patience))
        ):
            if pipe is self._wake:
                self._wake.recv_bytes()
            else:
                self._receive(busy[pipe])
        for place, hand in enumerate(self._hands):
            if not hand.idle and time.monotonic() - hand.since > self._timeout:
                self._replace(place, f"no answer within {self._timeout:g} s")

    def _receive(self, hand: _Hand) -> None:
        try:
            kind, value = hand.pipe.recv()
        except (EOFError, OSError):
            self._replace(self._hands.index(hand), hand.death())
            return
        if kind == "said":
            hand.said, hand.since = value, time.monotonic()
            return
        self._done.put(value if kind == "error" else Outcome(hand.key, value, "", hand.said))
        hand.idle = True

    def _replace(self, place: int, why: str) -> None:
        hand = self._hands[place]
        hand.kill()
        self._hands[place] = _Hand(self._work)
        self._done.put(Outcome(hand.key, None, why, hand.said))


class _Hand:
    """One process, and what it is doing."""

    def __init__(self, work: Work) -> None:
        # fork starts in milliseconds and takes any `work`; elsewhere than on Linux it is not safe.
        context: Any = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(work, theirs, os.getpid()), daemon=True)
        self.process.start()
        theirs.close()
        self.idle, self.key, self.said, self.since = True, None, "", 0.0

    def give(self, key: Any, task: Any) -> None:
        self.idle, self.key, self.said, self.since = False, key, "", time.monotonic()
        with contextlib.suppress(OSError):  # it died while idle: the broken pipe is read, and reported, next
            self.pipe.send(task)

    def death(self) -> str:
        self.process.join(1)
        code = self.process.exitcode
        if code is not None and code < 0:
            return f"its process was ended by {signal.Signals(-code).name}"
        return f"its process ended with code {code}"

    def kill(self) -> None:
        self.process.kill()
        self.process.join()
        self.pipe.close()


def _serve(work: Work, pipe: Connection, parent: int) -> None:
    """The life of a process: one task after the other, until it is killed or left alone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # and so is its handler that saves a checkpoint
    while True:
        while not pipe.poll(5.0):
            if os.getppid() != parent:
                return
        try:
            task = pipe.recv()
        except EOFError:
            return
        pipe.send(_attempt(work, task, lambda text: pipe.send(("said", text))))


def _attempt(work: Work, task: Any, say: Callable[[str], None]) -> tuple[str, Any]:
    try:
        return "value", work(task, say)
    except Exception as error:
        error.add_note(f"In a reading process:\n{traceback.format_exc()}")
        return "error", error
