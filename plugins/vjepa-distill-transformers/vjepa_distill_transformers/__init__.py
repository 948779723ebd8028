"""Hugging Face encoders, offered to vjepa-distill; importing this imports neither torch nor transformers."""

from __future__ import annotations

from typing import Any

from vjepa_distill import hookimpl


@hookimpl
def register_backbones(register: Any) -> None:
    """One family: ``hf/`` and the name of a repository."""
    register(
        "hf/*",
        "vjepa_distill_transformers.create:create",
        summary="Hugging Face: VJEPA2, VideoMAE, DINOv2, DINOv3, SigLIP2 by repository",
    )
