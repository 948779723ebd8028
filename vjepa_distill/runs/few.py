"""A few clips out of many, and a few frames of each: what is shown stands for the rest."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from vjepa_distill.data.clips import VideoClips
from vjepa_distill.data.loader import collate
from vjepa_distill.protocols import Batch


def spread(total: int, count: int) -> list[int]:
    """So many of the positions below total, evenly spread, each once."""
    return sorted({round(place) for place in np.linspace(0, total - 1, min(count, total))})


def read(clips: VideoClips, positions: Sequence[int], on: torch.device) -> Batch:
    """The clips at these positions as one batch, float in [0, 1]."""
    return collate([clips[position] for position in positions]).to(on)


def frames(clip: Tensor, places: Sequence[int]) -> np.ndarray:
    """Of clips [..., 3, T, H, W] in [0, 1] the frames at these places: uint8 [..., n, H, W, 3]."""
    pictures = clip[..., list(places), :, :].mul(255).round().byte()
    return pictures.movedim(-4, -1).cpu().numpy()
