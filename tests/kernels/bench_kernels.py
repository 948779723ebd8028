"""What it costs to try the bf16 kernels of an encoder: seconds of the trials, and of a pass with and without.

    python tests/kernels/bench_kernels.py
    ONEDNN_MAX_CPU_ISA=AVX512_CORE_BF16 python tests/kernels/bench_kernels.py

Alone on the machine; a figure stands for this processor alone.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch

from vjepa_distill import registry
from vjepa_distill.kernels.guard import Guard
from vjepa_distill.kernels.verdicts import machine

ENCODERS: dict[str, tuple[tuple[int, int, int], dict[str, Any]]] = {
    "vjepa/tiny": ((20, 112, 112), {"depth": 6}),
    "conv/small": ((20, 112, 112), {}),
    "timm/convnext_atto": ((20, 112, 112), {}),
    "timm/mobilenetv2_100": ((20, 112, 112), {}),
    "torchvision/swin3d_t": ((16, 112, 112), {}),
    "torchvision/mvit_v2_s": ((16, 112, 112), {}),
    "torchvision/s3d": ((16, 112, 112), {}),
    "torchvision/r3d_18": ((16, 112, 112), {}),
}


def seconds(encoder: Any, clip: torch.Tensor, guard: Any) -> float:
    """One pass forward and back."""
    begun = time.perf_counter()
    with guard("pass"):
        with torch.autocast("cpu", torch.bfloat16):
            tokens = encoder(clip)
        tokens.float().square().mean().backward()
    return time.perf_counter() - begun


def main() -> None:
    told = machine()
    print(
        told["processor"].split(";")[0], told["instructions"], {k: v for k, v in told.items() if "ISA" in k}
    )
    for name, (size, options) in ENCODERS.items():
        encoder, clip = registry.create("backbone", name, **options), torch.rand(2, 3, *size)
        wrong: list[str] = []
        guard = Guard(wrong.append, Path(tempfile.mkdtemp()))
        first = seconds(encoder, clip, guard)
        again = median(seconds(encoder, clip, guard) for _ in range(3))
        tried, found = len(guard.verdicts.faults), len(guard.wrong)
        print(
            f"{name:24s} {tried:3d} kinds of call tried in {guard.spent:.2f} s, {found} wrong; "
            f"a pass {again:.2f} s, the first {first:.2f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
