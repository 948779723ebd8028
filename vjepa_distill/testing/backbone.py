"""The contract of a backbone as one call: `check_backbone` for tests, `report_backbone` for a table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from vjepa_distill.testing.claims import (
    check_bf16,
    check_copy,
    check_deterministic,
    check_fresh,
    check_gradient,
    check_keep,
    check_leak,
    check_members,
    check_rows,
    check_shape,
    check_sizes,
    check_state,
)
from vjepa_distill.testing.errors import ContractError
from vjepa_distill.testing.order import check_order
from vjepa_distill.testing.tools import Factory, build, sample_clip

BACKBONE_CHECKS: dict[str, Callable[[Any, Tensor], None]] = {
    "members": check_members,
    "shape and grid agree": check_shape,
    "tokens in (t, h, w) order": check_order,
    "no leak from hidden pixels": check_leak,
    "keep-all equals full": check_keep,
    "deterministic in eval": check_deterministic,
    "rows are independent": check_rows,
    "gradient reaches every parameter": check_gradient,
    "bf16 is finite and near": check_bf16,
    "state_dict round-trips": check_state,
    "deepcopy is independent": check_copy,
    "odd sizes refused in words": check_sizes,
}


def check_backbone(backbone: nn.Module | Factory, T: int = 4, H: int = 32, W: int = 48) -> None:
    """Raise ContractError on the first claim that does not hold.

    Args:
        backbone: the module, or better a function that builds it: then its state is also loaded into another
            one, initialised differently.
        T, H, W: a clip that the backbone takes; not square, and of few cells for speed.
    """
    for name, error in report_backbone(backbone, T, H, W):
        if error:
            raise ContractError(f"{name}: {error}")


def report_backbone(
    backbone: nn.Module | Factory, T: int = 4, H: int = 32, W: int = 48
) -> list[tuple[str, str]]:
    """Every claim with what is wrong about it, or "" where it holds: what `backbones check` prints."""
    module = backbone if isinstance(backbone, nn.Module) else build(backbone, seed=0)
    clip = sample_clip(T, H, W)
    checks = dict(BACKBONE_CHECKS)
    if not isinstance(backbone, nn.Module):
        checks["state loads into a fresh one"] = lambda m, c: check_fresh(m, c, backbone)
    report = []
    for name, check in checks.items():
        module.eval()
        try:
            check(module, clip.clone())
            report.append((name, ""))
        except ContractError as error:
            report.append((name, str(error)))
        except Exception as error:  # a check that cannot even run has found something too
            report.append((name, f"{type(error).__name__}: {error}"))
        if name == "members" and report[-1][1]:
            break  # the other checks have nothing to hold on to
    return report
