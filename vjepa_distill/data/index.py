"""What files there are, what is in each, which are bad and why: kept in one file, split by a stable hash."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vjepa_distill.data import times
from vjepa_distill.errors import UserError
from vjepa_distill.protocols import VideoInfo

FORMAT = 1


@dataclass(frozen=True)
class Entry:
    """One file."""

    path: str
    """Relative to the root, with forward slashes; absolute when the file lies elsewhere."""
    size: int
    mtime: int
    """Nanoseconds."""
    info: VideoInfo | None
    why: str
    """Empty for a good file, else the reason why it is bad."""
    key: str = ""
    """What it is known by within its data set, where that is not its path: see `listing`."""

    @property
    def video(self) -> int:
        """The file's stable number."""
        return video_id(self.key or self.path)


@dataclass
class Index:
    """Every file that matched, in the order of their paths."""

    root: str
    entries: list[Entry]
    decoder: str = ""
    """Name and version of the decoder that scanned: what another one found is not reused."""
    duplicates: dict[str, str] = field(default_factory=dict)
    """Other names of files that are in here, left out; folders end in a slash."""

    @property
    def good(self) -> list[Entry]:
        return [entry for entry in self.entries if not entry.why]

    @property
    def bad(self) -> list[Entry]:
        return [entry for entry in self.entries if entry.why]

    def digest(self) -> str:
        """Changes when the good files, their order or their lengths do."""
        return digest(self.good)

    def split(self, fraction: float) -> tuple[list[Entry], list[Entry]]:
        """(train, held out): by a hash of what it is, so that it keeps its side when others come or go."""
        good = sorted(self.good, key=lambda entry: entry.video)
        held = sum(entry.video < fraction * 2**63 for entry in good)
        if fraction > 0 and len(good) > 1:
            held = min(max(held, 1), len(good) - 1)
        by_path = [sorted(part, key=lambda entry: entry.path) for part in (good[held:], good[:held])]
        return by_path[0], by_path[1]

    def save(self, path: str | Path) -> None:
        """Written beside and renamed, so that a reader never meets half of it."""
        record = {"format": FORMAT, "root": self.root, "decoder": self.decoder}
        record["entries"] = [_to_json(entry) for entry in self.entries]
        record["duplicates"] = self.duplicates
        beside = Path(f"{path}.{os.getpid()}.tmp")
        beside.parent.mkdir(parents=True, exist_ok=True)
        beside.write_text(json.dumps(record), encoding="utf-8")
        os.replace(beside, path)

    @classmethod
    def load(cls, path: str | Path) -> Index:
        """UserError for a newer format or a file that is no index."""
        try:
            record = json.loads(Path(path).read_text(encoding="utf-8"))
            newer = record["format"] > FORMAT
            if not newer:
                entries = [_from_json(row) for row in record["entries"]]
                return cls(record["root"], entries, record["decoder"], record.get("duplicates", {}))
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{path} is not an index of videos ({error}): delete it and it is made anew"
            ) from error
        raise UserError(
            f"{path} has index format {record['format']}, this version reads up to {FORMAT}: "
            "upgrade vjepa-distill, or delete the file and it is made anew"
        )


def digest(entries: Sequence[Entry]) -> str:
    """A hash over path, size and frame count of these entries, in order."""
    rows = [[entry.path, entry.size, entry.info.frames if entry.info else 0] for entry in entries]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16]


def video_id(key: str, dataset: str = "") -> int:
    """A stable number in [0, 2^63) for a video by its key in a data set; a set without a name is "".

    Neither holds a zero byte, so no two pairs are hashed as the same text. Without a name the key alone is,
    as ever: the videos held out in stage 1 stay so in a stage 2 of a later version.
    """
    text = f"{dataset}\0{key}" if dataset else key
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()[:8], "big") >> 1


def _to_json(entry: Entry) -> dict:
    record = {name: getattr(entry, name) for name in ("path", "size", "mtime", "why", "key")}
    if entry.info:
        record["info"] = {**vars(entry.info), "times": times.pack(entry.info.times)}
    return record


def _from_json(record: dict) -> Entry:
    info = record.get("info")
    if info:
        info = VideoInfo(**{**info, "times": times.unpack(info["times"])})
    key = record.get("key", "")
    return Entry(record["path"], record["size"], record["mtime"], info, record["why"], key)
