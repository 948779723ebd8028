"""A clip as a film: its frames, and under each what the run made of that moment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vjepa_distill.pages import pictures
from vjepa_distill.pages.colours import ramp, token_colours
from vjepa_distill.pages.contents import Clips, Foresight, Mask, Search, Segment
from vjepa_distill.pages.pictures import Picture

COLUMNS = 12
"""Moments of a clip that are shown, at most."""


@dataclass(frozen=True)
class Film:
    """Strips of one clip that lie under each other, moment by moment."""

    title: str
    segments: Sequence[Segment]
    """What the columns belong to, in columns."""
    columns: int
    rows: Sequence[Picture]


@dataclass(frozen=True)
class Films:
    """All the films of a run, and what their colours mean."""

    films: Sequence[Film]
    share: Sequence[str]
    """Of the variance of the tokens, by channel, in per cent; empty where none are shown."""
    scale: tuple[float, float] | None
    """The errors at the dark and at the bright end."""


def films(clips: Clips) -> Films:
    """One film a clip: frames; tokens in colour; SOON's error and its rival's, in SOON's columns."""
    shown = columns(clips.frames.shape[1])
    colours, share = token_colours(clips.tokens) if clips.tokens is not None else (None, np.zeros(0))
    segments = _segments(clips.segments, shown)
    scale = scale_of(clips.foresight) if clips.foresight and clips.foresight.error.size else None
    made = []
    for number, name in enumerate(clips.names):
        frames = clips.frames[number, shown]
        rows = [pictures.strip(frames, f"{len(shown)} frames of {name}, from its start to its end", "frames")]
        if colours is not None:
            words = f"the tokens of {name} at the same moments, their principal components as colours"
            rows.append(pictures.cells(colours[number, shown], frames, words, "tokens"))
        if clips.foresight and scale:
            rows += _errors(clips, number, shown, scale)
        made.append(Film(name, segments, len(shown), rows))
    return Films(made, [f"{one:.0%}" for one in share], scale)


def columns(tubelets: int) -> list[int]:
    """The tubelets that are shown: all, or so many evenly spread, first and last among them."""
    return sorted({round(place) for place in np.linspace(0, tubelets - 1, min(tubelets, COLUMNS))})


def _segments(segments: Sequence[Segment], shown: Sequence[int]) -> list[Segment]:
    """How many of the shown tubelets each part of the timeline has; one without is left out."""
    found, start = [], 0
    for name, length in segments:
        inside = sum(start <= tubelet < start + length for tubelet in shown)
        found += [Segment(name, inside)] if inside else []
        start += length
    return found


def scale_of(foresight: Foresight) -> tuple[float, float]:
    """From 0 to what 98 % of the cells' errors lie below, of the run and of its rival alike."""
    both = np.concatenate([foresight.error.ravel(), foresight.rival.ravel()])
    return 0.0, float(np.percentile(both, 98))


def _errors(clips: Clips, number: int, shown: Sequence[int], scale: tuple[float, float]) -> list[Picture]:
    """SOON's error and that of repeating the last NOW tubelet, under the columns of SOON."""
    assert clips.foresight is not None
    first = clips.segments[0].tubelets
    error, rival = clips.foresight.error[number], clips.foresight.rival[number]
    places = [at for at, tubelet in enumerate(shown) if first <= tubelet < first + len(error)]
    if not places:
        return []
    steps = [shown[at] - first for at in places]
    frames = clips.frames[number, [shown[at] for at in places]]
    name = clips.names[number]
    told = {
        "SOON’s error": (error, "how far SOON's tokens lie from what came"),
        "error of repeating the last NOW tubelet": (rival, "the same if the last NOW tubelet is repeated"),
    }
    return [
        pictures.errors(
            ramp(values[steps], *scale),
            frames,
            f"{name}, cell by cell: {words}; mean {values.mean():.3f}",
            label,
            places,
            len(shown),
        )
        for label, (values, words) in told.items()
    ]


@dataclass(frozen=True)
class MaskShown:
    """One view: what it hides, drawn over every clip, or over the moments of one."""

    title: str
    words: str
    columns: int
    pictures: Sequence[Picture]


def masks(clips: Clips) -> list[MaskShown]:
    """Each view of the objectives; where all moments are masked alike, one picture a clip is enough."""
    shown = columns(clips.frames.shape[1])
    return [_mask(clips, mask, shown) for mask in clips.masks]


def _mask(clips: Clips, mask: Mask, shown: list[int]) -> MaskShown:
    share = f"{mask.hidden.mean():.0%} of the tokens are hidden"
    if (mask.hidden == mask.hidden[:, :1]).all():
        middle = clips.frames.shape[1] // 2
        words = f"{mask.title}: one frame of each of {len(clips.names)} clips; {share} (hatched)"
        frames, hidden = clips.frames[:, middle], mask.hidden[:, middle]
    else:
        words = f"{mask.title}: {len(shown)} moments of {clips.names[0]}; {share} (hatched)"
        frames, hidden = clips.frames[0, shown], mask.hidden[0, shown]
    return MaskShown(mask.title, mask.words, len(frames), [pictures.masked(frames, hidden, words)])


@dataclass(frozen=True)
class FoundShown:
    """One retrieved future, and whether it is the right one."""

    picture: Picture
    name: str
    cosine: float
    right: bool


@dataclass(frozen=True)
class SearchShown:
    """What one clip's NOW retrieves."""

    query: Picture
    name: str
    place: int
    candidates: int
    found: Sequence[FoundShown]


def searches(clips: Clips) -> list[SearchShown]:
    """EVENTUALLY: each clip's NOW, and the far futures that its outcome lies nearest to."""
    foresight = clips.foresight
    if foresight is None:
        return []
    return [_search(clips, search, foresight.candidates) for search in foresight.searches]


def _search(clips: Clips, search: Search, candidates: int) -> SearchShown:
    name, now = clips.names[search.clip], clips.segments[0].tubelets
    frames = clips.frames[search.clip, [0, now - 1] if now > 1 else [0]]
    found = [
        FoundShown(
            pictures.strip(one.frames, f"the far future of {one.name}, {'right' if one.right else 'wrong'}"),
            one.name,
            one.cosine,
            one.right,
        )
        for one in search.found
    ]
    return SearchShown(
        pictures.strip(frames, f"NOW of {name}: what was seen"), name, search.place, candidates, found
    )
