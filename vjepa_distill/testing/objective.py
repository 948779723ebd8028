"""The contract of an objective: one finite unweighted scalar, and a gradient wherever something can learn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from vjepa_distill.protocols import Draw, Latents, Timeline, View
from vjepa_distill.testing.errors import require
from vjepa_distill.tokens import Grid, take

# Room for any mask, and for NOW, SOON and EVENTUALLY of different lengths.
GRID = Grid(4, 6, 5)
TIMELINE = Timeline(now=1, soon=1, eventually=2)


def check_objective(factory: Callable[..., Any], embed_dim: int = 24, **options: Any) -> None:
    """Raise ContractError unless `factory(embed_dim=…, timeline=…, **options)` builds a sound objective.

    Its views are values that split a grid; its loss is a finite scalar, of fp32 from bf16 tokens and of fp64
    from fp64 ones; the gradient reaches its own parameters and the student. Options may hold ``target_dim``,
    and ``layers``, the widths of those that the student offers, its output's last.
    """
    for dtype, expected in {
        torch.float32: torch.float32,
        torch.bfloat16: torch.float32,
        torch.float64: torch.float64,
    }.items():
        torch.manual_seed(0)
        objective = factory(embed_dim=embed_dim, timeline=TIMELINE, **options)
        objective = objective.double() if dtype == torch.float64 else objective
        check_views(objective)
        widths = options.get("layers", ())[:-1]
        latents, student = sample_latents(
            objective, embed_dim, dtype, options.get("target_dim") or embed_dim, widths
        )
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            loss = objective(latents)
        check_loss(loss, dtype, expected)
        check_gradients(objective, loss, student)


def check_views(objective: Any) -> None:
    """Equal views are equal keys: objectives that name the same view share one pass of the student."""
    first, second = tuple(objective.views()), tuple(objective.views())
    require(
        len(first) > 0 and first == second and tuple(map(hash, first)) == tuple(map(hash, second)),
        "views() to name equal, hashable views each time",
        f"{first} and then {second}",
        "make a view a frozen dataclass",
    )


def sample_latents(
    objective: Any,
    width: int,
    dtype: torch.dtype,
    target_dim: int | None = None,
    inner: Sequence[int] = (),
) -> tuple[Latents, list[Tensor]]:
    """Four clips' latents for the objective's views, and the student's leaves that should get a gradient.

    inner: widths of the layers before the output; each is a leaf too, where the objective is ``deep``.
    """
    generator = torch.Generator().manual_seed(0)

    def noise(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    draw = Draw(seed=0, position=torch.arange(4))
    splits = {view: view.split(GRID, draw) for view in objective.views()}
    leaves = [noise(4, GRID.length, dim).requires_grad_() for dim in (width, *inner)]
    seen = {view: take(leaves[0], split.keep) for view, split in splits.items()}
    out = target_dim or width
    places, mixing = noise(GRID.length, out), noise(width, out)

    def predict(view: View, query: Tensor) -> Tensor:
        return seen[view].mean(1, keepdim=True) @ mixing + places[query]

    target = noise(4, GRID.length, out)

    def alone(view: View) -> Tensor:
        return take(target, splits[view].keep)

    layers = {
        view: [*(take(leaf, split.keep) for leaf in leaves[1:]), seen[view]]
        for view, split in splits.items()
        if getattr(objective, "deep", False)
    }
    latents = Latents(GRID, target, splits, seen, predict, torch.arange(4), alone=alone, layers=layers)
    return latents, leaves


def check_loss(loss: Tensor, dtype: torch.dtype, expected: torch.dtype) -> None:
    """A finite scalar, of fp32 or more."""
    require(
        isinstance(loss, Tensor) and loss.shape == (),
        "one scalar tensor",
        str(getattr(loss, "shape", loss)),
        "reduce over the batch, unweighted",
    )
    require(
        bool(loss.isfinite()),
        f"a finite loss from {dtype} noise",
        str(loss.item()),
        "guard logarithms and norms",
    )
    require(
        loss.dtype == expected,
        f"a loss of {expected} from tokens of {dtype}",
        str(loss.dtype),
        "promote low precision to fp32, and never demote fp64",
    )


def check_gradients(objective: Any, loss: Tensor, student: list[Tensor]) -> None:
    """Every parameter of the objective and the student's tokens hear of the loss."""
    named: list[tuple[str, Tensor]] = [(n, p) for n, p in objective.named_parameters() if p.requires_grad]
    named += [("the student's tokens", leaf) for leaf in student]
    require(loss.requires_grad, "a loss that can be learned from", "a constant", "do not detach the student")
    gradients = torch.autograd.grad(loss, [p for _, p in named], allow_unused=True)
    missed = [name for (name, _), g in zip(named, gradients, strict=True) if g is None or not g.any()]
    require(
        not missed,
        "a gradient in every parameter and in the student's tokens",
        f"none in {', '.join(missed)}",
        "use what is registered, and do not detach the student",
    )
    require(
        all(bool(g.isfinite().all()) for g in gradients),
        "finite gradients",
        "some that are not",
        "keep roots and divisions away from zero",
    )
