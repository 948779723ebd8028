"""The clips kept out of training, in batches read when asked for: always the same frames, centre crop."""

from __future__ import annotations

from collections.abc import Sequence
from typing import overload

from vjepa_distill.data.clips import VideoClips
from vjepa_distill.data.loader import collate
from vjepa_distill.protocols import Batch


class HeldOut(Sequence[Batch]):
    """The first ``limit`` clips as batches of ``batch_size``, the last one as long as it comes out."""

    def __init__(self, clips: VideoClips, batch_size: int, limit: int) -> None:
        count = min(limit, clips.num_samples)
        self.clips = clips
        self.rows = [range(first, min(first + batch_size, count)) for first in range(0, count, batch_size)]

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> Batch: ...
    @overload
    def __getitem__(self, index: slice) -> list[Batch]: ...
    def __getitem__(self, index: int | slice) -> Batch | list[Batch]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        return collate([self.clips[position] for position in self.rows[index]])
