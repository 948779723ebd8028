"""What a backbone promises under autocast: bf16 and fp16 give finite tokens, near those of fp32."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from vjepa_distill.testing.errors import require
from vjepa_distill.testing.tools import cells_of, random_keep, seeded

LARGEST = torch.finfo(torch.float16).max  # 65504


def check_bf16(backbone: Any, clip: Tensor) -> str:
    """Tokens and gradients under bf16 autocast are finite, and the tokens near those of fp32."""
    keep = random_keep(clip, cells_of(backbone, clip))
    parameters = [p for p in backbone.parameters() if p.requires_grad]
    with torch.autocast(clip.device.type, torch.bfloat16):
        tokens = seeded(backbone, clip, keep)
    gradients: tuple[Tensor | None, ...] = ()
    if parameters:
        gradients = torch.autograd.grad(tokens.float().square().mean(), parameters, allow_unused=True)
    finite = all(bool(x.isfinite().all()) for x in (tokens, *gradients) if x is not None)
    require(finite, "finite bf16 tokens and gradients", "some that are not", "keep norms and softmax in fp32")
    return near(tokens, seeded(backbone, clip, keep), "bf16")


@torch.no_grad()
def check_fp16(backbone: Any, clip: Tensor) -> str:
    """Tokens under fp16 autocast are finite, so nothing exceeds 65504, and near those of fp32."""
    keep = random_keep(clip, cells_of(backbone, clip))
    broken: list[str] = []
    hooks = [
        module.register_forward_hook(lambda _, __, out, name=name: note(broken, name, out))
        for name, module in backbone.named_modules()
        if name
    ]
    try:
        with torch.autocast(clip.device.type, torch.float16):
            tokens = seeded(backbone, clip, keep)
    finally:
        for hook in hooks:
            hook.remove()
    finite = bool(tokens.isfinite().all())
    where = f", first in {broken[0]} ({kind(backbone, broken[0])})" if broken else ""
    require(
        finite,
        f"finite values in fp16, where the largest is {LARGEST:.0f}",
        f"some that are not{where}",
        "scale or norm before what overflows, or run it in fp32 (torch.autocast(..., enabled=False))",
    )
    return near(tokens, seeded(backbone, clip, keep), "fp16")


def note(broken: list[str], name: str, out: Any) -> None:
    """Remember a module whose output is not finite; the first to say so is where it begins."""
    if isinstance(out, Tensor) and out.is_floating_point() and not bool(out.isfinite().all()):
        broken.append(name)


def kind(backbone: nn.Module, name: str) -> str:
    return type(backbone.get_submodule(name)).__name__


def near(tokens: Tensor, exact: Tensor, dtype: str) -> str:
    """Found a wrong CPU kernel, too: torch 2.15's bf16 Conv3d (1, 4, 4), 16 to 32 channels (cosine 0.2)."""
    cosine = torch.cosine_similarity(tokens.float(), exact.float(), dim=-1).mean().item()
    require(
        cosine > 0.9,
        f"{dtype} tokens near fp32 ones (cosine > 0.9)",
        f"a mean cosine of {cosine:.2f}",
        "keep positions, rotary angles and long sums in fp32; if only some widths fail, a kernel of this "
        "machine is wrong: take other widths",
    )
    return f"cosine {cosine:.4f} to fp32"
