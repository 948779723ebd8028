"""Are the tokens well: effective rank, spread, dead channels and lengths, in all and at every tubelet."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from vjepa_distill.training.health import ROWS, effective_rank, per_dimension_std

DEAD = 0.01


def health(sample: Tensor) -> dict[str, Any]:
    """sample [N, t, s, D]: a few tokens of every tubelet of every clip.

    "rank": RankMe, of at most 2048 rows. "std": standard deviation over tokens, averaged over channels.
    "dead": how many channels have less than a hundredth of that. "norm": mean length. "positions": rank, std
    and norm of each tubelet's tokens alone, of at most 1024 rows.
    """
    rows = sample.flatten(0, 2)
    spread = rows.std(dim=0, correction=0)
    some = rows[:: max(1, len(rows) // ROWS)][:ROWS]
    places = [_of(tubelet.flatten(0, 1)[: ROWS // 2]) for tubelet in sample.unbind(1)]
    dead = int((spread <= DEAD * spread.mean()).sum())
    return {**_of(some), "dead": dead, "positions": places}


def _of(rows: Tensor) -> dict[str, float]:
    norm = rows.norm(dim=1).mean().item()
    return {"rank": effective_rank(rows), "std": per_dimension_std(rows), "norm": norm}


def sampled(tokens: Tensor, tubelets: int, clips: int, begin: int) -> Tensor:
    """Of tokens [B, L, D] so many of each tubelet that all clips together give about 1024: [B, t, s, D].

    Cells evenly apart, from another one in each clip; begin: how many clips came before.
    """
    cells = tokens.unflatten(1, (tubelets, -1))
    count = cells.shape[2]
    each = min(count, max(1, ROWS // 2 // clips))
    start = torch.arange(begin, begin + len(tokens), device=tokens.device)[:, None]
    at = (torch.arange(each, device=tokens.device) * count // each + start) % count
    return cells.gather(2, at[:, None, :, None].expand(-1, tubelets, -1, cells.shape[-1]))
