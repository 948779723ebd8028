"""A whole video in clips side by side, each beginning a little before the one before it ends."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from vjepa_distill.data.clips import Recipe
from vjepa_distill.data.index import Entry
from vjepa_distill.data.sampling import duration, fps_indices, uniform_indices
from vjepa_distill.data.transforms import centre_box, to_clip
from vjepa_distill.protocols import Decoder


@dataclass(frozen=True)
class Stretch:
    """A part of a video, and when its frames are shown."""

    clip: Tensor
    """uint8 [3, T, H, W]"""
    first: int
    """The number of its first frame among those sampled of the video."""
    seconds: list[float]
    """[T], since the video's first frame."""


def sampled(entry: Entry, recipe: Recipe) -> tuple[list[int], list[float]]:
    """The frames of a whole video, and their seconds: T spread evenly, or by fps as many as there are."""
    info = entry.info
    assert info is not None, "a bad entry was handed over"
    if recipe.sampling == "uniform":
        indices = uniform_indices(info.frames, recipe.num_frames)
        return indices, [info.times[index] - info.times[0] for index in indices]
    count = max(1, int(duration(info.times, info.fps) * recipe.rate + 1e-6))
    return fps_indices(info.times, count, recipe.rate, 0.0), [number / recipe.rate for number in range(count)]


def stretches(
    entry: Entry,
    root: str | os.PathLike,
    recipe: Recipe,
    decoder: Decoder,
    length: int,
    overlap: int,
    step: int,
) -> Iterator[Stretch]:
    """Clips of at most `length` frames, of which the first `overlap` were the last of the clip before.

    All are multiples of `step` frames; what is left over at the end of the video is left out. DecodeError
    where the file cannot be read.
    """
    assert entry.info is not None, "a bad entry was handed over"
    indices, seconds = sampled(entry, recipe)
    whole = len(indices) // step * step
    for first in range(0, max(whole - overlap, 0), length - overlap):
        part = slice(first, min(first + length, whole))
        yield Stretch(_cut(entry, root, indices[part], recipe, decoder), first, seconds[part])


def starts(
    entry: Entry, root: str | os.PathLike, recipe: Recipe, decoder: Decoder, most: int = 4
) -> Tensor | None:
    """Clips of one video that begin at different moments: uint8 [S, 3, T, H, W]; None where it is too short.

    By fps: as many as fit side by side, at most so many, spread over the video. Uniform: of its first half,
    its middle half and its last, each with T frames, so at twice the rate of a clip of the whole; a video of
    less than 2 T frames has none, for it would have to show frames twice.
    """
    info, T = entry.info, recipe.num_frames
    assert info is not None, "a bad entry was handed over"
    if recipe.sampling == "uniform":
        half = info.frames // 2
        begins = [0, half // 2, info.frames - half] if half >= T else []
        chosen = [[begin + index for index in uniform_indices(half, T)] for begin in begins]
    else:
        latest = duration(info.times, info.fps) - recipe.seconds
        count = min(most, int(latest / recipe.seconds + 1 + 1e-6))
        places = [latest * number / (count - 1) for number in range(count)] if count > 1 else []
        chosen = [fps_indices(info.times, T, recipe.rate, place) for place in places]
    return (
        torch.stack([_cut(entry, root, indices, recipe, decoder) for indices in chosen]) if chosen else None
    )


def _cut(
    entry: Entry, root: str | os.PathLike, indices: list[int], recipe: Recipe, decoder: Decoder
) -> Tensor:
    """These frames, the centre of them: uint8 [3, T, H, W]."""
    assert entry.info is not None
    frames = decoder.read(os.path.join(root, entry.path), indices, entry.info)
    box = centre_box(frames.shape[1], frames.shape[2], recipe.width / recipe.height)
    return torch.as_tensor(to_clip(frames, box, recipe.height, recipe.width, False))
