"""What is usual: how far forecasts lie from what comes in held-out videos, measured when a run ends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from vjepa_distill.data.clips import VideoClips
from vjepa_distill.data.heldout import HeldOut
from vjepa_distill.protocols import Batch
from vjepa_distill.runs.videos import Videos, recipe_of
from vjepa_distill.settings import JepaConfig
from vjepa_distill.stages.forecast import HIGH, MEDIAN, Forecaster, worst

WINDOWS = 256
"""Forecasts at each horizon, at most about, from which is measured what is usual."""


def usual_clips(config: JepaConfig, data: Videos) -> Sequence[Batch]:
    """Held-out clips; training videos, cut as held-out ones are, where none are held out."""
    if data.heldout:
        return data.heldout
    recipe, entries = recipe_of(config.data, train=False), data.loader.clips.entries
    clips = VideoClips(entries, data.index.root, recipe, data.decoder, config.seed, shuffle=False)
    return HeldOut(clips, config.batch_size, max(config.batch_size, config.data.heldout_clips))


@torch.no_grad()
def measure(forecaster: Forecaster, config: JepaConfig, data: Videos) -> dict[str, Any]:
    """Fits the bridge and the quantiles of a forecaster. Returns what the metadata keep of them."""
    device, timeline, batches = forecaster.usual.device, forecaster.timeline, usual_clips(config, data)
    pairs, count = [], 0
    errors: dict[int, list[Tensor]] = {horizon: [] for horizon in range(1, timeline.soon + 1)}
    for batch in batches:
        clips = batch.to(device).clip
        pairs.append(forecaster.both(clips))
        for horizon, found in errors.items():
            windows = sum(timeline) - timeline.now - horizon + 1
            every = min(windows, max(1, windows * len(batches) * config.batch_size // WINDOWS))
            # each batch begins a tubelet later than the one before, so that all tubelets count
            apart = forecaster.deviation(clips, horizon, first=len(pairs) % every, every=every)
            found.append(worst(apart).flatten().cpu())
        count += len(clips)
    r2 = forecaster.bridge.fit(*(torch.cat(side) for side in zip(*pairs, strict=True)))
    usual = torch.stack([_quantiles(torch.cat(found)) for found in errors.values()])
    forecaster.usual.copy_(usual)
    source = "held out" if data.heldout else "training"
    return {
        "levels": [MEDIAN, HIGH],
        "error": usual.tolist(),
        "clips": count,
        "videos": source,
        "bridge_r2": r2,
    }


def _quantiles(errors: Tensor) -> Tensor:
    """The two levels of what is known of [N]; NaN where nothing is."""
    known, levels = errors[errors.isfinite()], torch.tensor([MEDIAN, HIGH])
    return torch.quantile(known, levels) if len(known) else levels.fill_(torch.nan)
