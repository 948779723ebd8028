"""Files that are either the old one or the new one, never half of each; where caches lie."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import IO


def write_atomic(path: Path | str, write: Callable[[IO[bytes]], object]) -> Path:
    """Calls `write` on a temporary file in the same folder, brings it to disk and puts it in place of `path`.

    Killed at any moment, it leaves what was there before. The same folder, because a rename across file
    systems is a copy; fsync, because a rename may reach the disk before the bytes do (a power cut then leaves
    an empty file).
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.tmp")
    try:
        with open(beside, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    return path


def cache_folder() -> Path:
    """Where that is kept which can be found out again: in the user's cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vjepa_distill"
