"""What a backbone promises, a function each: given the backbone in eval() and a clip [B, 3, T, H, W]."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from vjepa_distill.testing.errors import ContractError, require
from vjepa_distill.testing.tools import (
    Factory,
    build,
    cells_of,
    difference,
    pixels_of,
    random_keep,
    restores,
    sample_clip,
    scramble,
)
from vjepa_distill.tokens import Grid, take


def check_members(backbone: Any, clip: Tensor) -> None:
    """It is a module with `embed_dim` and `grid`, and the grid of the clip is of whole cells."""
    require(
        isinstance(backbone, nn.Module), "a torch.nn.Module", type(backbone).__name__, "derive from nn.Module"
    )
    width = getattr(backbone, "embed_dim", None)
    require(
        isinstance(width, int), "an integer embed_dim", repr(width), "set self.embed_dim to the tokens' width"
    )
    try:
        grid = backbone.grid(*clip.shape[2:])
    except ValueError as error:
        T, H, W = clip.shape[2:]
        raise ContractError(f"its grid refuses the clip ({error}); call with T, H, W it takes, not {T, H, W}")
    sound = isinstance(grid, tuple) and len(grid) == 3 and all(isinstance(n, int) and n > 0 for n in grid)
    require(
        sound, "grid(T, H, W) to be a Grid of three positive integers", repr(grid), "return Grid(t, h, w)"
    )


@torch.no_grad()
def check_shape(backbone: Any, clip: Tensor) -> None:
    """[B, L, D] of finite floats, with L the length of the declared grid, and as many tokens as are kept."""
    grid = cells_of(backbone, clip)
    for keep, count in ((None, grid.length), (random_keep(clip, grid), (grid.length + 1) // 2)):
        tokens = backbone(clip, keep)
        require(
            tokens.shape == (len(clip), count, backbone.embed_dim),
            f"tokens of shape {(len(clip), count, backbone.embed_dim)} with {count} of {grid.length} kept",
            str(tuple(tokens.shape)),
            f"make grid, embed_dim and the tokens agree (the grid says {tuple(grid)})",
        )
        require(
            tokens.is_floating_point() and bool(tokens.isfinite().all()),
            "finite floating-point tokens",
            f"{tokens.dtype} with {(~tokens.isfinite()).sum()} values not finite",
            "look for divisions by zero and logarithms on a clip of noise in [0, 1]",
        )


@torch.no_grad()
def check_leak(backbone: Any, clip: Tensor) -> None:
    """Nothing hidden is in a kept token: other pixels under the mask leave every kept token where it was."""
    grid = cells_of(backbone, clip)
    first = torch.arange(grid.h * grid.w).expand(len(clip), -1)
    masks = {"half of the cells kept": random_keep(clip, grid), "the first tubelet kept": first}
    for what, keep in masks.items():
        shown = pixels_of(keep, grid, clip)
        before = backbone(clip, keep)
        for hidden in (1 - clip, torch.zeros_like(clip)):
            moved = difference(backbone(torch.where(shown, clip, hidden), keep), before)
            require(
                moved < 1e-5,
                f"hidden pixels to have no effect ({what})",
                f"kept tokens moved by {moved:.1e} of their size",
                "select tokens before anything mixes them, or wrap the encoder in backbones.hidden.Hidden",
            )


@torch.no_grad()
def check_keep(backbone: Any, clip: Tensor) -> None:
    """Keeping everything is not masking at all, and tokens come back in the order of `keep`."""
    grid = cells_of(backbone, clip)
    full = backbone(clip)
    every = torch.arange(grid.length).expand(len(clip), -1)
    for what, keep in {"every token": every, "every token, last first": every.flip(1)}.items():
        apart = difference(backbone(clip, keep), take(full, keep))
        require(
            apart < 1e-4,
            f"keep = {what} to give the tokens of no keep in that order",
            f"tokens that differ by {apart:.1e} of their size",
            "add positions on the full grid before selecting, and select with vjepa_distill.take",
        )


@torch.no_grad()
def check_deterministic(backbone: Any, clip: Tensor) -> None:
    """In eval() the same clip gives the same tokens, and the clip is left as it was."""
    given = clip.clone()
    apart = difference(backbone(clip), backbone(clip))
    require(
        apart == 0,
        "the same tokens twice in eval()",
        f"a difference of {apart:.1e} of their size",
        "make dropout, drop path and noise depend on self.training",
    )
    require(
        torch.equal(given, clip),
        "the clip to be left alone",
        "a clip with other pixels",
        "normalise out of place, not with sub_ or div_",
    )


@torch.no_grad()
def check_rows(backbone: Any, clip: Tensor) -> None:
    """A batch of one works, and a row's tokens depend on that row alone."""
    apart = difference(backbone(clip[:1]), backbone(clip)[:1])
    require(
        apart < 1e-4,
        "a row alone to give the tokens it gives in a batch",
        f"a difference of {apart:.1e} of their size",
        "use norms of a token or a group, not of the batch, and squeeze no axis of size 1",
    )


