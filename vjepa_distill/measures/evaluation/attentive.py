"""An attentive probe: one learned query looks at all tokens of a clip, a linear layer says what it saw."""

from __future__ import annotations

import math
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vjepa_distill.measures.scores import fold_of

RATES = (3e-4, 1e-3, 3e-3)
DECAYS = (0.01, 0.3)
STEPS, ROWS, WARMUP = 200, 64, 0.1


class Members(NamedTuple):
    """Probes that are trained side by side, M of them."""

    rate: Tensor
    decay: Tensor
    rows: Tensor
    """bool [M, N]: which clips each one learns from."""


def attentive(tokens: Tensor, answers: np.ndarray, groups: np.ndarray, device: Any = "cpu") -> np.ndarray:
    """What an attentive probe says of each clip [N], trained on the clips of other folds.

    tokens [N, L, D], normed; answers: labels, or numbers (float) to be regressed. V-JEPA's protocol (Bardes
    et al. 2024, arXiv 2404.08471): cross-attention of a learned query, a residual MLP, a linear layer, and a
    grid of rates and decays of AdamW. Of each fold's grid that member is taken which does best on the next
    fold, which it did not learn from; it learns anew from all folds but its own, and says what is told.
    """
    number = answers.dtype.kind == "f"
    names, codes = np.unique(answers, return_inverse=True)
    target = torch.as_tensor(answers if number else codes, dtype=torch.float32 if number else torch.int64)
    fold = torch.from_numpy(fold_of(groups))
    folds, grid = int(fold.max()) + 1, list(product(RATES, DECAYS))
    picked = [grid[len(grid) // 2]] * folds
    if folds > 2:
        inner = [(k, rate, decay) for k in range(folds) for rate, decay in grid]
        seen = [(fold != k) & (fold != (k + 1) % folds) for k, _, _ in inner]
        said = trained(tokens, target, len(names), _members([pair[1:] for pair in inner], seen), device)
        good = torch.stack([_goodness(row[fold == (k + 1) % folds], target[fold == (k + 1) % folds])
                            for row, (k, _, _) in zip(said, inner, strict=True)])  # fmt: skip
        picked = [grid[best] for best in good.view(folds, len(grid)).argmax(dim=1).tolist()]
    final = trained(tokens, target, len(names), _members(picked, [fold != k for k in range(folds)]), device)
    out = final[fold, torch.arange(len(fold))]
    return out[:, 0].double().numpy() if number else names[out.argmax(dim=1).numpy()]


def _members(pairs: list[Any], rows: list[Tensor]) -> Members:
    rate, decay = (torch.tensor(side) for side in zip(*pairs, strict=True))
    return Members(rate, decay, torch.stack(rows))


def _goodness(said: Tensor, target: Tensor) -> Tensor:
    """Accuracy, of equal ones the lesser loss; of numbers the lesser squared error."""
    if target.is_floating_point():
        return -(said[:, 0] - target).square().mean()
    return (said.argmax(dim=1) == target).float().mean() - 1e-6 * F.cross_entropy(said, target)


def trained(tokens: Tensor, target: Tensor, classes: int, members: Members, device: Any = "cpu") -> Tensor:
    """What each member says of each clip once it is trained: [M, N, classes], or [M, N, 1] of numbers.

    All members learn in one pass: a batch is read once and each takes from it the rows that are its own.
    """
    number = target.is_floating_point()
    centre, scale = _units(target, members.rows, device)
    alike = _alike(members)
    parts = [begun(len(some), tokens.shape[-1], 1 if number else classes, device) for some in alike]
    back = torch.cat(alike).argsort().to(device)
    optimizer = _optimizer(parts, members, alike)
    mine = members.rows.to(device)
    for step, some in enumerate(_order(len(tokens))):
        _set_rates(optimizer, step)
        out = outputs(tokens[some].to(device).float(), _together(parts))[back]
        y = target[some].to(device)
        if number:
            loss = (out[..., 0] - (y - centre) / scale).square()
        else:
            loss = F.cross_entropy(out.flatten(0, 1), y.repeat(len(out)), reduction="none").view(len(out), -1)
        own = mine[:, some.to(device)].float()
        optimizer.zero_grad()
        ((loss * own).sum(dim=1) / own.sum(dim=1).clamp_min(1)).sum().backward()
        optimizer.step()
    with torch.no_grad():
        weights = _together(parts)
        said = torch.cat([outputs(part.to(device).float(), weights) for part in tokens.split(ROWS)], dim=1)
        return (said[back] * scale[..., None] + centre[..., None]).cpu()


def _units(target: Tensor, rows: Tensor, device: Any) -> tuple[Tensor, Tensor]:
    """Mean and spread of the numbers that each member learns from, [M, 1]; 0 and 1 for labels."""
    if not target.is_floating_point():
        return torch.zeros(len(rows), 1, device=device), torch.ones(len(rows), 1, device=device)
    own = [target[mine] for mine in rows]
    spread = torch.stack([values.std(correction=0).clamp_min(1e-12) for values in own])
    return torch.stack([values.mean() for values in own])[:, None].to(device), spread[:, None].to(device)


def _alike(members: Members) -> list[Tensor]:
    """The numbers of the members of one rate and decay: an optimizer moves these together."""
    pairs = list(zip(members.rate.tolist(), members.decay.tolist(), strict=True))
    same = [[number for number, pair in enumerate(pairs) if pair == one] for one in dict.fromkeys(pairs)]
    return [torch.tensor(numbers) for numbers in same]


def _optimizer(parts: list[dict[str, Tensor]], members: Members, alike: list[Tensor]) -> torch.optim.AdamW:
    """AdamW (Loshchilov & Hutter 2019), a rate and a decay for each part; only matrices decay."""
    groups = []
    for weights, some in zip(parts, alike, strict=True):
        rate, decay = members.rate[some[0]].item(), members.decay[some[0]].item()
        for share, matrices in ((decay, True), (0.0, False)):
            own = [value for value in weights.values() if (value.ndim == 3) == matrices]
            groups.append({"params": own, "weight_decay": share, "peak": rate})
    return torch.optim.AdamW(groups, fused=True)


def _set_rates(optimizer: torch.optim.Optimizer, step: int) -> None:
    """Up over the first tenth of the steps, then down along a cosine."""
    share = min((step + 1) / (WARMUP * STEPS), 0.5 * (1 + math.cos(math.pi * step / STEPS)))
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * share


def _together(parts: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def _order(count: int) -> list[Tensor]:
    """The rows of each step: epochs of a shuffled order, its last rows joined by the next one's first."""
    draw = torch.Generator().manual_seed(0)
    each = min(ROWS, count)
    order = torch.cat([torch.randperm(count, generator=draw) for _ in range(-(-STEPS * each // count))])
    return list(order.split(each))[:STEPS]


def begun(members: int, width: int, out: int, device: Any = "cpu") -> dict[str, Tensor]:
    """First values [M, ...], the same for all members, to be learned."""
    draw = torch.Generator().manual_seed(0)

    def matrix(rows: int, columns: int) -> Tensor:
        return torch.randn(rows, columns, generator=draw) / math.sqrt(columns)

    first = {
        "query": torch.randn(width, generator=draw),
        "key": matrix(width, width),
        "value": matrix(width, width),
        "value_bias": torch.zeros(width),
        "norm": torch.ones(width),
        "norm_bias": torch.zeros(width),
        "up": matrix(width, width),
        "up_bias": torch.zeros(width),
        "down": 0.1 * matrix(width, width),
        "down_bias": torch.zeros(width),
        "say": torch.zeros(out, width),
        "say_bias": torch.zeros(out),
    }
    spread = {name: value.to(device).repeat(members, *[1] * value.ndim) for name, value in first.items()}
    return {name: value.requires_grad_() for name, value in spread.items()}


def outputs(x: Tensor, weights: dict[str, Tensor]) -> Tensor:
    """x [B, L, D] -> [M, B, C].

    One query asks the same of every clip, so its product with the keys' matrix is taken first, and tokens are
    averaged before the values' matrix: the same sums as cross-attention, with no key and no value a token.
    """
    members, width = weights["query"].shape
    heads = heads_of(width)
    query = weights["query"].view(members, heads, 1, -1) / math.sqrt(width // heads)
    ask = (query @ weights["key"].view(members, heads, -1, width)).flatten(0, 2)  # [M h, D]
    attention = (x @ ask.T).softmax(dim=1)  # [B, L, M h]
    seen = (attention.transpose(1, 2) @ x).unflatten(1, (members, heads))  # [B, M, h, D]
    value = weights["value"].view(members, heads, -1, width)
    z = torch.einsum("bmhd,mhed->mbhe", seen, value).flatten(2) + weights["value_bias"][:, None]
    inner = F.layer_norm(z, (width,)) * weights["norm"][:, None] + weights["norm_bias"][:, None]
    inner = F.gelu(inner @ weights["up"].transpose(1, 2) + weights["up_bias"][:, None])
    z = z + inner @ weights["down"].transpose(1, 2) + weights["down_bias"][:, None]
    return z @ weights["say"].transpose(1, 2) + weights["say_bias"][:, None]


def heads_of(width: int) -> int:
    """Heads of about 64 channels."""
    return next(heads for heads in range(max(1, width // 64), 0, -1) if width % heads == 0)
