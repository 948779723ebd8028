"""What a backbone promises of its tokens: how many, in which order, from which pixels, at which sizes.

Each check is given the backbone in eval() and a clip [B, 3, T, H, W], says what it measured, and raises
ContractError where the promise is not kept.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor, nn

from vjepa_distill.testing.errors import ContractError, require
from vjepa_distill.testing.order import check_order
from vjepa_distill.testing.tools import (
    cells_of,
    difference,
    pixels_of,
    random_keep,
    sample_clip,
    seeded,
)
from vjepa_distill.tokens import Grid

IGNORED = (
    "keep is ignored: before tokens mix, select tokens = vjepa_distill.take(tokens, keep), or wrap the "
    "encoder in vjepa_distill.Hidden"
)


@torch.no_grad()
def check_members(backbone: Any, clip: Tensor) -> str:
    """A torch.nn.Module with an integer embed_dim, a grid that takes the clip, and a tensor that comes."""
    require(
        isinstance(backbone, nn.Module), "a torch.nn.Module", type(backbone).__name__, "derive from nn.Module"
    )
    width = getattr(backbone, "embed_dim", None)
    require(
        isinstance(width, int), "an integer embed_dim", repr(width), "set self.embed_dim to the tokens' width"
    )
    require(
        callable(getattr(backbone, "grid", None)),
        "a method grid(T, H, W)",
        "an encoder without one",
        "define grid(self, T, H, W) that returns vjepa_distill.Grid(t, h, w)",
    )
    require(
        takes_keep(backbone),
        "a call with the clip and keep, which is None or int64 [B, K]",
        f"forward{inspect.signature(backbone.forward)}",
        "define forward(self, clip, keep=None), or wrap the encoder in vjepa_distill.Hidden",
    )
    T, H, W = clip.shape[2:]
    try:
        grid = backbone.grid(T, H, W)
    except ValueError as error:
        raise ContractError(
            f"a grid for {T} frames of {H} x {W} pixels",
            f"its grid refuses the clip: {error}",
            "check with T, H, W that it takes (--clip T H W)",
        ) from error
    sound = isinstance(grid, Grid) and all(isinstance(n, int) and n > 0 for n in grid)
    require(
        sound,
        "grid(T, H, W) to be a vjepa_distill.Grid of three positive integers",
        f"{type(grid).__name__} {grid!r}",
        "return vjepa_distill.Grid(t, h, w)",
    )
    tokens = seeded(backbone, clip)
    require(
        isinstance(tokens, Tensor),
        "a tensor of tokens",
        f"forward gives a {type(tokens).__name__}",
        "return the tokens alone, [B, K or L, embed_dim]",
    )
    return f"embed_dim {width}, grid {' x '.join(map(str, grid))} of {T} frames of {H} x {W}"


def takes_keep(backbone: nn.Module) -> bool:
    """Whether it can be called with a clip alone and with a clip and what to keep of it."""
    try:
        signature = inspect.signature(backbone.forward)
        signature.bind("clip")
        signature.bind("clip", "keep")
    except TypeError:
        return False
    return True


@torch.no_grad()
def check_shape(backbone: Any, clip: Tensor) -> str:
    """[B, L, D] of finite floats, L the length of the grid, and as many tokens as are kept."""
    grid = cells_of(backbone, clip)
    for keep, count in ((None, grid.length), (random_keep(clip, grid), (grid.length + 1) // 2)):
        tokens = seeded(backbone, clip, keep)
        require(
            tokens.shape == (len(clip), count, backbone.embed_dim),
            f"tokens of shape {(len(clip), count, backbone.embed_dim)} with {count} of {grid.length} kept",
            str(tuple(tokens.shape)),
            IGNORED
            if keep is not None and tokens.shape[1:2] == (grid.length,) != (count,)
            else f"make grid, embed_dim and the tokens agree (the grid says {tuple(grid)})",
        )
        require(
            tokens.is_floating_point() and bool(tokens.isfinite().all()),
            "finite floating-point tokens",
            f"{tokens.dtype} with {(~tokens.isfinite()).sum()} values not finite",
            "look for divisions by zero and logarithms on a clip of noise in [0, 1]",
        )
    return f"{grid.length} tokens, {count} of them with half kept"


@torch.no_grad()
def check_leak(backbone: Any, clip: Tensor) -> str:
    """Nothing hidden is in a kept token: other pixels under the mask leave every kept token alone."""
    grid = cells_of(backbone, clip)
    first = torch.arange(grid.h * grid.w).expand(len(clip), -1)
    most = 0.0
    for what, keep in {"half of the cells kept": random_keep(clip, grid), "one tubelet kept": first}.items():
        shown = pixels_of(keep, grid, clip)
        before = seeded(backbone, clip, keep)
        for hidden in (1 - clip, torch.zeros_like(clip)):
            moved = difference(seeded(backbone, torch.where(shown, clip, hidden), keep), before)
            most = max(most, moved)
            require(
                moved < 1e-5 or only_misplaced(backbone, clip, keep, grid),
                f"hidden pixels to have no effect ({what})",
                f"kept tokens moved by {moved:.1e} of their size",
                "select tokens before anything mixes them, or wrap the encoder in vjepa_distill.Hidden",
            )
    return f"kept tokens moved by {most:.0e} of their size" if most < 1e-5 else "no more pixels than kept"


def only_misplaced(backbone: Any, clip: Tensor, keep: Tensor, grid: Grid) -> bool:
    """Whether a wrong order is all that is wrong: other pixels are seen than were asked for, but no more."""
    try:
        check_order(backbone, clip)
    except ContractError:
        with torch.enable_grad():
            pixels = clip.clone().requires_grad_()
            weights = sample_like(tokens := seeded(backbone, pixels, keep))
            (gradient,) = torch.autograd.grad((tokens * weights).sum(), pixels)
        seen = (gradient != 0).any(1).float().mean().item()
        return 0 < seen <= keep.shape[1] / grid.length + 1e-6
    return False


def sample_like(tokens: Tensor) -> Tensor:
    """Noise in the shape of the tokens: a plain sum after a norm would have no gradient at all."""
    return torch.randn(tokens.shape, generator=torch.Generator().manual_seed(3)).to(tokens)


@torch.no_grad()
def check_keep(backbone: Any, clip: Tensor) -> str:
    """Keeping everything is not masking at all, and a token kept alone still knows its place."""
    grid = cells_of(backbone, clip)
    full = seeded(backbone, clip)
    with torch.random.fork_rng(devices=[]):  # what two calls differ by anyway is another check's business
        noise = difference(backbone(clip.clone()), backbone(clip.clone()))
    every = torch.arange(grid.length, device=clip.device).expand(len(clip), -1)
    apart = difference(seeded(backbone, clip, every), full)
    mend = "add positions on the full grid before selecting, and select with vjepa_distill.take"
    require(
        apart < 1e-4 + 3 * noise,
        "keep = every token to give the tokens of no keep",
        f"tokens that differ by {apart:.1e} of their size",
        mend,
    )
    require(
        knows_its_place(backbone, clip, grid),
        "a token to depend on its place when it is the only one kept, as it does when all are",
        "the same token, to the last digit, for the first place and for the last",
        mend,
    )
    return f"a difference of {apart:.0e} of their size"


def knows_its_place(backbone: Any, clip: Tensor, grid: Grid) -> bool:
    """Whether place matters to a token kept alone, where it matters at all: judged on equal cells.

    Positions given after the selection, or by the order of what is left, are lost when one token is left.
    """
    if grid.length == 1 or any(size % count for size, count in zip(clip.shape[2:], grid, strict=True)):
        return True
    cell = [size // count for size, count in zip(clip.shape[2:], grid, strict=True)]
    equal = clip[:, :, : cell[0], : cell[1], : cell[2]].repeat(1, 1, *grid)
    ends = torch.tensor([[0], [grid.length - 1]], device=clip.device).expand(2, len(clip))[:, :, None]
    full = seeded(backbone, equal)
    alone = [seeded(backbone, equal, keep) for keep in ends]
    return difference(full[:, :1], full[:, -1:]) < 1e-3 or difference(*alone) > 1e-5


@torch.no_grad()
def check_sizes(backbone: Any, clip: Tensor) -> str:
    """A size that does not divide is refused in words by `grid`, or works and agrees with `grid`."""
    refused = 0
    for axis in (2, 3, 4):
        T, H, W = size = [n + (i == axis) for i, n in enumerate(clip.shape)][2:]
        what = f"{T} frames of {H} x {W}"
        try:
            length = Grid(*backbone.grid(*size)).length
        except ValueError as error:
            words = f"{what}: a refusal in words"
            require(len(str(error)) > 15, words, repr(error), "say what was given, and what divides")
            refused += 1
            continue
        except Exception as error:
            came, mend = f"{type(error).__name__}: {error}", "raise UserError in grid for such sizes"
            raise ContractError(f"a grid for {what}, or ValueError", came, mend) from error
        try:
            came = f"{seeded(backbone, sample_clip(T, H, W, rows=len(clip))).shape[1]} tokens"
        except Exception as error:
            came = f"{type(error).__name__}: {error}"
        require(
            came == f"{length} tokens",
            f"{length} tokens, as grid says of {what}",
            came,
            "raise UserError in grid for sizes that the patches do not divide",
        )
    return f"{refused} of 3 refused in words, {3 - refused} taken"
