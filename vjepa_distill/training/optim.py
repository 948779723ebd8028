"""What turns a gradient into an update: AdamW and its parameter groups, mixed precision."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import torch
from torch import Tensor, nn


def parameters(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """All that the optimizer updates."""
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def make_optimizer(
    stage: nn.Module, betas: tuple[float, float], decay: float, decay_all: bool, student: float = 1.0
) -> torch.optim.AdamW:
    """Fused AdamW over all that takes a gradient; matrices decay, norms, biases, positions, tokens do not.

    student: the rate of the stage's student as a share of all other parts' (discriminative fine-tuning,
    Howard & Ruder 2018): an encoder that knows something should not follow a predictor that does not yet.
    """
    groups: dict[tuple[float, float], list[Tensor]] = {}
    for name, parameter in stage.named_parameters():
        if parameter.requires_grad:
            decays = decay if decay_all or not _spared(name, parameter) else 0.0
            share = student if name.startswith("student.") else 1.0
            groups.setdefault((decays, share), []).append(parameter)
    ordered = sorted(groups.items(), key=lambda group: group[0], reverse=True)
    listed = [{"params": members, "weight_decay": d, "scale": share} for (d, share), members in ordered]
    return torch.optim.AdamW(listed, lr=0.0, betas=betas, fused=True)


def _spared(name: str, parameter: Tensor) -> bool:
    leaf = name.rsplit(".", 1)[-1]
    return parameter.ndim < 2 or any(word in leaf for word in ("token", "queries", "pos_embed", "position"))


Guarding = Callable[[str], AbstractContextManager]
"""A context around everything of one kind, such as a step, that keeps wrong kernels out."""


def trusting(what: str) -> AbstractContextManager:
    """No guard: every kernel is taken to be right."""
    return nullcontext()


class Precision(NamedTuple):
    """How matrix products are computed: a context for the forward pass, a loss scaler (idle but for fp16)."""

    autocast: Callable[[], AbstractContextManager]
    scaler: torch.amp.GradScaler
    guard: Guarding = trusting
    """Around forward and backward pass together."""


def precision(amp: str, device: torch.device, guard: Guarding = trusting) -> Precision:
    """bf16, fp16 or fp32 on a device."""
    kind = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(amp)
    scaler = torch.amp.GradScaler(device.type, enabled=amp == "fp16")

    def autocast() -> AbstractContextManager:
        return nullcontext() if kind is None else torch.autocast(device.type, dtype=kind)

    return Precision(autocast, scaler, guard)


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """The learning rate of every group, scaled by its own share."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("scale", 1.0)
