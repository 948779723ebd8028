"""What a backbone need not promise, and is good to have: torch.compile and torch.export take it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from vjepa_distill.testing.errors import ContractError, require
from vjepa_distill.testing.tools import cells_of, difference, random_keep, seeded


@torch.no_grad()
def check_compiles(backbone: Any, clip: Tensor) -> str:
    """torch.compile gives the same tokens, with keep and without."""
    compiled, most = torch.compile(backbone), 0.0
    for keep in (None, random_keep(clip, cells_of(backbone, clip))):
        before = seeded(backbone, clip, keep)
        most = max(most, difference(attempt(lambda k=keep: seeded(compiled, clip, k)), before))
    torch.compiler.reset()
    require(
        most < 1e-3,
        "the tokens of the same encoder not compiled",
        f"a difference of {most:.1e} of their size",
        "leave it uncompiled (compile: false), or look for what depends on Python state",
    )
    return f"a difference of {most:.0e} of their size"


@torch.no_grad()
def check_exports(backbone: Any, clip: Tensor) -> str:
    """torch.export takes the encoder of whole clips, and its program gives the same tokens."""
    program = attempt(lambda: torch.export.export(backbone, (clip,), strict=False).module())
    apart = difference(seeded(lambda c, _: program(c), clip), seeded(backbone, clip))
    require(
        apart < 1e-3,
        "the tokens of the encoder that was exported",
        f"a difference of {apart:.1e} of their size",
        "look for what depends on Python state",
    )
    return f"a difference of {apart:.0e} of their size"


def attempt(step: Any) -> Any:
    """What the step gives; the first line of what the compiler says is what came instead."""
    try:
        return step()
    except Exception as error:
        line = next((line for line in str(error).splitlines() if line.strip()), "")
        raise ContractError(
            "a graph of the whole encoder",
            f"{type(error).__name__}: {line.strip()}",
            "look for branches on the values of tensors, .item() and .tolist(); or leave it uncompiled",
        ) from error
