"""Makes the index: finds the files, scans new and changed ones in other processes, keeps what it found."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from vjepa_distill.data import listing
from vjepa_distill.data.index import Entry, Index
from vjepa_distill.data.listing import UNSCANNED, Listing
from vjepa_distill.data.pool import Pool
from vjepa_distill.data.quarantine import listed
from vjepa_distill.errors import UserError
from vjepa_distill.protocols import DecodeError, Decoder, VideoInfo

FILES = ("videos/*.mp4",)


def build_index(
    root: str | Path,
    files: Sequence[str] = FILES,
    *,
    decoder: Decoder,
    cache: Path | None = None,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
    timeout: float = 60.0,
    find: Callable[[str | Path, Sequence[str]], Listing] = listing.find,
) -> Index:
    """Scan every file matching `files` (globs or paths, relative to `root` or absolute) that `find` lists.

    What `cache` knows of an unchanged file (size and time of change) is reused, and the result is kept there.
    Scanning is done in other processes: a file that takes more than `timeout` seconds, or takes its process
    down with it, is bad. `progress(done, total)` follows. UserError when nothing can be read.
    """
    there = find(root, files)
    known = _known(cache, there.root, _made_by(decoder))
    entries = {entry.path: _with(entry, known) for entry in there.entries}
    new = [entry for entry in entries.values() if entry.why == UNSCANNED]
    scanned = _scan(there.root, new, decoder, workers, timeout)
    for done, entry in enumerate(scanned, start=len(entries) - len(new)):
        entries[entry.path] = entry
        if progress:
            progress(done + 1, len(entries))
    index = Index(there.root, list(entries.values()), _made_by(decoder), there.duplicates)
    _keep(index, cache)
    _refuse_empty(index, files)
    return index


def _with(entry: Entry, known: dict[tuple[str, int, int], Entry]) -> Entry:
    """An entry with what is known of the same, unchanged file."""
    before = known.get((entry.path, entry.size, entry.mtime), entry)
    return replace(entry, info=before.info, why=before.why)


def _known(cache: Path | None, root: str, decoder: str) -> dict[tuple[str, int, int], Entry]:
    if cache is None or not Path(cache).exists():
        return {}
    try:
        index = Index.load(cache)
    except UserError as unusable:  # a cache: whatever is wrong with it, the videos themselves are there
        warnings.warn(f"{unusable}. It is made anew now", stacklevel=4)
        return {}
    if (index.root, index.decoder) != (root, decoder):
        return {}
    return {(entry.path, entry.size, entry.mtime): entry for entry in index.entries}


def _keep(index: Index, cache: Path | None) -> None:
    if cache is None:
        return
    try:
        index.save(cache)
    except OSError as error:
        warnings.warn(
            f"the index of videos could not be kept ({error}): it will be made anew next time", stacklevel=3
        )


def _scan(root: str, entries: list[Entry], decoder: Decoder, workers: int, timeout: float) -> Iterator[Entry]:
    """Yield every entry again as it is scanned, in whatever order that happens."""
    if not entries:
        return
    by_path = {entry.path: entry for entry in entries}
    pool = Pool(_Scan(root, decoder), min(max(1, workers), len(entries)), timeout)
    try:
        for path in by_path:
            pool.submit(path, path)
        for _ in entries:
            path, result, lost, _said = pool.next()
            info, why = (None, f"scanning it: {lost}") if lost else result
            yield replace(by_path[path], info=info, why=why)
    finally:
        pool.close()


@dataclass(frozen=True)
class _Scan:
    """The work of one scanning process."""

    root: str
    decoder: Decoder

    def __call__(self, path: str, say: Callable[[str], None]) -> tuple[VideoInfo | None, str]:
        try:
            return self.decoder.scan(os.path.join(self.root, path)), ""
        except DecodeError as error:
            return None, str(error) or "it cannot be decoded"


def _refuse_empty(index: Index, files: Sequence[str]) -> None:
    if index.good:
        return
    what = f"No video to read under data.root = {index.root} with data.files = {list(files)}: "
    if index.bad:
        reasons = {entry.path: entry.why for entry in index.bad}
        what += f"{len(index.bad)} files match and none is readable: {listed(reasons, 3)}. "
    else:
        what += "no file matches. " if os.path.isdir(index.root) else "there is no such folder. "
    raise UserError(
        what + "Point --data.root at your videos, or type --data.source world for synthetic ones."
    )


def _made_by(decoder: Decoder) -> str:
    return f"{decoder.name} {decoder.version}"
