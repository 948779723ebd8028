"""What a stage finds in held-out clips beside its losses, and what all that is worth in one number."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from vjepa_distill.protocols import Backbone, Batch
from vjepa_distill.tokens import promote

NOISE = 1e-5
"""A difference of two mean tokens below this share of their length is rounding, and none."""
RIDGE = 1.0
"""Strength of the ridge, as a share of the differences' mean energy."""


class BothWays(NamedTuple):
    """The mean tokens of some clips, played forward and backward."""

    forward: Tensor
    """[B, D]"""
    backward: Tensor
    """[B, D]"""
    video: Tensor
    """int64 [B]: which video each is from."""


def both_ways(encoder: Backbone, batch: Batch) -> BothWays:
    """The mean over all tokens of every clip, and of the same clip reversed in time."""
    forward, backward = (promote(encoder(clip)).mean(dim=1) for clip in (batch.clip, batch.clip.flip(2)))
    return BothWays(forward, backward, batch.video)


def direction_of_play(clips: Sequence[BothWays]) -> float:
    """How often a clip is told from itself reversed by a linear reading of its mean token; chance is 0.5.

    Paired: one weight vector w is fitted so that w · (forward - backward) is 1, by ridge regression in closed
    form, and a clip counts as told where that is above 0, judged by the w of all *other* videos (leave one
    group out, from the residuals of the one fit: Hastie, Tibshirani & Friedman 2009, section 7.10). A tie
    counts one half: an encoder that averages time away is at 0.5 exactly, and so is a single video. NaN where
    a token is no number.
    """
    forward, backward = (torch.cat([one[way] for one in clips]).double().cpu() for way in (0, 1))
    video = torch.cat([one.video for one in clips]).cpu()
    apart = forward - backward
    length = torch.maximum(forward.norm(dim=1), backward.norm(dim=1))
    apart[apart.norm(dim=1) <= NOISE * length] = 0
    energy = apart.square().sum(dim=1).mean()
    if not energy.isfinite():
        return math.nan
    if energy == 0:
        return 0.5
    said = _left_out(apart, video, RIDGE * energy)
    return torch.where(said.abs() <= 1e-9, 0.5, (said > 0).double()).mean().item()


def _left_out(x: Tensor, group: Tensor, ridge: Tensor) -> Tensor:
    """For each row of [N, D] what a ridge fit of 1 on all rows of other groups says of it: [N]."""
    rows, width = x.shape
    small = x @ x.T if rows < width else x.T @ x
    small.diagonal().add_(ridge)
    weights = torch.linalg.solve(small, x).T if rows < width else torch.linalg.solve(small, x.T)  # [D, N]
    fitted, said = x @ weights.sum(dim=1), torch.zeros(rows, dtype=x.dtype)
    for one in group.unique():
        here = group == one
        hat = x[here] @ weights[:, here]
        said[here] = torch.linalg.solve(
            torch.eye(len(hat), dtype=x.dtype) - hat, fitted[here] - hat.sum(dim=1)
        )
    return said


def merits(scores: Mapping[str, float]) -> dict[str, float]:
    """The parts of one score, each 0 at its trivial rival or at chance and 1 where it is perfect.

    now, soon: their skill · eventually: retrieval above chance, as a share of what is above it · rank: as a
    share of that at the first evaluation, at most 1 · direction of play: above its chance, likewise. Those
    whose scores are there; none counts for less than -1, so that one bad beginning does not hide the others.
    NaN stays NaN.
    """
    found: dict[str, float] = {}
    for name in ("now/skill", "soon/skill"):
        if name in scores:
            found[name] = scores[name]
    if "eventually/retrieval" in scores:
        chance = scores["eventually/chance"]
        found["eventually"] = (scores["eventually/retrieval"] - chance) / max(1 - chance, 1e-9)
    if "rank_kept" in scores:
        found["rank"] = scores["rank_kept"]
    if "direction" in scores:
        found["direction"] = 2 * scores["direction"] - 1
    return {name: value if math.isnan(value) else max(-1.0, value) for name, value in found.items()}
