"""Linear maps of quaternions: a quarter of the parameters of a real layer, at the speed of one matmul.

A vector of D real numbers is D / 4 quaternions r + x i + y j + z k, the four parts of each side by side.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# HAMILTON[c] is the 4 x 4 matrix that multiplies a quaternion from the left by the c-th of 1, i, j, k.
HAMILTON = torch.tensor(
    [
        [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]],
        [[0, -1, 0, 0], [1, 0, 0, 0], [0, 0, 0, -1], [0, 0, 1, 0]],
        [[0, 0, -1, 0], [0, 0, 0, 1], [1, 0, 0, 0], [0, -1, 0, 0]],
        [[0, 0, 0, -1], [0, 0, -1, 0], [0, 1, 0, 0], [1, 0, 0, 0]],
    ],
    dtype=torch.float32,
)


class QuaternionLinear(nn.Module):
    """y_o = sum over n of w_on ⊗ x_n + b_o, ⊗ the Hamilton product (Parcollet et al. 2019, arXiv 1806.04418).

    Args:
        inputs: quaternions in; a call takes [..., 4 * inputs] real numbers, or [..., 3 * inputs] when `pure`.
        outputs: quaternions out; a call returns [..., 4 * outputs] real numbers.
        pure: the inputs have no real part, as colours have not: three numbers each, i, j and k.
    """

    def __init__(self, inputs: int, outputs: int, pure: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(quaternions(outputs, inputs))
        self.bias = nn.Parameter(torch.zeros(4 * outputs))
        self.register_buffer("hamilton", HAMILTON[:, :, 1:] if pure else HAMILTON, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """[..., 4 * inputs] -> [..., 4 * outputs]."""
        return F.linear(x, self.matrix(), self.bias)

    def matrix(self) -> Tensor:
        """The real matrix [4 * outputs, 4 * inputs] that the layer amounts to.

        16 products of small matrices, as the papers write it, cost four times one product of this one.
        """
        return torch.einsum("onc,cab->oanb", self.weight, self.hamilton).flatten(2).flatten(0, 1)


def quaternions(outputs: int, inputs: int) -> Tensor:
    """Random weights [outputs, inputs, 4] that keep the variance (Gaudet & Maida 2018, arXiv 1712.04604).

    In polar form: a modulus from the chi distribution with 4 degrees of freedom scaled to Glorot's variance
    1 / (2 (inputs + outputs)), a uniform angle, and an imaginary axis of uniform direction.
    """
    sigma = 1 / math.sqrt(2 * (inputs + outputs))
    modulus = torch.randn(outputs, inputs, 4).norm(dim=-1, keepdim=True) * sigma
    angle = (torch.rand(outputs, inputs, 1) * 2 - 1) * math.pi
    axis = F.normalize(torch.randn(outputs, inputs, 3), dim=-1)
    return modulus * torch.cat([angle.cos(), axis * angle.sin()], dim=-1)
