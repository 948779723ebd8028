"""A trial of a call's kernel: a small one of its kind on random numbers, in bf16 and in fp32."""

from __future__ import annotations

import torch

from vjepa_distill.kernels.calls import Call
from vjepa_distill.kernels.judge import first_fault

SCRATCH = [2**n for n in range(8, 21)]
"""Numbers in the blocks of memory that are spoiled: 1 KiB to 4 MiB."""


@torch.no_grad()
def fault_of(call: Call, work: float) -> str:
    """What is wrong with the bf16 results or gradients of such a call on this processor; "" if nothing is.

    work: what the trial may take, in multiply-adds; a larger call is cut to it.
    """
    call = cut(call, work)
    spoil()
    low = call.run(torch.bfloat16)
    return first_fault(low, call.run(torch.float32))


def cut(call: Call, work: float) -> Call:
    """A call of the same kind with no more work than this, or with as little as its kind allows."""
    while call.work() > work:
        smaller = call.smaller()
        if smaller == call:
            break
        call = smaller
    return call


def spoil() -> None:
    """Leave NaN in the memory that is handed out next.

    The wrong kernels seen so far read memory that they never wrote: right by luck where it happens to be 0.
    """
    # All are held until the last one is made, or one block would be spoiled again and again.
    [torch.full((size,), torch.nan) for size in SCRATCH]
