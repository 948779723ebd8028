"""Rows of features on their way to one file: kept in parts, so that an interruption costs little."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from vjepa_distill.errors import UserError
from vjepa_distill.files import write_atomic


class Parts:
    """A folder of part files, each holding rows, their file names, and up to which clip it goes.

    record: all that decides the numbers. A folder begun with another is refused, or emptied on `overwrite`.
    """

    def __init__(self, folder: Path, record: Mapping[str, Any], overwrite: bool = False):
        self.folder, self.done = folder, 0
        self.files: list[str] = []
        self.bad: dict[str, str] = {}
        self._tokens: list[Tensor] = []
        self._names: list[str] = []
        self._written = 0
        if overwrite:
            self.remove()
        self._begin(json.loads(json.dumps(record)))
        for path in self._paths():
            self._take_up(path)

    @property
    def waiting(self) -> int:
        """Clips taken in since the last part was written, bad ones included."""
        return self.done - self._written

    def add(self, tokens: Tensor, files: list[str], bad: Mapping[str, str], done: int) -> None:
        """Takes in rows [b, ...] of these files; `done` clips of the order are dealt with, these were bad."""
        if files:
            self._tokens.append(tokens)
            self._names += files
        self.bad |= bad
        self.done = done

    def flush(self) -> None:
        """Writes what was taken in as the next part."""
        if not self.waiting:
            return
        tokens = {"features": torch.cat(self._tokens)} if self._tokens else {}
        note = {"done": self.done, "files": self._names, "bad": self.bad}
        data = safetensors.torch.save(tokens, {"note": json.dumps(note)})
        write_atomic(self.folder / f"{self._written:09d}.safetensors", lambda file: file.write(data))
        self.files += self._names
        self._tokens, self._names, self._written = [], [], self.done

    def join(self, file: IO[bytes]) -> None:
        """Writes all parts as one safetensors file, with one part at a time in memory.

        The format (huggingface.co/docs/safetensors): length of the header as u64, the header in JSON, bytes.
        """
        shape = [len(self.files), *next(self._stored()).shape[1:]]
        size = 4 * torch.Size(shape).numel()
        entry = {"dtype": "F32", "shape": shape, "data_offsets": [0, size]}
        header = json.dumps({"features": entry}).encode()
        header += b" " * (-len(header) % 8)
        file.write(len(header).to_bytes(8, "little") + header)
        for tokens in self._stored():
            file.write(tokens.contiguous().numpy().astype("<f4").tobytes())

    def remove(self) -> None:
        """Deletes the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _begin(self, record: dict[str, Any]) -> None:
        """Writes the record, or compares it with that of an interrupted run."""
        path = self.folder / "record.json"
        if not path.exists():
            write_atomic(path, lambda file: file.write(json.dumps(record).encode()))
            return
        begun = json.loads(path.read_text(encoding="utf-8"))
        differ = [key for key in record.keys() | begun.keys() if record.get(key) != begun.get(key)]
        if differ:
            raise UserError(
                f"{self.folder} was begun with another {', '.join(sorted(differ))}: repeat that command, "
                "or type --overwrite to begin anew"
            )

    def _take_up(self, path: Path) -> None:
        with safetensors.safe_open(str(path), framework="pt") as part:
            note = json.loads(part.metadata()["note"])
        self.files += note["files"]
        self.bad |= note["bad"]
        self.done = self._written = note["done"]

    def _paths(self) -> list[Path]:
        return sorted(self.folder.glob("*.safetensors"))

    def _stored(self) -> Iterator[Tensor]:
        for path in self._paths():
            if (part := safetensors.torch.load_file(path)).get("features") is not None:
                yield part["features"]
