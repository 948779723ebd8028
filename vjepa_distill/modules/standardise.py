"""Standardised targets: teacher tokens on a common scale, by statistics that are estimated once, then frozen.

The affine kinds (``channel``, ``phi-s``, ``global``) fold into the distillation head's last Linear layer at
export, so that exported tokens are in the teacher's own units. PHI-S: Ranzinger et al., arXiv 2410.01680.
"""

from __future__ import annotations

import copy

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vjepa_distill.errors import UserError
from vjepa_distill.tokens import promote

EPSILON = 1e-6


class Moments:
    """Running count, sum and outer-product sum of tokens, in fp64."""

    def __init__(self, dim: int) -> None:
        self.count = torch.zeros((), dtype=torch.float64)
        self.sum = torch.zeros(dim, dtype=torch.float64)
        self.outer = torch.zeros(dim, dim, dtype=torch.float64)

    def add(self, tokens: Tensor) -> None:
        """Take in [..., D] tokens."""
        rows = tokens.detach().flatten(0, -2).double().cpu()
        self.count += len(rows)
        self.sum += rows.sum(dim=0)
        self.outer += rows.T @ rows

    def mean_and_covariance(self) -> tuple[Tensor, Tensor]:
        """The mean [D] and the covariance [D, D] of everything taken in."""
        mean = self.sum / self.count
        return mean, self.outer / self.count - torch.outer(mean, mean)


class Standardiser(nn.Module):
    """Maps teacher tokens x [..., D] to ((x - mean) @ rotation) * scale, or normalises every token by itself.

    Kinds: ``channel`` (each channel to variance 1), ``phi-s`` (rotated so that all channels share one
    variance, then one scale), ``global`` (one scale), ``layernorm`` (each token by itself; not affine),
    ``none``. ``mean_token`` is always estimated: predicting it everywhere is the floor that held-out scores
    are printed beside.
    """

    mean: Tensor
    rotation: Tensor
    scale: Tensor
    mean_token: Tensor

    def __init__(self, dim: int, kind: str = "channel") -> None:
        super().__init__()
        if kind not in KINDS:
            raise UserError(f"standardise={kind!r}: choose one of {', '.join(KINDS)}")
        self.kind = kind
        self.register_buffer("mean_token", torch.zeros(dim))
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("scale", torch.ones(dim))
        self.register_buffer("rotation", torch.eye(dim) if kind == "phi-s" else torch.zeros(0))

    @property
    def affine(self) -> bool:
        """Whether it folds into a Linear layer."""
        return self.kind != "layernorm"

    def fit(self, moments: Moments) -> None:
        """Set and freeze the statistics."""
        mean, covariance = moments.mean_and_covariance()
        rotation, scale = KINDS[self.kind](covariance)
        self.mean_token.copy_(mean)
        self.mean.copy_(mean if self.kind in ("channel", "phi-s", "global") else torch.zeros_like(mean))
        self.scale.copy_(scale)
        if self.rotation.numel():
            self.rotation.copy_(rotation)

    def forward(self, tokens: Tensor) -> Tensor:
        """Teacher units to standardised ones."""
        tokens = promote(tokens)
        if self.kind == "layernorm":
            return F.layer_norm(tokens, tokens.shape[-1:])
        centred = tokens - self.mean
        return (centred @ self.rotation if self.rotation.numel() else centred) * self.scale

    def inverse(self, tokens: Tensor) -> Tensor:
        """Standardised units back to the teacher's; the identity for ``layernorm``: that cannot be undone."""
        tokens = promote(tokens)
        return self._spread(tokens) + self.mean if self.affine else tokens

    def _spread(self, tokens: Tensor) -> Tensor:
        """The linear part of ``inverse``."""
        spread = tokens / self.scale
        return spread @ self.rotation.T if self.rotation.numel() else spread

    @torch.no_grad()
    def folded(self, last: nn.Linear) -> nn.Linear:
        """The Linear layer that emits the teacher's own units where ``last`` emits standardised tokens."""
        layer = copy.deepcopy(last)
        if self.affine:
            layer.weight.copy_(
                self._spread(last.weight.T).T
            )  # not inverse() - mean: small weights would drown in it
            layer.bias.copy_(self.inverse(last.bias))
        return layer


def _channel(covariance: Tensor) -> tuple[Tensor, Tensor]:
    return torch.zeros(0), covariance.diagonal().clamp_min(EPSILON).rsqrt()


def _global(covariance: Tensor) -> tuple[Tensor, Tensor]:
    variance = covariance.diagonal().mean().clamp_min(EPSILON)
    return torch.zeros(0), variance.rsqrt().expand(len(covariance))


def _phi_s(covariance: Tensor) -> tuple[Tensor, Tensor]:
    """Principal axes, then a Hadamard rotation: the variance of every channel is the eigenvalues' mean."""
    axes = torch.linalg.eigh(covariance).eigenvectors
    hadamard = torch.from_numpy(hadamard_matrix(len(covariance)))
    return axes @ hadamard.T, _global(covariance)[1]


def _nothing(covariance: Tensor) -> tuple[Tensor, Tensor]:
    return torch.zeros(0), torch.ones(len(covariance))


KINDS = {"channel": _channel, "phi-s": _phi_s, "global": _global, "layernorm": _nothing, "none": _nothing}


def _paley(prime: int) -> np.ndarray:
    """A Hadamard matrix of order prime + 1, for a prime that leaves 3 when divided by 4 (Paley 1933)."""
    squares = {i * i % prime for i in range(1, prime)}
    symbol = np.array([0] + [1 if i in squares else -1 for i in range(1, prime)])
    matrix = np.ones((prime + 1, prime + 1))
    matrix[1:, 1:] = symbol[(np.arange(prime)[None, :] - np.arange(prime)[:, None]) % prime] + np.eye(prime)
    matrix[1:, 0] = -1
    return matrix


def hadamard_matrix(order: int) -> np.ndarray:
    """An orthogonal matrix of entries ±1/√order, float64 [order, order].

    Built by doubling (Sylvester 1867) from order 1, 12, 20, 24 or 44; UserError for any other order.
    """
    for base, prime in ((1, 0), (12, 11), (20, 19), (24, 23), (44, 43)):
        ratio, rest = divmod(order, base)
        if rest == 0 and ratio & (ratio - 1) == 0:
            matrix = _paley(prime) if prime else np.ones((1, 1))
            while len(matrix) < order:
                matrix = np.block([[matrix, matrix], [matrix, -matrix]])
            return matrix / np.sqrt(order)
    raise UserError(
        f"phi-s needs a Hadamard matrix of order {order}, which is not at hand; use standardise: channel"
    )
