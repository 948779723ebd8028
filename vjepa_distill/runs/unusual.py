"""Which held-out videos surprised a run the most, and when, for the report."""

from __future__ import annotations

import numpy as np

from vjepa_distill.data.clips import VideoClips
from vjepa_distill.data.index import Entry
from vjepa_distill.data.stretches import sampled, stretches
from vjepa_distill.pages.contents import Watched
from vjepa_distill.progress import progress
from vjepa_distill.protocols import DecodeError
from vjepa_distill.runs import few
from vjepa_distill.stages.forecast import Forecaster

LOOKED_AT = 12
"""Videos from which those that are shown are chosen, at most."""
SHOWN = 4
MOMENTS = 16
"""Foretold of a video, from its start: a page is waited for, and `surprise` looks at all of a long one."""


def most_surprising(model: Forecaster, clips: VideoClips, count: int) -> tuple[list[Watched], int]:
    """The videos whose surprise peaks highest, at most `count` and SHOWN, and among how many.

    Cut and foretold as ``surprise`` does it; a video that cannot be read or is too short is left out.
    """
    found = []
    entries = [clips.entries[at] for at in few.spread(len(clips.entries), LOOKED_AT)]
    with progress("watching") as update:
        for done, entry in enumerate(entries, start=1):
            one = watched(model, clips, entry)
            if one is not None:
                found.append(one)
            update(done, len(entries))
    highest = sorted(found, key=lambda one: -np.nanmax(one.surprise))
    return highest[: min(count, SHOWN)], len(found)


def watched(model: Forecaster, clips: VideoClips, entry: Entry) -> Watched | None:
    """The first moments of a video, each with its surprise; None where not one can be foretold."""
    before, step = model.now_frames, model.tubelet
    parts = stretches(entry, clips.root, clips.recipe, clips.decoder, before + MOMENTS * step, before, step)
    try:
        part = next(parts, None)
    except DecodeError:
        return None
    if part is None:
        return None
    surprise = model.surprise(part.clip[None].to(model.usual.device).float().div(255))[0].cpu().numpy()
    if not np.isfinite(surprise).any():
        return None
    frames = part.clip[:, ::step].permute(1, 2, 3, 0).numpy()
    cut = part.clip.shape[1] + step <= len(sampled(entry, clips.recipe)[0])
    return Watched(entry.path, frames, part.seconds[::step], surprise, cut)
