"""The views of a video that are compared: as it is, at half speed, in other orders, its first seconds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vjepa_distill.data.clips import Recipe, Sample, VideoClips, frame_indices, parts
from vjepa_distill.data.index import Entry
from vjepa_distill.data.sampling import generator
from vjepa_distill.protocols import Decoder, VideoInfo

SHUFFLE = 2
"""What a generator is for, beside the uses that ``data.sampling`` has."""


class Views(VideoClips):
    """One sample a video, its clip the frames of all views side by side: uint8 [3, (2 + k) T, H, W].

    First the clip itself, then the same number of frames over its middle half, then over the first seconds of
    the video, for each of `seconds`. A frame that several views show is decoded once. A long video sampled by
    fps is seen in its middle.
    """

    def __init__(
        self,
        entries: Sequence[Entry],
        root: str,
        recipe: Recipe,
        decoder: Decoder,
        seconds: Sequence[float] = (),
    ) -> None:
        self.seconds = tuple(seconds)
        once: Any = _Once(decoder, self)
        super().__init__(entries, root, recipe, once, seed=0, shuffle=False)
        self.samples = [Sample(entry, (parts(entry, recipe) - 1) // 2) for entry in self.entries]
        self._sample = {sample.entry.path: sample for sample in self.samples}

    def __getitem__(self, position: int) -> dict[str, Any]:
        """As of every clip, but with the frames of all views."""
        item = super().__getitem__(position)
        shown = self.shown(self._sample[item["path"]])
        item["clip"] = item["clip"][:, np.searchsorted(np.unique(shown), shown)]
        return item

    def shown(self, sample: Sample) -> list[int]:
        """The frames of all views, one view after the other."""
        assert sample.entry.info is not None, "a bad entry was handed over"
        return self.widened(
            frame_indices(sample.entry.info, self.recipe, sample.part, None), sample.entry.info
        )

    def widened(self, indices: Sequence[int], info: VideoInfo) -> list[int]:
        """The frames of a clip, and of the other views of the same video."""
        early = [frame_indices(first(info, tau), self.recipe, 0, None) for tau in self.seconds]
        return [*indices, *middle_half(indices), *(index for view in early for index in view)]

    def still(self) -> int:
        """Of how many videos the view at half speed must show frames twice, where the clip need not."""
        T = self.recipe.num_frames
        shown = [self.shown(sample) for sample in self.samples]
        return sum(len(set(view[T : 2 * T])) < len(set(view[:T])) for view in shown)

    def short(self, tau: float) -> int:
        """How many videos are over before so many seconds are: what is read from them is the whole video."""
        infos = [entry.info for entry in self.entries if entry.info]
        return sum(first(info, tau).frames == info.frames for info in infos)


class _Once:
    """A decoder that is asked for a clip and reads each frame of all its views, once and in order."""

    def __init__(self, decoder: Decoder, views: Views) -> None:
        self.decoder, self.views = decoder, views
        self.name, self.version, self.scan = decoder.name, decoder.version, decoder.scan

    def read(self, path: str, indices: Sequence[int], info: VideoInfo) -> np.ndarray:
        return self.decoder.read(path, np.unique(self.views.widened(indices, info)).tolist(), info)


def middle_half(indices: Sequence[int]) -> list[int]:
    """As many frames, evenly over the middle half of those given: the same clip at half its speed."""
    begin, span, last = indices[0], indices[-1] - indices[0], max(len(indices) - 1, 1)
    # whole numbers, rounded half up, of begin + span * (1/4 + i / (2 last))
    return [begin + (span * (last + 2 * i) + 2 * last) // (4 * last) for i in range(len(indices))]


def first(info: VideoInfo, tau: float) -> VideoInfo:
    """The video as it would be had it ended after so many seconds; at least its first frame."""
    end = info.times[0] + tau - 1e-4
    frames = max(1, int(np.searchsorted(info.times, end, side="left")))
    return replace(info, frames=frames, times=info.times[:frames])


def in_other_orders(clip: Tensor, video: Sequence[int]) -> dict[str, Tensor]:
    """ "reversed"; "swapped", its second half before its first; "shuffled", each video in its own way.

    clip [B, 3, T, H, W]; video: a stable number of each row, by which its frames are shuffled.
    """
    T = clip.shape[2]
    orders = [torch.from_numpy(generator(0, SHUFFLE, number).permutation(T)) for number in video]
    mixed = torch.stack([row[:, order] for row, order in zip(clip, orders, strict=True)])
    return {"reversed": clip.flip(2), "swapped": clip.roll(-(T // 2), dims=2), "shuffled": mixed}
