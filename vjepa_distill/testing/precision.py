"""What a backbone promises of 16-bit numbers: bf16 tokens near those of fp32, nothing beyond fp16."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.module_tracker import ModuleTracker

from vjepa_distill.kernels.watch import Comparison
from vjepa_distill.testing.errors import ContractError, require
from vjepa_distill.testing.tools import cells_of, random_keep, seeded

LARGEST = torch.finfo(torch.float16).max  # 65504


def check_bf16(backbone: Any, clip: Tensor) -> str:
    """Tokens and gradients under bf16 autocast are finite, and the tokens near those of fp32.

    Every operation is compared with the same one in fp32: where a kernel of this processor is wrong, which is
    no fault of the encoder, its result is put right, and the row says so.
    """
    keep = random_keep(clip, cells_of(backbone, clip))
    tokens, finite, found = in_bf16(backbone, clip, keep)
    overflow = f", the first from {found.overflow}" if found.overflow else ""
    require(
        finite,
        "finite bf16 tokens and gradients",
        f"some that are not{overflow}",
        "keep norms, softmax and sums of large numbers in fp32",
    )
    judged = near(tokens, seeded(backbone, clip, keep))
    return f"{judged}; {blame(found.wrong)}" if found.wrong else judged


def in_bf16(backbone: Any, clip: Tensor, keep: Tensor) -> tuple[Tensor, bool, Comparison]:
    """Its tokens, whether they and the gradients are finite, and what was found about the kernels."""
    modules = ModuleTracker()
    parameters = [p for p in backbone.parameters() if p.requires_grad]
    found = Comparison(lambda: deepest(modules.parents))
    gradients: tuple[Tensor | None, ...] = ()
    with modules, found:
        with torch.autocast(clip.device.type, torch.bfloat16):
            tokens = seeded(backbone, clip, keep)
        if parameters:
            gradients = torch.autograd.grad(tokens.float().square().mean(), parameters, allow_unused=True)
    return tokens, all(bool(x.isfinite().all()) for x in (tokens, *gradients) if x is not None), found


def deepest(modules: set[str]) -> str:
    """The innermost of the modules at work, without the class of the outermost in its name."""
    return max(modules - {"Global"}, key=lambda name: name.count("."), default="").partition(".")[2]


def blame(wrong: list[str]) -> str:
    """What is to be known of wrong kernels."""
    more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
    return (
        f"but a bf16 kernel of this processor is wrong: {wrong[0]}{more}. No fault of the encoder: runs "
        "compute it in fp32; in code of your own use fp32 (--amp fp32 here), or other widths or sizes"
    )


@torch.no_grad()
def check_fp16(backbone: Any, clip: Tensor) -> str:
    """No activation exceeds 65504, the largest number of fp16."""
    # Measured in fp32: what is kept in fp32 under autocast differs between CPU and CUDA, where fp16 is used.
    keep = random_keep(clip, cells_of(backbone, clip))
    sizes: list[tuple[float, str]] = []
    hooks = [
        module.register_forward_hook(lambda _, __, out, name=name: note(sizes, name, out))
        for name, module in backbone.named_modules()
    ]
    try:
        seeded(backbone, clip, keep)
    finally:
        for hook in hooks:
            hook.remove()
    first = next(((size, name) for size, name in sizes if size > LARGEST), None)
    if first:
        came = f"{first[0]:.0f}, first in {first[1] or 'its output'} ({kind(backbone, first[1])})"
        raise ContractError(
            f"no activation above {LARGEST:.0f}, the largest number of fp16", came, "scale or norm before it"
        )
    return f"the largest activation is {max(sizes)[0]:.0f}"


def note(sizes: list[tuple[float, str]], name: str, out: Any) -> None:
    """Remember how large the output of a module is."""
    if isinstance(out, Tensor) and out.is_floating_point() and out.numel():
        sizes.append((out.abs().max().item(), name))


def kind(backbone: nn.Module, name: str) -> str:
    return type(backbone.get_submodule(name)).__name__


def near(tokens: Tensor, exact: Tensor) -> str:
    """How near; ContractError where not near enough."""
    cosine = torch.cosine_similarity(tokens.float(), exact.float(), dim=-1).mean().item()
    require(
        cosine > 0.9,
        "bf16 tokens near fp32 ones (cosine > 0.9)",
        f"a mean cosine of {cosine:.2f}",
        "keep positions, rotary angles and long sums in fp32",
    )
    return f"cosine {cosine:.4f} to fp32"
