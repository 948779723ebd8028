"""Batches without end, whose state is one integer: the same for any number of workers and split of ranks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from vjepa_distill.data.clips import VideoClips
from vjepa_distill.data.index import digest
from vjepa_distill.data.pool import Outcome, Pool
from vjepa_distill.data.quarantine import Quarantine
from vjepa_distill.errors import UserError
from vjepa_distill.protocols import Batch

FORMAT = 1
AHEAD = 2
"""Batches worked on beyond the one asked for."""


class Loader:
    """An endless iterator of `Batch`: row j of rank r is at position + r * batch_size + j of the clips.

    With workers, a file that takes more than `timeout` seconds, or takes its process down, goes into
    quarantine by name and its position is read again. With workers = 0 nothing can interrupt a reading.
    UserError once more than the share `max_bad` of the videos has turned out bad.
    """

    def __init__(
        self,
        clips: VideoClips,
        batch_size: int,
        rank: int = 0,
        world: int = 1,
        workers: int = 0,
        timeout: float = 60.0,
        max_bad: float = 0.01,
    ) -> None:
        if batch_size < 1:
            raise UserError(f"batch_size={batch_size}: give a number from 1")
        self.clips, self.batch_size, self.rank, self.world = clips, batch_size, rank, world
        self.workers, self.timeout, self.max_bad = workers, timeout, max_bad
        self.position = 0
        """Of the next batch to be handed out, over all ranks; what workers have read ahead does not count."""
        self._reader: _Reader | None = None

    def __iter__(self) -> Loader:
        return self

    def __next__(self) -> Batch:
        if self._reader is None:
            # as late as can be: processes are started when no file has been opened here yet
            self._reader = _Ahead(self) if self.workers else _Reader(self)
        samples = self._reader.read(self.rows(self.position))
        self.clips.quarantine.check(len(self.clips.entries), self.max_bad)
        self.position += self.stride
        return collate(samples)

    @property
    def stride(self) -> int:
        """Positions in a batch of all ranks."""
        return self.world * self.batch_size

    def rows(self, position: int) -> range:
        """The positions that this rank reads of the batch that starts there."""
        first = position + self.rank * self.batch_size
        return range(first, first + self.batch_size)

    def state_dict(self) -> dict[str, Any]:
        """Plain types: where to go on, in which order of which files, leaving out which."""
        return {
            "format": FORMAT,
            "position": self.position,
            "index": digest(self.clips.entries),
            "quarantine": self.clips.quarantine.state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there. UserError when the state is newer than this code, or the videos are others."""
        if state["format"] > FORMAT:
            raise UserError(
                f"the loader's state has format {state['format']}, this version reads up to {FORMAT}: upgrade"
            )
        here = digest(self.clips.entries)
        if state["index"] != here:
            raise UserError(
                f"the videos are not those the run was started with (index {state['index']}, now {here}): "
                "their order cannot be continued. Put the files back, or start a new run with --init"
            )
        self.close()
        self.position = state["position"]
        for path, why in state["quarantine"]:
            self.clips.quarantine.add(path, why)

    def close(self) -> None:
        """End the workers; the next batch starts them again."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None


class _Reader:
    """Reads in this process, when asked."""

    def __init__(self, loader: Loader) -> None:
        self.clips = loader.clips

    def read(self, rows: range) -> list[dict[str, Any]]:
        return [self.clips[position] for position in rows]

    def close(self) -> None:
        pass


class _Ahead(_Reader):
    """Reads in other processes, ahead of what is asked."""

    def __init__(self, loader: Loader) -> None:
        self.loader, self.clips = loader, loader.clips
        self.pool = Pool(_Read(loader.clips), loader.workers, loader.timeout)
        self.ready: dict[int, dict[str, Any]] = {}
        self.next_batch = loader.position

    def read(self, rows: range) -> list[dict[str, Any]]:
        while self.next_batch <= self.loader.position + AHEAD * self.loader.stride:
            for position in self.loader.rows(self.next_batch):
                self._submit(position)
            self.next_batch += self.loader.stride
        while not all(position in self.ready for position in rows):
            self._take(self.pool.next())
        return [self.ready.pop(position) for position in rows]

    def close(self) -> None:
        self.pool.close()

    def _submit(self, position: int) -> None:
        self.pool.submit(position, (position, dict(self.clips.quarantine.reasons)))

    def _take(self, outcome: Outcome) -> None:
        if outcome.lost:
            if not outcome.said:
                raise RuntimeError(f"a reading process was lost before it opened a file: {outcome.lost}")
            self.clips.quarantine.add(outcome.said, outcome.lost)
            self._submit(outcome.key)
            return
        self.ready[outcome.key], found = outcome.value
        for path, why in found.items():
            self.clips.quarantine.add(path, why)


class _Read:
    """The work of a reading process: (position, what is known to be bad) -> (sample, what else is)."""

    def __init__(self, clips: VideoClips) -> None:
        self.clips = clips

    def __call__(self, task: tuple[int, dict[str, str]], say: Callable[[str], None]) -> tuple[dict, dict]:
        torch.set_num_threads(1)
        position, known = task
        self.clips.quarantine = Quarantine(known.items())
        self.clips.opening = say
        sample = self.clips[position]
        found = {path: why for path, why in self.clips.quarantine.reasons.items() if path not in known}
        return {**sample, "clip": sample["clip"].numpy()}, found


def collate(samples: Sequence[dict[str, Any]]) -> Batch:
    """One batch of samples; the files' paths go into its extras."""
    clip = torch.stack([torch.as_tensor(sample["clip"]) for sample in samples])
    position = torch.tensor([sample["position"] for sample in samples])
    video = torch.tensor([sample["video"] for sample in samples])
    return Batch(clip, position, video, {"path": [sample["path"] for sample in samples]})
