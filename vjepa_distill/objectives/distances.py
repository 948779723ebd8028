"""Distances between predicted and target tokens, each a mean over all tokens in at least fp32."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from vjepa_distill.tokens import promote


def l1(z: Tensor, target: Tensor) -> Tensor:
    """Mean absolute difference of [B, M, D] and [B, M, D]."""
    return (promote(z) - promote(target)).abs().mean()


def mse(z: Tensor, target: Tensor) -> Tensor:
    """Mean squared difference."""
    return (promote(z) - promote(target)).square().mean()


def smooth_l1(z: Tensor, target: Tensor) -> Tensor:
    """Huber loss with its corner at 1."""
    return F.smooth_l1_loss(promote(z), promote(target))


def cosine(z: Tensor, target: Tensor) -> Tensor:
    """1 - cosine similarity, per token."""
    return 1 - F.cosine_similarity(promote(z), promote(target), dim=-1).mean()


def cosine_smooth_l1(z: Tensor, target: Tensor) -> Tensor:
    """0.9 · cosine + 0.1 · smooth-L1, the best plain mixture in PHI-S (Ranzinger, arXiv 2410.01680)."""
    return 0.9 * cosine(z, target) + 0.1 * smooth_l1(z, target)


DISTANCES = {
    "cosine+smooth_l1": cosine_smooth_l1,
    "cosine": cosine,
    "smooth_l1": smooth_l1,
    "l1": l1,
    "mse": mse,
}
