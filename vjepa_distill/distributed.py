"""Many processes as one: set-up under torchrun, a gather with gradient, decisions that all ranks share."""

from __future__ import annotations

import inspect
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn

# Rank 0 may index a large folder while the others wait: gloo's and NCCL's own limits (30 and 10 minutes)
# would cut that off.
PATIENCE = timedelta(hours=2)


class Ranks(NamedTuple):
    """Which process this is (rank, local on its machine) and how many there are (world)."""

    rank: int = 0
    world: int = 1
    local: int = 0


@contextmanager
def process_group(device: str | torch.device) -> Iterator[Ranks]:
    """Joins the group that torchrun describes (gloo on CPU, NCCL on CUDA); without torchrun, alone."""
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        yield Ranks()
        return
    ranks = Ranks(*(int(os.environ.get(name, 0)) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK")))
    cuda = torch.device(device).type == "cuda"
    if cuda:
        torch.cuda.set_device(ranks.local)
    dist.init_process_group("nccl" if cuda else "gloo", timeout=PATIENCE)
    try:
        yield ranks
    finally:
        dist.destroy_process_group()
        # gloo's thread drops the last collective after it is done, which takes the interpreter's lock. If the
        # process ends first, it aborts (exit code 134, in 4 of 55 short DDP runs with torch 2.15): give way.
        time.sleep(0.2)


def active() -> bool:
    """Whether this process belongs to a group; without one every function below is the identity."""
    return dist.is_available() and dist.is_initialized()


def rank() -> int:
    """This process's number, 0 alone."""
    return dist.get_rank() if active() else 0


def world() -> int:
    """How many processes there are, 1 alone."""
    return dist.get_world_size() if active() else 1


class _Gather(torch.autograd.Function):
    """All rows of all ranks; each rank's loss sends gradient back to the rows' owner, where it is summed."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.rows = x.shape[0]
        return gather(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        # Half precision is summed in fp32: the ranks' terms cancel, and a bf16 sum rounds at every hop.
        total = grad.float() if grad.dtype in (torch.bfloat16, torch.float16) else grad.clone()
        total = total.contiguous()
        dist.all_reduce(total)
        start = rank() * ctx.rows
        return total[start : start + ctx.rows].to(grad.dtype)


def gather_with_grad(x: Tensor) -> Tensor:
    """[b, ...] of each rank -> [world*b, ...] in rank order; gradients are summed over ranks. One b for all.

    With each rank's loss a mean over its own b rows, DDP's averaging of parameter gradients then gives
    exactly the gradient of the mean over all world*b rows.
    """
    return _Gather.apply(x) if active() else x


def gather(x: Tensor) -> Tensor:
    """[b, ...] of each rank -> [world*b, ...] in rank order, without gradient."""
    if not active():
        return x
    x = x.detach().contiguous()
    parts = [torch.empty_like(x) for _ in range(world())]
    dist.all_gather(parts, x)
    return torch.cat(parts)


def own_rows(rows: int, device: torch.device | None = None) -> Tensor:
    """Where this rank's rows lie among the gathered ones: int64 [rows]."""
    return torch.arange(rows, device=device) + rank() * rows


def all_mean(x: Tensor) -> Tensor:
    """Mean of a floating tensor over the ranks, without gradient."""
    if not active():
        return x
    total = x.detach().clone()
    dist.all_reduce(total)
    return total / world()


def all_true(flag: bool) -> bool:
    """Whether the flag is true on every rank."""
    return not any_true(not flag)


def any_true(flag: bool) -> bool:
    """Whether the flag is true on at least one rank."""
    if not active():
        return bool(flag)
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    vote = torch.tensor(int(bool(flag)), device=device)
    dist.all_reduce(vote, op=dist.ReduceOp.MAX)
    return bool(vote.item())


def broadcast_object(value: Any) -> Any:
    """Rank 0's value (anything picklable), on every rank."""
    if not active():
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def gather_object(value: Any) -> list[Any]:
    """Every rank's value in rank order, on every rank; [value] alone."""
    if not active():
        return [value]
    values: list[Any] = [None] * world()
    dist.all_gather_object(values, value)
    return values


def barrier() -> None:
    """Waits until every rank is here."""
    if active():
        dist.barrier()


def wrap(stage: nn.Module, device: str | torch.device, compile: bool = False) -> Callable[..., Any]:
    """What the loop calls instead of the stage: its parts compiled if asked, inside DDP if there are ranks.

    Parts are compiled and not the stage: masks are drawn by NumPy between them. Unused parameters are not
    searched for: a backbone with one fails its contract. Buffers are not broadcast at every step: nothing
    here depends on rank 0's batch statistics.
    """
    if compile:
        for part in (p for name, p in stage.named_children() if name != "objectives"):
            for module in part.values() if isinstance(part, nn.ModuleDict) else [part]:
                module.compile()  # in place, so that state_dict keeps its names
    if not active():
        return stage
    cuda = torch.device(device).type == "cuda"
    ddp = nn.parallel.DistributedDataParallel
    names = ("forward_sync_buffers", "broadcast_buffers")  # since torch 2.14, and before
    sync = next(name for name in names if name in inspect.signature(ddp).parameters)
    buffers: dict[str, Any] = {sync: False}
    return ddp(
        stage,
        device_ids=[torch.cuda.current_device()] if cuda else None,
        find_unused_parameters=False,
        gradient_as_bucket_view=True,
        **buffers,
    )
