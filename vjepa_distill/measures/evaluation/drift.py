"""How far tokens went from those of the run it started from: cosine token by token, and linear CKA."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vjepa_distill.measures.evaluation.intervals import estimate, means
from vjepa_distill.protocols import Layered

ROWS = 4096
"""Tokens from which CKA is taken, over all clips."""


def layers_of(encoder: nn.Module) -> Callable[[Tensor], list[Tensor]]:
    """What gives the tokens of an encoder's layers, the output last; of one that offers none, that alone."""
    if isinstance(encoder, Layered):
        return encoder.layer_tokens
    return lambda clip: [encoder(clip)]


class Drift:
    """Gathers the tokens of two encoders on the same clips, layer by layer."""

    def __init__(self, clips: int) -> None:
        self.each = max(1, ROWS // clips)
        self.cosines: dict[str, list[Tensor]] = {}
        self.rows: dict[str, list[tuple[Tensor, Tensor]]] = {}

    def add(self, these: list[Tensor], those: list[Tensor]) -> None:
        """Both [B, L, D_i] for each layer; all compared where both offer as many, else the outputs."""
        pairs = list(zip(these, those, strict=True)) if len(these) == len(those) else [(these[-1], those[-1])]
        for number, (x, y) in enumerate(pairs, 1):
            if x.shape[1] != y.shape[1]:
                continue  # other grids: no token has its like
            name = "last" if number == len(pairs) else str(number)
            x, y = x.float(), y.float()
            if x.shape == y.shape:
                self.cosines.setdefault(name, []).append(F.cosine_similarity(x, y, dim=-1).mean(dim=1).cpu())
            some = torch.linspace(0, x.shape[1] - 1, min(self.each, x.shape[1])).long().to(x.device)
            self.rows.setdefault(name, []).append(
                (x[:, some].flatten(0, 1).cpu(), y[:, some].flatten(0, 1).cpu())
            )

    def record(self, files: list[str], groups: np.ndarray) -> list[dict[str, Any]] | None:
        """[{"layer", "cosine": an estimate or None where widths differ, "cka"}]; None of other grids."""
        found: list[dict[str, Any]] = []
        for name, rows in self.rows.items():
            near = self.cosines.get(name)
            x, y = (torch.cat(side) for side in zip(*rows, strict=True))
            cosine = estimate(means(files, groups, torch.cat(near).numpy())) if near else None
            found.append({"layer": name, "cosine": cosine, "cka": linear_cka(x, y)})
        return found or None


def linear_cka(x: Tensor, y: Tensor) -> float:
    """Linear CKA of [N, D] and [N, E] (Kornblith et al. 2019, arXiv 1905.00414): 1 for the same up to a
    rotation and a scale, 0 where nothing linear is shared.
    """
    x, y = (side.double() - side.double().mean(dim=0) for side in (x, y))
    own = (x.T @ x).norm() * (y.T @ y).norm()
    return ((x.T @ y).square().sum() / own.clamp_min(1e-30)).item()
