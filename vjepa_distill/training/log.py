"""What a run says, from rank 0: progress bar or plain lines, metrics.jsonl, TensorBoard events, train.log."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from vjepa_distill.files import write_atomic
from vjepa_distill.progress import folded, progress_bar, width

STAMP = "%Y-%m-%d %H:%M:%S"
NARROW = 50  # columns below which a stamp would leave too few beside it, and stands on a line of its own


class RunLog:
    """The voice of one run, used as a context manager; on other ranks than 0 every method does nothing.

    run: the output folder · total: steps of the run · start: steps already done (a resumed run);
    rows of metrics.jsonl after `start` belong to a future that is being lived again and are cut off.
    every: seconds between the plain progress lines that replace the bar where the output is no terminal.
    Nothing is written before ``begin`` (or the first row): a run that is refused leaves no trace.
    """

    def __init__(self, run: Path | str, total: int, start: int = 0, rank: int = 0, every: float = 15.0):
        self.run, self.total, self.start, self.every = Path(run), total, start, every
        self.quiet = rank != 0
        self.begun = False
        self.early: list[Callable[[int], str]] = []

    def __enter__(self) -> RunLog:
        return self

    def begin(self) -> None:
        """Open the files and show the bar: the run has everything it needs."""
        if self.quiet or self.begun:
            return
        self.run.mkdir(parents=True, exist_ok=True)
        self._open_rows(self.start)
        self.text = self._appending("train.log")
        self.bar = progress_bar("steps", self.total, self.start, every=self.every)
        self.bar.__enter__()
        self.begun = True
        for text in self.early:
            self._write(text)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.begin()
        if not self.begun:
            return
        self.bar.__exit__(kind, error, trace)
        self.events.close()
        self.rows.close()
        self.text.close()

    def rewind(self, done: int) -> None:
        """The run went back to where `done` steps were finished: later rows are cut off as on a resume."""
        if self.begun:
            self.rows.close()
            self.events.close()
            self._open_rows(done)
            self.bar.update(done)

    def _open_rows(self, done: int) -> None:
        # TensorBoard takes a second to import: not for `--help`, nor for ranks that never write.
        from torch.utils.tensorboard import SummaryWriter

        truncate_rows(self.run / "metrics.jsonl", done)
        self.rows = self._appending("metrics.jsonl")
        self.events = SummaryWriter(str(self.run / "tensorboard"), purge_step=done + 1)

    def _appending(self, name: str) -> TextIO:
        return (self.run / name).open("a", encoding="utf-8")

    def advance(self, done: int) -> None:
        """Moves the bar: `done` steps of the run are finished."""
        self.begin()
        if not self.quiet:
            self.bar.update(done)

    def metrics(self, done: int, values: Mapping[str, float]) -> None:
        """One row after `done` steps: to metrics.jsonl and TensorBoard, and as a line for people."""
        self.begin()
        if self.quiet:
            return
        self.rows.write(json.dumps({"step": done, **{name: _finite(v) for name, v in values.items()}}) + "\n")
        self.rows.flush()
        for name, value in values.items():
            self.events.add_scalar(name, value, done)
        self._tell(lambda columns: line(done, self.total, values, columns))

    def say(self, text: str) -> None:
        """A message to the screen (above the bar) and, with the time of day, to train.log."""
        if not self.quiet:
            self._tell(lambda columns: folded(text, columns))

    def _tell(self, text: Callable[[int], str]) -> None:
        """What `text` gives for a number of columns: the terminal's, and what a time stamp leaves of them."""
        if self.begun:
            self.bar.say(text(width()))
            self._write(text)
        else:
            self.early.append(text)
            print(text(width()), file=sys.stderr, flush=True)

    def _write(self, text: Callable[[int], str]) -> None:
        columns, stamp = width(), time.strftime(STAMP)
        indent = " " * (2 if columns < NARROW else len(stamp) + 1)
        rows = text(columns - len(indent)).replace("\n", f"\n{indent}")
        self.text.write(f"{stamp}\n{indent}{rows}\n" if columns < NARROW else f"{stamp} {rows}\n")
        self.text.flush()


def line(done: int, total: int, values: Mapping[str, float], columns: int | None = None) -> str:
    """`step 120/5000  now 0.6123  lr 3e-04 ...`, folded at `columns` (the terminal's); no `soon/skill/3`."""
    shown = {name: value for name, value in values.items() if not name.rpartition("/")[2].isdecimal()}
    # No-break spaces hold a name to its number when the line is folded.
    head = f"step {done:>{len(str(total))}}/{total}".replace(" ", "\u00a0")
    entries = [f"{name}\u00a0{_short(value)}" for name, value in shown.items()]
    columns = columns or width()
    beside = columns - len(head) - 2 >= max(map(len, entries), default=0)
    return folded("  ".join([head, *entries]), columns, len(head) + 2 if beside else 2).replace("\u00a0", " ")


def truncate_rows(path: Path, start: int) -> None:
    """Keeps the rows of a metrics file up to step `start`; a half-written last row (a crash) goes too."""
    if not path.exists():
        return
    kept = [row for row in path.read_text(encoding="utf-8").splitlines() if _step_of(row) <= start]
    write_atomic(path, lambda file: file.write("".join(row + "\n" for row in kept).encode()))


def _step_of(row: str) -> float:
    """The step of a metrics row; infinity, which no start reaches, for a row that cannot be read."""
    try:
        return float(json.loads(row)["step"])
    except (ValueError, KeyError, TypeError):
        return math.inf


def _finite(value: Any) -> float | None:
    """JSON has no NaN or infinity: null says "there was no number" and every reader accepts it."""
    return float(value) if math.isfinite(value) else None


def _short(value: float) -> str:
    """Four figures; whole numbers as they are; small ones as 3e-04 rather than as 0.0003."""
    if value == 0 or (float(value).is_integer() and abs(value) < 1e6):
        return str(int(value))
    return f"{value:.1e}" if abs(value) < 1e-3 else f"{value:.4g}"
