"""Is a bf16 result right? Compared with the same operation on the same numbers in fp32."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map_only

# A right kernel rounds its result (2^-9 of it; 0.002 of a random one, measured) and, where it adds up pieces,
# every piece (0.008, oneDNN's data gradient of a 3 x 7 x 7 kernel with AVX2). Wrong ones: 0.7 and more.
ALLOWED = 0.05

ENDLESS = "does not end"
INFINITE = "is not finite"


def fault(low: Tensor, exact: Tensor) -> str:
    """What is wrong with a bf16 result, in words; "" where it is near the fp32 one, or this is not finite."""
    low, exact = low.float(), exact.float()
    size = exact.norm()
    if not bool(size.isfinite()):
        return ""  # then it is the numbers that went in
    if not bool(low.isfinite().all()):
        return INFINITE
    apart = ((low - exact).norm() / size.clamp_min(torch.finfo(torch.float32).tiny)).item()
    return f"is off by {100 * min(apart, 100.0):.0f} % of its size" if apart > ALLOWED else ""


def first_fault(low: Any, exact: Any) -> str:
    """The first fault among the results of an operation: a tensor, or several with None among them."""
    for one, other in zip(listed(low), listed(exact), strict=True):
        if one is not None and other is not None and one.is_floating_point() and (words := fault(one, other)):
            return words
    return ""


def finite(result: Any) -> bool:
    """Whether all floating-point numbers of a result are."""
    return all(bool(x.isfinite().all()) for x in tree_leaves(result) if floating(x))


def floating(x: Any) -> bool:
    return isinstance(x, Tensor) and x.is_floating_point()


def listed(result: Any) -> Sequence[Tensor | None]:
    return [result] if isinstance(result, Tensor) else result


def in_fp32(call: Any, args: Any, kwargs: Any) -> Any:
    """An operation on its bf16 numbers as fp32; the results stay in fp32."""

    def wider(tensor: Tensor) -> Tensor:
        return tensor.float() if tensor.dtype == torch.bfloat16 else tensor

    args, kwargs = tree_map_only(Tensor, wider, (args, kwargs))
    with torch.autocast("cpu", enabled=False):
        return call(*args, **kwargs)
