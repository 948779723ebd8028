"""Which files patterns name: every real file once, its name and identity the same however it was typed."""

from __future__ import annotations

import fnmatch
import functools
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from vjepa_distill.data.index import Entry

UNSCANNED = "not scanned yet"


@dataclass
class Listing:
    """What was found."""

    root: str
    entries: list[Entry]
    """One to a file, unscanned."""
    duplicates: dict[str, str]
    """What is there twice and was left out, and what it is the same as; folders end in a slash."""


def find(root: str | os.PathLike, files: Sequence[str]) -> Listing:
    """The files that match `files` (globs or paths, relative to `root` or absolute).

    A file is the same one through a link, a linked folder or a hard link. Of several names that one is kept
    which lies in the root and leads through no link, else the first.
    """
    places = _Places(os.path.realpath(os.path.expanduser(root)))
    walk = _Walk()
    matching = [path for pattern in files for path in walk.matching(places.root, os.path.expanduser(pattern))]
    found = [places.entry(path) for path in dict.fromkeys(matching) if os.path.isfile(path)]
    kept: dict[object, Entry] = {}
    duplicates = {}
    for entry, file in sorted(found, key=lambda pair: _rank(pair[0])):
        first = kept.setdefault(file, entry)
        if first.path != entry.path:
            duplicates[entry.path] = first.path
    entries = sorted(kept.values(), key=lambda entry: entry.path)
    names = [entry.path for entry in entries]
    for again, once in walk.twice.items():
        again, once = places.folder(again), places.folder(once)
        if _any_in(once, names) and not _any_in(again, [*names, *duplicates]):
            duplicates[again] = once
    return Listing(places.root, entries, duplicates)


def _rank(entry: Entry) -> tuple[bool, bool, str]:
    return os.path.isabs(entry.path), bool(entry.key), entry.path


def _any_in(folder: str, names: Sequence[str]) -> bool:
    """Whether one of these names, of files, is in a folder."""
    return any(name.startswith(folder) or folder == "./" for name in names)


class _Places:
    """Names and identities as seen from one root."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.real: Callable[[str], str] = functools.cache(os.path.realpath)

    def entry(self, path: str) -> tuple[Entry, object]:
        """The entry of a file, and what is equal for the same file under other names."""
        status, name, key = os.stat(path), self.name(path), self.key(path)
        # a file system without inode numbers gives 0; equal ones of unlike files are a few systems' bug
        same = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
        entry = Entry(
            name, status.st_size, status.st_mtime_ns, None, UNSCANNED, key="" if key == name else key
        )
        return entry, same if status.st_ino else self.target(path)

    def folder(self, path: str) -> str:
        """A folder's name for people, as it was met."""
        below = self.below(path)
        return Path(path if below is None else below).as_posix() + "/"

    def below(self, path: str) -> str | None:
        """The rest of a path that, as written, is the root or in it; else None."""
        start = self.root.rstrip(os.sep) + os.sep
        if path.startswith(start):
            return path[len(start) :]
        return "" if path == self.root else None

    def name(self, path: str) -> str:
        """As written behind the root, under whichever name that stands in the path; elsewhere the path."""
        for above, below in _cuts(path):
            if self.target(above) == self.root:
                return below.replace(os.sep, "/")
        return path.replace(os.sep, "/")

    def key(self, path: str) -> str:
        """The longest beginning that really lies in the root by its real place, then the rest as written.

        So a link within the root is what it points at, and a folder of links to somewhere else has the same
        keys on every machine. What lies elsewhere altogether: its real path.
        """
        for above, below in _cuts(path):
            within = self.below(self.target(above))
            if within is not None:
                return (os.path.join(within, below) if below else within).replace(os.sep, "/")
        return self.target(path).replace(os.sep, "/")

    def target(self, path: str) -> str:
        """The real path; of a folder's many files the folder is looked up once."""
        above, name = os.path.split(path)
        return os.path.join(self.real(above), name) if name and not os.path.islink(path) else self.real(path)


def _cuts(path: str) -> Iterator[tuple[str, str]]:
    """(path, ""), (its folder, its name), and so on up to the top."""
    below = ""
    while True:
        yield path, below
        above, name = os.path.split(path)
        if above == path:
            return
        path, below = above, os.path.join(name, below) if below else name


class _Walk:
    """Globs with the rules of Python's own, but ``**`` enters every real folder once: loops of links end."""

    def __init__(self) -> None:
        self.twice: dict[str, str] = {}
        """Linked folders that were not entered, and where their files had been met."""

    def matching(self, folder: str, pattern: str) -> Iterator[str]:
        """Whatever matches, files or folders; a part that is there as written is no glob: [brackets]."""
        path = Path(pattern)
        parts = list(path.parts[1:] if path.is_absolute() else path.parts)
        return self._expand(path.anchor if path.is_absolute() else folder, parts)

    def _expand(self, folder: str, parts: Sequence[str]) -> Iterator[str]:
        if not parts:
            yield folder
            return
        first, rest = parts[0], parts[1:]
        if first == "**":
            for inner in self._beneath(folder):
                yield from self._expand(inner, rest or ["*"])
        elif first == "..":
            yield from self._expand(os.path.dirname(os.path.realpath(folder)), rest)
        else:
            for name in _names(folder, first):
                yield from self._expand(os.path.join(folder, name), rest)

    def _beneath(self, start: str) -> Iterator[str]:
        """The folder and all in it, those that are only linked last: a file's own name comes first."""
        met: dict[str, str] = {}
        own, linked = [start], list[str]()
        while own or linked:
            folder = own.pop() if own else linked.pop(0)
            real = os.path.realpath(folder)
            if real in met:
                self.twice[folder] = met[real]
                continue
            met[real] = folder
            yield folder
            for name in _listed(folder, hidden=False):
                path = os.path.join(folder, name)
                if os.path.isdir(path):
                    (linked if os.path.islink(path) else own).append(path)


def _names(folder: str, part: str) -> list[str]:
    """The names in a folder that a part of a pattern stands for."""
    if not set(part) & set("*?") and os.path.lexists(os.path.join(folder, part)):
        return [part]
    return fnmatch.filter(_listed(folder, hidden=part.startswith(".")), part)


def _listed(folder: str, hidden: bool) -> list[str]:
    try:
        names = sorted(os.listdir(folder))
    except OSError:  # a file, or a folder that may not be read
        return []
    return [name for name in names if hidden or not name.startswith(".")]
