"""The contract of a backbone as one call: `check_backbone` for tests, `examine_backbone` for a table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from vjepa_distill.errors import raised_at
from vjepa_distill.testing.compiling import check_compiles, check_exports
from vjepa_distill.testing.conduct import (
    check_batch,
    check_copy,
    check_deterministic,
    check_fresh,
    check_gradient,
    check_rows,
    check_state,
)
from vjepa_distill.testing.errors import ContractError
from vjepa_distill.testing.layout import (
    check_keep,
    check_leak,
    check_members,
    check_order,
    check_shape,
    check_sizes,
)
from vjepa_distill.testing.precision import check_bf16, check_fp16
from vjepa_distill.testing.tools import Factory, build, sample_clip

Check = Callable[[Any, Tensor], str]
"""Says what it measured; ContractError where the claim does not hold. Its docstring begins with the claim."""

BACKBONE_CHECKS: dict[str, Check] = {
    "members": check_members,
    "shape and grid agree": check_shape,
    "tokens in (t, h, w) order": check_order,
    "no leak from hidden pixels": check_leak,
    "keep-all equals full": check_keep,
    "deterministic in eval": check_deterministic,
    "rows are independent": check_rows,
    "any batch size": check_batch,
    "gradient reaches every parameter": check_gradient,
    "bf16 is finite and near": check_bf16,
    "fits into fp16": check_fp16,
    "state_dict round-trips": check_state,
    "deepcopy is independent": check_copy,
    "odd sizes refused in words": check_sizes,
}
OPTIONAL_CHECKS: dict[str, Check] = {"compiles": check_compiles, "exports": check_exports}
FRESH = "state loads into a fresh one"

# What cannot be judged before another claim holds: a mask means nothing on a grid that is not the tokens'.
WAITS = {
    "members": [name for name in (*BACKBONE_CHECKS, *OPTIONAL_CHECKS, FRESH) if name != "members"],
    "shape and grid agree": [
        "tokens in (t, h, w) order",
        "no leak from hidden pixels",
        "keep-all equals full",
        "gradient reaches every parameter",
        "bf16 is finite and near",
        "fits into fp16",
        "odd sizes refused in words",
        "compiles",
    ],
}


@dataclass(frozen=True)
class Finding:
    """One check of one encoder: what the contract says, what came, and how to mend it where they differ."""

    check: str
    passed: bool
    expected: str
    came: str
    mend: str = ""


def check_backbone(backbone: nn.Module | Factory, T: int = 4, H: int = 32, W: int = 48) -> None:
    """Raise ContractError on the first claim that does not hold.

    Args:
        backbone: the module, or better a function that builds it: then its state is also loaded into another
            one, initialised differently.
        T, H, W: a clip that the backbone takes; not square, and of few cells for speed.
    """
    for finding in examine_backbone(backbone, T, H, W):
        if not finding.passed:
            raise ContractError(finding.expected, finding.came, finding.mend, finding.check)


def report_backbone(
    backbone: nn.Module | Factory, T: int = 4, H: int = 32, W: int = 48
) -> list[tuple[str, str]]:
    """Every claim that could be judged with what is wrong about it, or "" where it holds."""
    return [
        (f.check, "" if f.passed else str(ContractError(f.expected, f.came, f.mend)))
        for f in examine_backbone(backbone, T, H, W)
    ]


def examine_backbone(
    backbone: nn.Module | Factory,
    T: int = 4,
    H: int = 32,
    W: int = 48,
    fresh: Factory | None = None,
    optional: bool = False,
) -> list[Finding]:
    """Every claim of the contract as a row, for whoever shows them.

    A claim that cannot be judged before another one holds has no row; the failing one names those that wait.

    Args:
        backbone, T, H, W: as in `check_backbone`.
        fresh: builds another one, initialised differently; a `backbone` that is a function is its own.
        optional: whether torch.compile and torch.export take it, too; seconds to minutes.
    """
    module = backbone if isinstance(backbone, nn.Module) else build(backbone, seed=0)
    fresh = fresh or (None if isinstance(backbone, nn.Module) else backbone)
    checks = {**BACKBONE_CHECKS, **(OPTIONAL_CHECKS if optional else {})}
    if fresh is not None:
        checks[FRESH] = fresh_check(fresh)
    clip, findings = sample_clip(T, H, W), []
    waiting: set[str] = set()
    for name, check in checks.items():
        if name not in waiting:
            findings.append(judge(name, check, module, clip))
            waiting |= set() if findings[-1].passed else set(WAITS.get(name, ()))
    return findings


def judge(name: str, check: Check, module: Any, clip: Tensor) -> Finding:
    """One row of the table. A check that cannot even run has found something, too."""
    claim = " ".join((check.__doc__ or name).split("\n\n")[0].split()).removesuffix(".")
    if isinstance(module, nn.Module):
        module.eval()
    try:
        return Finding(name, True, claim, check(module, clip.clone()))
    except ContractError as error:
        expected, came, mend = error.expected, error.came, error.mend
    except Exception as error:
        expected, came = claim, f"{type(error).__name__}: {' '.join(str(error).split())}"
        mend = f"make it run: it stopped at {raised_at(error)}"
    waits = [waiting for waiting in WAITS.get(name, ()) if waiting not in OPTIONAL_CHECKS]
    return Finding(
        name, False, expected, came, mend + (f"; {len(waits)} checks wait for it" if waits else "")
    )


def fresh_check(factory: Factory) -> Check:
    """`check_fresh` with the factory that builds the other one."""

    def check(backbone: Any, clip: Tensor) -> str:
        return check_fresh(backbone, clip, factory)

    check.__doc__ = check_fresh.__doc__
    return check
