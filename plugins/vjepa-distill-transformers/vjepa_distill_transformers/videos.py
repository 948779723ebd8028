"""Video models: V-JEPA 2 and VideoMAE; only the kept tokens are encoded, at any size."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from vjepa_distill import Grid, resample, take

from vjepa_distill_transformers.encoder import Encoder

SIDE = 4096
"""Rows and columns that V-JEPA 2's position numbers leave room for."""


class VJEPA2(Encoder):
    """The encoder of V-JEPA 2 (Assran et al. 2025), without its predictor.

    The library counts a token's place from one number, in base `crop_size / patch_size`: right for one square
    size. Built with a crop of `SIDE` patches and given each token's number in that base, it finds the true
    (t, h, w) of any token at any size, and of a part of them.
    """

    def forward(self, clip: Tensor, keep: Tensor | None = None) -> Tensor:
        """clip [B, 3, T, H, W] in [0, 1], keep [B, K] or None -> tokens [B, K or L, D]."""
        grid = self.grid(*clip.shape[2:])
        encoder = self.model.encoder
        x = encoder.embeddings(self.normalised(clip).transpose(1, 2))
        places = numbers(grid, clip.device)
        if keep is not None:
            x, places = take(x, keep), places[0][keep]
        for layer in encoder.layer:
            x = layer(x, places)[0]
        return encoder.layernorm(x)


def numbers(grid: Grid, device: torch.device) -> Tensor:
    """int64 [1, L]: t, h and w of every token as one number in base `SIDE`."""
    t, h, w = (torch.arange(n, device=device) for n in grid)
    return ((t.view(-1, 1, 1) * SIDE + h.view(-1, 1)) * SIDE + w).flatten().unsqueeze(0)


class VideoMAE(Encoder):
    """VideoMAE (Tong et al. 2022). `norm`: its last norm, which fine-tuned ones apply to the mean token.

    Its positions are a fixed table over the tokens of one size; other sizes get it resampled.
    """

    table: Tensor

    def __init__(self, model: Any, norm: Any, trained: Grid, *args: Any) -> None:
        super().__init__(model, *args)
        self.norm = norm
        self.trained = trained
        self.register_buffer("table", model.embeddings.position_embeddings.detach().clone(), persistent=False)

    def forward(self, clip: Tensor, keep: Tensor | None = None) -> Tensor:
        """clip [B, 3, T, H, W] in [0, 1], keep [B, K] or None -> tokens [B, K or L, D]."""
        grid = self.grid(*clip.shape[2:])
        projection = self.model.embeddings.patch_embeddings.projection
        x = projection(self.normalised(clip)).flatten(2).transpose(1, 2)
        x = x + resample(self.table, self.trained, grid).to(x.dtype)
        if keep is not None:
            x = take(x, keep)
        return self.norm(self.model.encoder(x).last_hidden_state)
