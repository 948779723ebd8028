"""Quaternion-valued video encoders, offered to vjepa-distill; importing this does not import torch."""

from __future__ import annotations

from typing import Any

from vjepa_distill import hookimpl


@hookimpl
def register_backbones(register: Any) -> None:
    """Three sizes of `model.Ruffle`."""
    for size, shape in {
        "tiny": "width 192, depth 6, 3 heads",
        "small": "width 384, depth 12, 6 heads",
        "base": "width 768, depth 12, 12 heads",
    }.items():
        register(f"ruffle/{size}", f"vjepa_distill_ruffle.model:{size}", summary=f"quaternion ViT: {shape}")
