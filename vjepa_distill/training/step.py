"""The training step of both stages: knows "a stage", never which. The loop around it is in ``loop.py``."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import reduce
from typing import NamedTuple

import torch
from torch import Tensor, nn

from vjepa_distill.distributed import all_mean, all_true
from vjepa_distill.protocols import Batch, Stage
from vjepa_distill.training.optim import parameters

Losses = dict[str, Tensor]


class Diverged(RuntimeError):
    """A loss or a gradient is not finite; nothing was updated."""


class Outcome(NamedTuple):
    """What one update did."""

    losses: Losses
    """Unweighted, of the last batch."""
    norm: float
    """Of the gradient, before clipping."""
    stepped: bool
    """False where fp16 overflowed: the loss scale was lowered, and weights, schedules and teacher waited."""


def train_step(
    forward: Callable[[Batch], Losses],
    stage: Stage,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    batches: Sequence[Batch],
    weights: Mapping[str, float],
    clip: float | None,
    autocast: Callable[[], AbstractContextManager],
    step: int,
    judge: Callable[[float], None] | None = None,
) -> Outcome:
    """One update of the weights from one or more batches; ``forward`` is the stage, or DDP around it.

    judge: is handed the weighted loss, the mean over batches and ranks, and may raise to prevent the update.
    Raises Diverged, on every rank alike and before anything is updated.
    """
    optimizer.zero_grad(set_to_none=True)
    whole: list[Tensor] = []
    for number, batch in enumerate(batches, start=1):
        with synchronised(forward, last=number == len(batches)):
            with autocast():
                losses = forward(batch)
            total = reduce(torch.add, [weights[name] * loss for name, loss in losses.items()])
            stop_unless_finite(losses)
            scaler.scale(total / len(batches)).backward()
            whole.append(total.detach())
    if judge:
        judge(float(all_mean(torch.stack(whole).mean())))
    scaler.unscale_(optimizer)
    # the gradient's norm needs no vote: DDP has averaged it, every rank has the same
    norm = float(nn.utils.clip_grad_norm_(parameters(optimizer), clip or math.inf))
    if not math.isfinite(norm) and not scaler.is_enabled():
        raise Diverged(f"the gradient at step {step} is not finite (norm {norm}), though every loss is")
    scaler.step(optimizer)
    scaler.update()
    if math.isfinite(norm):
        stage.after_step(step)
    else:
        stage.skip_step()
    return Outcome({name: loss.detach() for name, loss in losses.items()}, norm, math.isfinite(norm))


def synchronised(forward: Callable, last: bool) -> AbstractContextManager:
    """DDP averages gradients in the last of the accumulated backward passes alone."""
    return nullcontext() if last or not hasattr(forward, "no_sync") else forward.no_sync()


def stop_unless_finite(losses: Losses) -> None:
    """Every rank votes before any goes on, so that none is left waiting in a collective."""
    bad = [name for name, loss in losses.items() if not bool(torch.isfinite(loss))]
    if not all_true(not bad):
        raise Diverged(f"not finite: {', '.join(bad) or 'a loss on another rank'}")