def check_gradient(backbone: Any, clip: Tensor) -> None:
    """A loss on the tokens reaches every parameter, with keep and without."""
    backbone.train()
    named = [(name, p) for name, p in backbone.named_parameters() if p.requires_grad]
    for keep in (None, random_keep(clip, cells_of(backbone, clip))):
        loss = backbone(clip, keep).float().square().sum()
        gradients = torch.autograd.grad(loss, [p for _, p in named], allow_unused=True)
        missed = [name for (name, _), g in zip(named, gradients, strict=True) if g is None]
        require(
            not missed,
            "a gradient in every parameter, else DDP waits for it for ever",
            f"none in {len(missed)} of {len(named)}: {', '.join(missed[:5])}",
            "drop heads and norms that the tokens do not pass, or set requires_grad_(False) on them",
        )


def check_bf16(backbone: Any, clip: Tensor) -> None:
    """Tokens and gradients under bf16 autocast are finite, and the tokens near those of fp32."""
    named = [p for p in backbone.parameters() if p.requires_grad]
    with torch.autocast(clip.device.type, torch.bfloat16):
        tokens = backbone(clip, random_keep(clip, cells_of(backbone, clip)))
    gradients = torch.autograd.grad(tokens.float().square().mean(), named, allow_unused=True)
    finite = all(bool(x.isfinite().all()) for x in (tokens, *gradients) if x is not None)
    require(finite, "finite bf16 tokens and gradients", "some that are not", "keep norms and softmax in fp32")
    exact = backbone(clip, random_keep(clip, cells_of(backbone, clip)))
    near = torch.cosine_similarity(tokens.float(), exact, dim=-1).mean().item()
    require(
        near > 0.9,
        "bf16 tokens near fp32 ones (cosine > 0.9)",
        f"a mean cosine of {near:.2f}",
        "keep positions, rotary angles and long sums in fp32",
    )


@torch.no_grad()
def check_state(backbone: Any, clip: Tensor) -> None:
    """`state_dict` holds all there is: loaded over scrambled weights it brings the tokens back."""
    other = deepcopy(backbone)
    scramble(other)
    require(
        difference(other(clip), backbone(clip)) > 0,
        "tokens that depend on the parameters",
        "the same tokens after every parameter of a copy was changed",
        "let a copy own its parameters, and use them in forward",
    )
    restores(other, backbone, clip)


@torch.no_grad()
def check_fresh(backbone: Any, clip: Tensor, factory: Factory) -> None:
    """`state_dict` holds all there is: loaded into a differently initialised one it gives the same tokens."""
    restores(build(factory, seed=1).eval(), backbone, clip)


@torch.no_grad()
def check_copy(backbone: Any, clip: Tensor) -> None:
    """`copy.deepcopy` makes an independent twin, as the EMA teacher is one."""
    before = backbone(clip)
    other = deepcopy(backbone)
    apart = difference(other(clip), before)
    require(
        apart == 0,
        "a deepcopy to give the same tokens",
        f"a difference of {apart:.1e} of their size",
        "keep state in parameters and buffers, where deepcopy finds it",
    )
    state = {name: value.clone() for name, value in backbone.state_dict().items()}
    scramble(other)
    same = all(torch.equal(value, backbone.state_dict()[name]) for name, value in state.items())
    require(
        same and difference(backbone(clip), before) == 0,
        "the original to stay as it was when its copy learns",
        "an original that moved with its copy",
        "share no tensors or modules between copies (look for __deepcopy__ and class attributes)",
    )
    for name, value in state.items():  # where the two are one, put back what was scrambled
        backbone.state_dict()[name].copy_(value)


@torch.no_grad()
def check_sizes(backbone: Any, clip: Tensor) -> None:
    """A size that does not divide is refused in words by `grid`, or works and agrees with `grid`."""
    for axis in (2, 3, 4):
        T, H, W = size = [n + (i == axis) for i, n in enumerate(clip.shape)][2:]
        try:
            length = Grid(*backbone.grid(*size)).length
        except ValueError as error:
            require(
                len(str(error)) > 15, "a refusal in words", repr(error), "say what was given, what divides"
            )
            continue
        except Exception as error:
            raise ContractError(f"expected grid{(T, H, W)} to raise ValueError; came {error!r}") from error
        try:
            came = backbone(sample_clip(T, H, W, rows=1)).shape[1]
        except Exception as error:
            came = f"{type(error).__name__}: {error}"
        require(
            came == length,
            f"{length} tokens, as grid{(T, H, W)} says",
            str(came),
            "raise ValueError in grid for sizes that the patches do not divide",
        )
