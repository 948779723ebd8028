"""What a run's predictor foretells of the clips that the report shows, and how far it was off."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vjepa_distill.data.clips import VideoClips
from vjepa_distill.pages.contents import Foresight, Found, Search
from vjepa_distill.progress import progress
from vjepa_distill.protocols import Batch, Timeline
from vjepa_distill.runs import few

CANDIDATES = 24
"""Held-out clips whose far futures EVENTUALLY chooses from, those that are shown among them."""
NEAREST = 3
FAR_FRAMES = 3


class Forecast(Protocol):
    """What a forecaster says of a clip's NOW."""

    @property
    def tokens(self) -> Tensor:
        """SOON: [B, t, h, w, D]"""

    @property
    def outcome(self) -> Tensor | None:
        """EVENTUALLY: [B, D]; None where it was not asked for."""


class Forecaster(Protocol):
    """A run's world model, as far as it is asked here."""

    def forecast(self, clip_now: Tensor) -> Forecast:
        """From NOW's frames, float RGB [B, 3, T, H, W] in [0, 1]."""

    def rivals(self, clip_now: Tensor) -> Mapping[str, Tensor]:
        """What NOW alone says of SOON for nothing: ``persistence`` [B, t, h, w, D]."""

    def targets(self, clip: Tensor) -> Tensor:
        """What is to be foretold: the tokens of the whole clip, layer-normed, [B, t, h, w, D]."""


def others(clips: VideoClips, batch: Batch) -> list[Batch]:
    """More held-out clips of other videos, so that there is something to choose from, one in a batch."""
    shown = set(batch.video.tolist())
    more = []
    for position in few.spread(clips.num_samples, CANDIDATES + len(shown)):
        one = few.read(clips, [position], batch.clip.device)
        if len(shown) < CANDIDATES and one.video.item() not in shown:
            shown.add(one.video.item())
            more.append(one)
    return more


@torch.no_grad()
def foresee(forecaster: Forecaster, timeline: Timeline, batch: Batch, more: Sequence[Batch]) -> Foresight:
    """SOON's error on every cell of the batch's clips, and which far futures their outcomes lie nearest to.

    The candidates are the far futures of the batch and of `more`, each the mean of its target tokens.
    """
    now, stop, frames = timeline.now, timeline.now + timeline.soon, batch.clip.shape[2]
    seen = frames * now // sum(timeline)
    errors, rivals, outcomes, futures = [], [], [], []
    singles = [batch.clip[row : row + 1] for row in range(len(batch.clip))]
    with progress("foretelling") as update:
        for number, clip in enumerate([*singles, *(one.clip for one in more)]):
            target = forecaster.targets(clip).float()
            futures.append(target[:, stop:].flatten(1, 3).mean(dim=1))
            if number < len(singles):
                told = forecaster.forecast(clip[:, :, :seen])
                errors.append(_apart(told.tokens, target[:, now:stop]))
                rivals.append(
                    _apart(forecaster.rivals(clip[:, :, :seen])["persistence"], target[:, now:stop])
                )
                if told.outcome is not None:
                    outcomes.append(told.outcome.float())
            update(number + 1, len(singles) + len(more))
    searches: list[Search] = []
    if timeline.eventually and outcomes:
        searches = search(torch.cat(outcomes), torch.cat(futures), [batch, *more], stop / sum(timeline))
    return Foresight(torch.cat(errors).cpu().numpy(), torch.cat(rivals).cpu().numpy(), searches, len(futures))


def _apart(told: Tensor, target: Tensor) -> Tensor:
    """Mean absolute difference of tokens [B, t, h, w, D]: [B, t, h, w]."""
    return (told.float() - target).abs().mean(dim=-1)


def search(outcomes: Tensor, futures: Tensor, batches: Sequence[Batch], far: float) -> list[Search]:
    """outcomes [B, D] among futures [N, D] by cosine, the first B of which are their own.

    batches: the clips of the futures, in their order. far: the share of a clip after which its far future is.
    """
    clips = [clip for one in batches for clip in one.clip]
    names = [name for one in batches for name in one.extras["path"]]
    cosine = F.normalize(outcomes, dim=-1) @ F.normalize(futures, dim=-1).T
    found = []
    for row, likeness in enumerate(cosine):
        nearest = likeness.argsort(descending=True, stable=True)
        place = int((nearest == row).nonzero()) + 1
        shown = [
            Found(names[n], _far_frames(clips[n], far), float(likeness[n]), n == row)
            for n in nearest[:NEAREST].tolist()
        ]
        found.append(Search(row, shown, place))
    return found


def _far_frames(clip: Tensor, far: float) -> np.ndarray:
    """uint8 [n, H, W, 3]: a few frames of a clip [3, T, H, W] from its far future, the last among them."""
    last = clip.shape[1] - 1
    places = torch.linspace(round(far * (last + 1)), last, FAR_FRAMES).round().long().unique()
    return few.frames(clip, places.tolist())
