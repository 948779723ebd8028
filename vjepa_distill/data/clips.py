"""The endless order of clips: a position alone decides which video, which frames and which crop."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch

from vjepa_distill.data import format1
from vjepa_distill.data.index import Entry
from vjepa_distill.data.quarantine import Quarantine, listed
from vjepa_distill.data.sampling import (
    AUGMENT,
    duration,
    fps_indices,
    generator,
    permutation,
    uniform_indices,
)
from vjepa_distill.data.transforms import Box, centre_box, random_box, to_clip
from vjepa_distill.errors import UserError
from vjepa_distill.protocols import DecodeError, Decoder, VideoInfo


@dataclass(frozen=True)
class Recipe:
    """How a clip is cut from a video."""

    num_frames: int
    height: int
    width: int
    sampling: Literal["uniform", "fps"] = "uniform"
    """Evenly over the whole video, or so many frames a second from a random start."""
    fps: float | None = None
    crop: Literal["random", "center", "format 1"] = "random"
    """A random resized crop, or the shorter side resized and the centre cut out."""
    scale: tuple[float, float] = (0.5, 1.0)
    """Share that a random crop takes of the largest box of its shape."""
    aspect: tuple[float, float] = (0.75, 4 / 3)
    """Width / height of a random crop, relative to the clip's own."""
    flip: float = 0.5
    """Probability of a horizontal flip."""

    def __post_init__(self) -> None:
        if self.sampling == "fps" and not self.rate > 0:
            raise UserError(f"sampling by fps needs fps above 0, not {self.fps}: type --data.fps 5, for one")

    @property
    def rate(self) -> float:
        """Frames a second, 0 where that is not asked for."""
        return self.fps or 0.0

    @property
    def seconds(self) -> float:
        """The length of a clip sampled by fps."""
        return self.num_frames / self.rate


@dataclass(frozen=True)
class Sample:
    """A video and which of its stretches: several to a long video when sampling by fps."""

    entry: Entry
    part: int


class VideoClips(torch.utils.data.Dataset):
    """Clips by position, an integer >= 0: epoch, k = divmod(position, num_samples); sample = permutation[k].

    A file that cannot be read goes into the quarantine, and the next sample of the same permutation that can
    takes its place: by rule, so that every rank and a resumed run agree. Frames, crop and flip are drawn from
    a generator keyed by (seed, position).
    """

    def __init__(
        self,
        entries: Sequence[Entry],
        root: str | os.PathLike,
        recipe: Recipe,
        decoder: Decoder,
        seed: int,
        quarantine: Quarantine | None = None,
        shuffle: bool = True,
    ) -> None:
        self.entries, self.root, self.recipe, self.decoder = list(entries), os.fspath(root), recipe, decoder
        self.seed, self.shuffle = seed, shuffle
        self.quarantine = Quarantine() if quarantine is None else quarantine
        self.opening: Callable[[str], None] = lambda path: None
        """Told the path before each file is opened; a watchdog listens here."""
        self.samples = [Sample(entry, part) for entry in self.entries for part in range(parts(entry, recipe))]
        if not self.samples:
            raise UserError("there is no video to make clips of: point --data.root at some")

    @property
    def num_samples(self) -> int:
        """N: how many positions make an epoch."""
        return len(self.samples)

    def __len__(self) -> int:
        return self.num_samples

    def __getitem__(self, position: int) -> dict[str, Any]:
        """clip uint8 [3, T, H, W]; position; video (the file's stable number); path."""
        for sample in self._candidates(position):
            path = sample.entry.path
            if path in self.quarantine:
                continue
            try:
                clip = self._clip(sample, generator(self.seed, AUGMENT, position))
            except DecodeError as error:
                self.quarantine.add(path, str(error))
                continue
            return {"clip": clip, "position": position, "video": sample.entry.video, "path": path}
        raise UserError(
            f"not one of {len(self.entries)} videos can be read: {listed(self.quarantine.reasons)}"
        )

    def _candidates(self, position: int):
        epoch, k = divmod(position, self.num_samples)
        order = permutation(self.seed, epoch, self.num_samples) if self.shuffle else range(self.num_samples)
        return (self.samples[order[(k + i) % self.num_samples]] for i in range(self.num_samples))

    def _clip(self, sample: Sample, draw: np.random.Generator) -> torch.Tensor:
        info = sample.entry.info
        assert info is not None, "a bad entry was handed over"
        self.opening(sample.entry.path)
        indices = frame_indices(info, self.recipe, sample.part, draw if self.shuffle else None)
        frames = self.decoder.read(os.path.join(self.root, sample.entry.path), indices, info)
        box, flip = _framing(frames.shape[1], frames.shape[2], self.recipe, draw)
        return to_clip(frames, box, self.recipe.height, self.recipe.width, flip)


def parts(entry: Entry, recipe: Recipe) -> int:
    """How many samples a video is: one, or by fps as many clips as fit side by side."""
    if recipe.sampling == "uniform" or entry.info is None:
        return 1
    return max(1, int(duration(entry.info.times, entry.info.fps) / recipe.seconds + 1e-6))


def frame_indices(info: VideoInfo, recipe: Recipe, part: int, draw: np.random.Generator | None) -> list[int]:
    """The frames of one clip. By fps, the start is drawn within its own stretch, or is its beginning."""
    if recipe.sampling == "uniform":
        return uniform_indices(info.frames, recipe.num_frames)
    latest = max(0.0, duration(info.times, info.fps) - recipe.seconds)
    start = (part + (draw.uniform() if draw else 0.0)) * recipe.seconds
    return fps_indices(info.times, recipe.num_frames, recipe.rate, min(start, latest))


def _framing(height: int, width: int, recipe: Recipe, draw: np.random.Generator) -> tuple[Box, bool]:
    if recipe.crop == "center":
        return centre_box(height, width, recipe.width / recipe.height), False
    if recipe.crop == "format 1":
        box = format1.random_box(height, width, recipe.scale, recipe.aspect, draw)
    else:
        box = random_box(height, width, recipe.width / recipe.height, recipe.scale, recipe.aspect, draw)
    return box, bool(draw.uniform() < recipe.flip)
