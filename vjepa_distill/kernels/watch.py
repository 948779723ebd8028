"""Modes that stand between autocast and the kernels: one that avoids wrong ones, one that finds them."""

from __future__ import annotations

from collections.abc import Callable
from math import isfinite
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from vjepa_distill.kernels.aside import Aside, EndlessError
from vjepa_distill.kernels.calls import WATCHED, Call
from vjepa_distill.kernels.judge import ENDLESS, finite, first_fault, floating, in_fp32, listed

aten = torch.ops.aten

COMPARED = {
    *WATCHED,
    aten.mm.default,
    aten.addmm.default,
    aten.native_layer_norm.default,
    aten.native_layer_norm_backward.default,
    aten.native_group_norm.default,
    aten.native_group_norm_backward.default,
    aten.native_batch_norm.default,
    aten.native_batch_norm_backward.default,
    aten._softmax.default,
    aten._softmax_backward_data.default,
    aten.gelu.default,
    aten.gelu_backward.default,
}
"""What a comparison computes twice; all of them give the same for the same numbers, and change none."""


WHOLE = {
    overload
    for packet in (
        *(getattr(aten, f"conv{kind}{n}d") for kind in ("", "_transpose") for n in (1, 2, 3)),
        aten.scaled_dot_product_attention,
        aten.matmul,
        aten.linear,
    )
    for overload in (getattr(packet, name) for name in packet.overloads() if name != "out")
}
"""What torch.inference_mode hands over as it was called, and not as the operations that it is made of."""


class Between(TorchDispatchMode):
    """Takes operations apart that come as a whole, and leaves the rest to `one`.

    torch's fused transformer layer, which inside such a mode would run without autocast, is left out.
    """

    def __init__(self) -> None:
        super().__init__()
        self.fused: list[bool] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func not in WHOLE:
            return self.one(func, args, kwargs or {})
        with self:
            return func.decompose(*args, **(kwargs or {}))

    def one(self, func: Any, args: Any, kwargs: Any) -> Any:
        """The result of an operation."""
        raise NotImplementedError

    def __enter__(self) -> Any:
        self.fused.append(torch.backends.mha.get_fastpath_enabled())
        torch.backends.mha.set_fastpath_enabled(False)
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        torch.backends.mha.set_fastpath_enabled(self.fused.pop())


class Detour(Between):
    """Computes in fp32 the calls whose bf16 kernel is wrong, forward and backward, and leaves the rest alone.

    made: is handed every call, a function that makes it, and one that makes it in fp32; gives the result, or
        None for a wrong kernel.
    """

    def __init__(self, made: Callable[[Call, Callable[[], Any], Callable[[], Any]], Any]) -> None:
        super().__init__()
        self.made = made

    def one(self, func: Any, args: Any, kwargs: Any) -> Any:
        read = WATCHED.get(func)
        # What is not finite already can give nothing else, in bf16 and in fp32.
        if read is None or not lower(args[0]) or not finite(args[:3]):
            return func(*args, **kwargs)
        made = self.made(
            read(*args, **kwargs), lambda: func(*args, **kwargs), lambda: in_fp32(func, args, kwargs)
        )
        return by_fp32(func, args, kwargs) if made is None else made


class Comparison(Between):
    """Computes every bf16 operation in fp32, too, and goes on with this result where the other is wrong.

    where: names the module that is at work.
    """

    def __init__(self, where: Callable[[], str]) -> None:
        super().__init__()
        self.where, self.aside = where, Aside()
        self.wrong: list[str] = []
        """Operations whose bf16 kernel is wrong, in words, in the order met."""
        self.overflow = ""
        """The first operation that gave what is not finite from what is, in fp32 as well."""

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self.aside.close()

    def one(self, func: Any, args: Any, kwargs: Any) -> Any:
        compared = func in COMPARED and any(lower(x) for x in tree_leaves((args, kwargs)))
        made = self.right(func, args, kwargs) if compared else func(*args, **kwargs)
        if not self.overflow and breaks(made, (args, kwargs)):
            self.overflow = f"{func.overloadpacket.__name__}{self.place()}"
        return made

    def right(self, func: Any, args: Any, kwargs: Any) -> Any:
        """The bf16 result where it is right, else the fp32 one, as bf16."""
        name = self.name(func, args, kwargs)
        work = WATCHED[func](*args, **kwargs).work() if func in WATCHED else 0.0
        try:
            made = self.aside.do(lambda: func(*args, **kwargs), name, work)
        except EndlessError:
            self.wrong.append(f"{name} {ENDLESS}")
            return by_fp32(func, args, kwargs)
        exact = in_fp32(func, args, kwargs)
        if not (words := first_fault(made, exact)):
            return made
        self.wrong.append(f"{name} {words}")
        pairs = zip(listed(made), listed(exact), strict=True)
        right = [one if one is None or other is None else other.to(one.dtype) for one, other in pairs]
        return right[0] if isinstance(made, Tensor) else tuple(right)

    def name(self, func: Any, args: Any, kwargs: Any) -> str:
        name = func.overloadpacket.__name__
        told = WATCHED[func](*args, **kwargs).words() if func in WATCHED else name
        gradient = "the gradient of " if name.endswith("_backward") and told != name else ""
        return f"{gradient}{told}{self.place()}"

    def place(self) -> str:
        return f" in {self.where()}" if self.where() else ""


def by_fp32(func: Any, args: Any, kwargs: Any) -> Any:
    """What a watched operation gives of bf16 numbers, computed in fp32 and rounded to bf16."""
    made = in_fp32(func, args, kwargs)
    if func is aten._scaled_dot_product_flash_attention_for_cpu.default:
        return made[0].bfloat16(), made[1]  # the second, for the gradient, is fp32 for bf16, too
    return tree_map_only(Tensor, Tensor.bfloat16, made)


def lower(x: Any) -> bool:
    return isinstance(x, Tensor) and x.dtype == torch.bfloat16


def breaks(made: Any, given: Any) -> bool:
    """Whether what is not finite came of what is. A mask of -inf is written as such, and no fault."""
    if finite(made):
        return False
    leaves = tree_leaves(given)
    said = all(isfinite(x) for x in leaves if isinstance(x, float))
    return said and any(floating(x) for x in leaves) and finite(given)
