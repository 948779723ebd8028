"""A call of a convolution or of attention as a value: its shapes, in words, and a small one of its kind.

Two rows stand for any number: others add work and, as far as was seen, no other kernel.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any, Protocol

import torch
from torch import Tensor

aten = torch.ops.aten

TRAFFIC = 20
"""Multiply-adds that are done in the time in which a number is read and written."""


class Call(Protocol):
    """What kernels are chosen by."""

    def words(self) -> str:
        """For a person: what it is, in the words of torch's documentation."""

    def smaller(self) -> Call:
        """One that takes less time, with the same rest at the end of every block; itself if there is none."""

    def work(self) -> float:
        """What the forward pass takes, in multiply-adds."""

    def run(self, dtype: torch.dtype) -> list[Tensor]:
        """Results and gradients of random numbers, each of them one of bf16's."""


@dataclass(frozen=True)
class Convolution:
    """``aten.convolution`` of [N, C, *space] and its gradients."""

    shape: tuple[int, ...]
    weight: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    transposed: bool
    output_padding: tuple[int, ...]
    groups: int
    channels_last: bool

    @staticmethod
    def of(x: Tensor, weight: Tensor, bias: Any, *rest: Any) -> Convolution:
        """From the arguments of ``aten.convolution``."""
        stride, padding, dilation, transposed, output_padding, groups = rest
        return Convolution(
            two_rows(x), tuple(weight.shape), tuple(stride), tuple(padding), tuple(dilation), transposed,
            tuple(output_padding), groups, channels_last(x),
        )  # fmt: skip

    @staticmethod
    def of_backward(grad: Tensor, x: Tensor, weight: Tensor, biases: Any, *rest: Any) -> Convolution:
        """From the arguments of ``aten.convolution_backward``: the call whose gradient it is."""
        return Convolution.of(x, weight, None, *rest[:-1])

    def words(self) -> str:
        inputs, outputs = (self.weight[0], self.weight[1] * self.groups) if self.transposed else (
            self.weight[1] * self.groups, self.weight[0]
        )  # fmt: skip
        kind = f"Conv{'Transpose' if self.transposed else ''}{len(self.stride)}d"
        groups = f", {self.groups} groups" if self.groups > 1 else ""
        kernel = f"kernel {times(self.weight[2:])}, stride {times(self.stride)}{groups}"
        return f"{kind}({inputs}, {outputs}, {kernel}) of {times(self.shape[2:])}"

    def smaller(self) -> Convolution:
        """Cut by sixteens, the longest axis first, none below 32; one row when that is done.

        Short axes stay: the weight gradient of a 3 x 7 x 7 kernel was wrong for 2 frames of any size and any
        number of rows, and right for 1, 3, 4, 8 and 16 (torch 2.15, AVX512-bf16 without AMX).
        """
        space = list(self.shape[2:])
        axis = max(range(len(space)), key=lambda i: space[i])
        if space[axis] < 48:
            return replace(self, shape=(1, *self.shape[1:]))
        space[axis] -= 16 * (space[axis] // 32)
        return replace(self, shape=(*self.shape[:2], *space))

    def work(self) -> float:
        places = prod(self.shape[2:]) / (1 if self.transposed else prod(self.stride))
        return self.shape[0] * places * prod(self.weight) + TRAFFIC * prod(self.shape)

    def run(self, dtype: torch.dtype) -> list[Tensor]:
        x, weight = noise(self.shape, 0), noise(self.weight, 1) / prod(self.weight[1:]) ** 0.5
        layout = {4: torch.channels_last, 5: torch.channels_last_3d}.get(x.ndim, torch.contiguous_format)
        x = x.to(memory_format=layout if self.channels_last else torch.contiguous_format)
        x, weight = x.to(dtype), weight.bfloat16().to(dtype)
        how = (self.stride, self.padding, self.dilation, self.transposed, self.output_padding, self.groups)
        made = aten.convolution(x, weight, None, *how)
        grad = noise(made.shape, 2).to(dtype)
        return [made, *aten.convolution_backward(grad, x, weight, None, *how, [True, True, False])[:2]]


@dataclass(frozen=True)
class Attention:
    """torch's fused attention on the CPU, of queries [B, heads, L, E], and its gradients."""

    query: tuple[int, ...]
    key: tuple[int, ...]
    value: tuple[int, ...]
    causal: bool
    mask: tuple[int, ...] | None

    @staticmethod
    def of(
        q: Tensor, k: Tensor, v: Tensor, dropout: float = 0.0, causal: bool = False, **more: Any
    ) -> Attention:
        """From the arguments of ``aten._scaled_dot_product_flash_attention_for_cpu``."""
        mask = more.get("attn_mask")
        if mask is not None:
            mask = two_rows(mask) if mask.shape[0] > 1 else tuple(mask.shape)
        return Attention(two_rows(q), two_rows(k), two_rows(v), causal, mask)

    @staticmethod
    def of_backward(grad: Tensor, q: Tensor, k: Tensor, v: Tensor, *rest: Any, **more: Any) -> Attention:
        """From the arguments of its backward pass: the call whose gradient it is."""
        return Attention.of(q, k, v, *rest[2:], **more)

    def words(self) -> str:
        rest = f" and {self.key[2]} keys" if self.key[2] != self.query[2] else ""
        return f"attention of {self.query[2]} tokens{rest}, {self.query[1]} heads of {self.query[3]}"

    def smaller(self) -> Attention:
        """One row, two heads, then fewer tokens by the kernel's blocks of 512."""
        if self.query[0] > 1 or self.query[1] > 2:
            heads = min(2, self.query[1]) if self.query[1] == self.key[1] else self.query[1]
            q, k, v = ((1, min(heads, part[1]), *part[2:]) for part in (self.query, self.key, self.value))
            mask = self.mask and (1, min(heads, self.mask[1]), *self.mask[2:])
            return Attention(q, k, v, self.causal, mask)
        long, wide = (n - 512 * ((n - 1) // 1024) if n > 1024 else n for n in (self.query[2], self.key[2]))
        lengths = ((self.query, long), (self.key, wide), (self.value, wide))
        q, k, v = ((*part[:2], n, part[3]) for part, n in lengths)
        mask = self.mask and (*self.mask[:2], min(long, self.mask[2]), min(wide, self.mask[3]))
        return Attention(q, k, v, self.causal, mask)

    def work(self) -> float:
        return 2.0 * prod(self.query) * self.key[2]

    def run(self, dtype: torch.dtype) -> list[Tensor]:
        # [B, L, heads, E] turned around, as a projection leaves it
        shapes = enumerate((self.query, self.key, self.value))
        turned = [noise((rows, length, heads, wide), i) for i, (rows, heads, length, wide) in shapes]
        q, k, v = (part.to(dtype).transpose(1, 2) for part in turned)
        more = {"attn_mask": None if self.mask is None else noise(self.mask, 3).to(dtype)}
        made, spread = aten._scaled_dot_product_flash_attention_for_cpu(q, k, v, 0.0, self.causal, **more)
        grad = noise(made.shape, 4).to(dtype)
        backward = aten._scaled_dot_product_flash_attention_for_cpu_backward
        return [made, *backward(grad, q, k, v, made, spread, 0.0, self.causal, **more)]


@dataclass(frozen=True)
class Product:
    """``aten.bmm`` of [N, m, k] and [N, k, n]: attention that is not fused."""

    left: tuple[int, ...]
    right: tuple[int, ...]

    @staticmethod
    def of(left: Tensor, right: Tensor) -> Product:
        """From the arguments of ``aten.bmm``."""
        return Product(two_rows(left), two_rows(right))

    @staticmethod
    def of_sum(added: Tensor, left: Tensor, right: Tensor, **more: Any) -> Product:
        """From the arguments of ``aten.baddbmm``."""
        return Product.of(left, right)

    def words(self) -> str:
        return f"bmm of {times(self.left[1:])} and {times(self.right[1:])}"

    def smaller(self) -> Product:
        """One row, then fewer by 64, the longest axis first."""
        if self.left[0] > 1:
            return Product((1, *self.left[1:]), (1, *self.right[1:]))
        sides = [*self.left[1:], self.right[2]]
        axis = max(range(3), key=lambda i: sides[i])
        if sides[axis] >= 192:
            sides[axis] -= 64 * (sides[axis] // 128)
        m, k, n = sides
        return Product((1, m, k), (1, k, n))

    def work(self) -> float:
        return float(prod(self.left) * self.right[2])

    def run(self, dtype: torch.dtype) -> list[Tensor]:
        left, right = noise(self.left, 0).to(dtype), noise(self.right, 1).to(dtype)
        made = aten.bmm(left, right)
        grad = noise(made.shape, 2).to(dtype)
        return [made, aten.bmm(grad, right.transpose(1, 2)), aten.bmm(left.transpose(1, 2), grad)]


WATCHED: dict[Any, Callable[..., Call]] = {
    aten.convolution.default: Convolution.of,
    aten.convolution_backward.default: Convolution.of_backward,
    aten._scaled_dot_product_flash_attention_for_cpu.default: Attention.of,
    aten._scaled_dot_product_flash_attention_for_cpu_backward.default: Attention.of_backward,
    aten.bmm.default: Product.of,
    aten.baddbmm.default: Product.of_sum,
}
"""The operations whose kernels are tried before they are trusted, and how a call of each is read."""


def two_rows(x: Tensor) -> tuple[int, ...]:
    """A shape, with two rows for however many there are."""
    return 2, *x.shape[1:]


def channels_last(x: Tensor) -> bool:
    """Whether the channels lie beside each other, for which there are other kernels."""
    return x.ndim > 2 and x.shape[1] > 1 and x.stride(1) == 1 and not x.is_contiguous()


def times(sizes: Sequence[int]) -> str:
    return " x ".join(map(str, sizes))


def noise(shape: Sequence[int], seed: int) -> Tensor:
    """Normal numbers that bf16 holds exactly, as fp32, without touching the global generator.

    A prime number of them, over and over: drawing as many as a large kernel has takes longer than its trial.
    """
    drawn = draw(seed)
    return drawn.repeat(prod(shape) // len(drawn) + 1)[: prod(shape)].view(*shape)


@functools.cache
def draw(seed: int) -> Tensor:
    return torch.randn(65521, generator=torch.Generator().manual_seed(seed)).bfloat16().float()
