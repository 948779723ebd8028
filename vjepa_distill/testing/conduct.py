"""What a backbone promises of its conduct: the same answer twice, rows alone, gradients, state and copies.

Each check is given the backbone in eval() and a clip [B, 3, T, H, W], says what it measured, and raises
ContractError where the promise is not kept.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import torch
from torch import Tensor

from vjepa_distill.testing.errors import require
from vjepa_distill.testing.tools import (
    Factory,
    build,
    cells_of,
    difference,
    random_keep,
    scramble,
    seeded,
    state_of,
)


@torch.no_grad()
def check_deterministic(backbone: Any, clip: Tensor) -> str:
    """In eval() the same clip gives the same tokens, and the clip is left as it was."""
    given = clip.clone()
    with torch.random.fork_rng(devices=[]):
        apart = difference(backbone(given.clone()), backbone(given.clone()))
    require(
        apart == 0,
        "the same tokens twice in eval()",
        f"a difference of {apart:.1e} of their size",
        "make dropout, drop path and noise depend on self.training",
    )
    backbone(given)
    require(
        torch.equal(given, clip),
        "the clip to be left alone",
        "a clip with other pixels",
        "normalise out of place, not with sub_ or div_",
    )
    return "the same tokens, bit by bit"


@torch.no_grad()
def check_rows(backbone: Any, clip: Tensor) -> str:
    """A row's tokens depend on that row alone, whatever else is in the batch."""
    other = torch.cat([clip[:1], 1 - clip[1:]])
    apart = difference(seeded(backbone, other)[0], seeded(backbone, clip)[0])
    require(
        apart < 1e-4,
        "a row to give the same tokens whatever the other rows are",
        f"a difference of {apart:.1e} of their size",
        "in eval() use norms of a token or a group, or BatchNorm's running statistics, not the batch's",
    )
    return f"a difference of {apart:.0e} of their size"


@torch.no_grad()
def check_batch(backbone: Any, clip: Tensor) -> str:
    """A batch of any size works: of one, and of one more than before."""
    for rows in (1, len(clip) + 1):
        try:
            came = str(seeded(backbone, clip[:1].repeat(rows, 1, 1, 1, 1)).shape[0])
        except Exception as error:
            came = f"{type(error).__name__}: {error}"
        require(
            came == str(rows),
            f"tokens of {rows} rows from a batch of {rows}",
            came,
            "take B from clip.shape[0], and squeeze no axis of size 1",
        )
    return f"1, {len(clip)} and {len(clip) + 1} rows"


def check_gradient(backbone: Any, clip: Tensor) -> str:
    """A loss on the tokens reaches every parameter, with keep and without."""
    backbone.train()
    named = [(name, p) for name, p in backbone.named_parameters() if p.requires_grad]
    for keep in (None, random_keep(clip, cells_of(backbone, clip))) if named else ():
        loss = seeded(backbone, clip, keep).float().square().sum()
        gradients = torch.autograd.grad(loss, [p for _, p in named], allow_unused=True)
        missed = [name for (name, _), g in zip(named, gradients, strict=True) if g is None]
        require(
            not missed,
            "a gradient in every parameter, else DDP waits for it for ever",
            f"none in {len(missed)} of {len(named)}: {', '.join(missed[:5])}",
            "drop heads and norms that the tokens do not pass, or set requires_grad_(False) on them",
        )
    return f"all {len(named)} that ask for one"


@torch.no_grad()
def check_state(backbone: Any, clip: Tensor) -> str:
    """`state_dict` holds what the tokens depend on: loaded over other weights it brings them back."""
    saved, before = state_of(backbone), seeded(backbone, clip)
    scramble(backbone)
    moved = difference(seeded(backbone, clip), before)
    backbone.load_state_dict(saved, strict=True)
    require(
        moved > 0,
        "tokens that depend on the parameters",
        "the same tokens after every parameter was changed",
        "use in forward what state_dict holds",
    )
    return restored(backbone, before, clip)


@torch.no_grad()
def check_fresh(backbone: Any, clip: Tensor, factory: Factory) -> str:
    """`state_dict` holds all there is: another one, differently begun, gives the same tokens with it."""
    before, saved = seeded(backbone, clip), state_of(backbone)
    other = build(factory, seed=1).eval()
    scramble(other)
    moved = difference(seeded(backbone, clip), before)
    backbone.load_state_dict(saved, strict=True)  # where the two are one, put back what was scrambled
    require(
        moved == 0,
        "another one that is built to share nothing with it",
        "tokens that moved with the other's parameters",
        "make every part in __init__, and keep none in a class attribute or a global",
    )
    other.load_state_dict(saved, strict=True)
    return restored(other, before, clip)


def restored(other: Any, before: Tensor, clip: Tensor) -> str:
    apart = difference(seeded(other, clip), before)
    require(
        apart < 1e-5,
        "the same tokens after load_state_dict(strict=True)",
        f"a difference of {apart:.1e} of their size",
        "make everything that is drawn or learned a parameter or a persistent buffer",
    )
    return f"a difference of {apart:.0e} of their size"


@torch.no_grad()
def check_copy(backbone: Any, clip: Tensor) -> str:
    """`copy.deepcopy` makes an independent twin, as the EMA teacher is one."""
    before, saved = seeded(backbone, clip), state_of(backbone)
    other = deepcopy(backbone)
    apart = difference(seeded(other, clip), before)
    require(
        apart == 0,
        "a deepcopy to give the same tokens",
        f"a difference of {apart:.1e} of their size",
        "keep state in parameters and buffers, where deepcopy finds it",
    )
    scramble(other)
    same = all(torch.equal(value, saved[name]) for name, value in state_of(backbone).items())
    moved = difference(seeded(backbone, clip), before)
    backbone.load_state_dict(saved, strict=True)  # where the two are one, put back what was scrambled
    seeded(other.train(), 1 - clip)
    moved = max(moved, difference(seeded(backbone, clip), before))
    require(
        same and moved == 0,
        "the original to stay as it was when its copy learns",
        "an original that moved with its copy",
        "share no tensors or modules between copies (look for __deepcopy__, class attributes and globals)",
    )
    return "an equal, independent twin"
