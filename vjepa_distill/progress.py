"""Progress with the time left: a bar on a terminal, now and then a plain line elsewhere."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager


def progress_bar(what: str, total: int, start: int = 0, every: float = 15.0) -> _Bar | _Lines:
    """A context manager with update(done) and say(text): a bar on a terminal, else a line every `every` s."""
    return _Bar(what, total, start) if sys.stderr.isatty() else _Lines(what, total, start, every)


@contextmanager
def progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """Hands over `update(done, total)`; the bar appears with the first call: nothing to do shows nothing."""
    with ExitStack() as shown:
        bars: list[_Bar | _Lines] = []

        def update(done: int, total: int) -> None:
            if not bars:
                bars.append(progress_bar(what, total))
                shown.enter_context(bars[0])
            bars[0].update(done)

        yield update


class _Bar:
    """rich's progress bar with the time left."""

    def __init__(self, what: str, total: int, start: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        left = (TextColumn("{task.description}"), BarColumn(None))
        right = (MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("left"))
        self.progress = Progress(*left, *right, console=Console(stderr=True))
        self.task = self.progress.add_task(what, total=total, completed=start)

    def __enter__(self) -> _Bar:
        self.progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.progress.stop()

    def update(self, done: int) -> None:
        self.progress.update(self.task, completed=done)

    def say(self, text: str) -> None:
        self.progress.console.print(text, markup=False, highlight=False, soft_wrap=True)


class _Lines:
    """Progress for a file or a pipe, where a bar would be thousands of control characters."""

    def __init__(self, what: str, total: int, start: int, every: float) -> None:
        self.what, self.total, self.start, self.every = what, total, start, every

    def __enter__(self) -> _Lines:
        self.begun = self.last = time.monotonic()
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def update(self, done: int) -> None:
        now = time.monotonic()
        if done <= self.start or (now - self.last < self.every and done < self.total):
            return
        self.last = now
        left = (now - self.begun) / (done - self.start) * (self.total - done)
        self.say(folded(f"{self.what} {done}/{self.total}, {clock(left)} left", width()))

    def say(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)


def width() -> int:
    """Columns of the terminal now: $COLUMNS, else its size; 80 where there is none, and never below 20."""
    try:
        own = os.get_terminal_size(2).columns  # stdout, which shutil asks, may be a pipe
    except OSError:
        own = 0
    return max(20, shutil.get_terminal_size((own or 80, 24)).columns)


def folded(text: str, columns: int, hang: int = 2) -> str:
    """Each line of a text folded, the rest `hang` further in; a longer word (a path) stays whole."""
    rows = []
    for row in text.splitlines():
        indent = " " * (len(row) - len(row.lstrip(" ")) + hang)
        rows += textwrap.wrap(
            row, columns, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
        ) or [""]
    return "\n".join(rows)


def clock(seconds: float) -> str:
    """1:02:03, or 2:03 below an hour."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
