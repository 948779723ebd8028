"""The one exception a user is meant to see: a line that says what was given, expected, and what to type."""

import re
import sys
import traceback
from collections.abc import Iterable
from pathlib import Path

COLOURS = re.compile(r"\x1b\[[0-9;]*m")


class UserError(ValueError):
    """Bad input. The command line prints the message, without a traceback, and exits with code 2."""


class Echo(UserError):
    """Another process's UserError, which that process tells: this one ends with the same code, silently."""


class Gone(UserError):
    """What is asked is not there: no other size or setting of the question would help."""


def one_of(what: str, given: str, known: Iterable[str]) -> None:
    """UserError unless the value given for `what` is among those known."""
    if given not in known:
        raise UserError(f"{what}={given!r} is not one of {', '.join(known)}")


def out_of_memory(problem: BaseException) -> bool:
    """CUDA's own class, or the words of the CPU's allocator; told without importing torch."""
    return type(problem).__name__ == "OutOfMemoryError" or "can't allocate memory" in str(problem)


def raised_at(problem: BaseException) -> str:
    """The last line of an author's own code on the way to an exception, as ``file.py:12 in forward``."""
    folders = [Path(__file__).parent / "testing"]
    if torch := sys.modules.get("torch"):
        folders += map(Path, torch.__path__)
    frames = traceback.extract_tb(problem.__traceback__)
    own = [frame for frame in frames if not frame.filename.startswith(tuple(map(str, folders)))] or frames
    return f"{Path(own[-1].filename).name}:{own[-1].lineno} in {own[-1].name}"


def accident(problem: BaseException, length: int) -> str:
    """The kind of a stranger's exception, what it says in `brief`, and where it was raised."""
    return f"{type(problem).__name__}: {brief(problem, length)} ({raised_at(problem)})"


def brief(problem: BaseException, length: int) -> str:
    """What an exception says, on one line of at most so many characters, to be quoted in an error of ours.

    One that says next to nothing (``KeyError: 101``) is quoted with its kind.
    """
    words = " ".join(COLOURS.sub("", str(problem)).split())
    told = words if re.search(r"[A-Za-z]{2}", words) else f"{type(problem).__name__} {words}"
    return told.strip()[:length]
