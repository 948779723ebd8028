"""What can be said of the next tubelets for nothing, and how far that or anything else is from what came."""

from __future__ import annotations

import torch
from torch import Tensor

from vjepa_distill.tokens import promote


def rivals(seen: Tensor, ahead: int, cells: int) -> dict[str, Tensor]:
    """What can be said of the next tubelets for nothing: by name, [B, ahead·cells, D].

    seen [B, n·cells, D]: tokens of tubelets that were seen. ``persistence`` says the last one again,
    ``linear`` goes on with the step between the last two (where there are two).
    """
    last = seen[:, -cells:]
    found = {"persistence": last.repeat(1, ahead, 1)}
    if seen.shape[1] >= 2 * cells:
        step = last - seen[:, -2 * cells : -cells]
        found["linear"] = torch.cat([last + step * number for number in range(1, ahead + 1)], dim=1)
    return found


def by_tubelet(z: Tensor, target: Tensor, cells: int) -> Tensor:
    """Mean absolute difference of [B, n·cells, D] for each of the n tubelets: [n]."""
    return (promote(z) - promote(target)).abs().unflatten(1, (-1, cells)).mean(dim=(0, 2, 3))
