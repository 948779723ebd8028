"""A linear way from tokens that were foretold back to tokens that a predictor can read."""

from __future__ import annotations

import torch
from torch import Tensor, nn

RIDGE = 1e-3
"""Strength of the penalty, as a share of the mean variance of what is read."""


class Bridge(nn.Linear):
    """The least-squares map from the targets' space [..., D'] to the student's [..., D].

    A predictor reads the student's tokens and says the teacher's, layer-normed: where its words are to be its
    next context they must be translated. The two are tokens of the same places, so that a map can be fitted.
    """

    @torch.no_grad()
    def fit(self, said: Tensor, read: Tensor) -> float:
        """said [N, K, D'] and read [N, K, D] of the same places of N clips. Returns R².

        R² is that of the map from the even rows on the odd ones; with one row it is that of the fit itself.
        """
        halves = (slice(0, None, 2), slice(1 if len(said) > 1 else 0, None, 2))
        (x, y), (other, due) = ((said[half].flatten(0, 1), read[half].flatten(0, 1)) for half in halves)
        weight, bias = _solved(x, y)
        apart = (due.double() - other.double() @ weight - bias).square().sum()
        around = (due.double() - due.double().mean(dim=0)).square().sum().clamp_min(1e-12)
        weight, bias = _solved(said.flatten(0, 1), read.flatten(0, 1))
        self.weight.copy_(weight.T)
        self.bias.copy_(bias)
        return float(1 - apart / around)


def _solved(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Ridge regression in fp64: weight [D', D] and bias [D]."""
    x, y = x.double(), y.double()
    mean, level = x.mean(dim=0), y.mean(dim=0)
    apart = x - mean
    power = apart.T @ apart
    penalty = (RIDGE * power.diagonal().mean()).clamp_min(1e-12)
    power = power + penalty * torch.eye(len(power), dtype=power.dtype, device=power.device)
    weight = torch.linalg.solve(power, apart.T @ (y - level))
    return weight, level - mean @ weight
