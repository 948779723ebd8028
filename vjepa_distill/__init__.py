"""vjepa-distill: give any video encoder the tokens of a strong teacher, then teach it the future.

Everything a plugin may import is here. Names that need torch are loaded when first asked for, so that
importing the package (as ``--help`` and ``plugins list`` do) stays fast.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from vjepa_distill.errors import UserError
from vjepa_distill.hookspecs import hookimpl

if TYPE_CHECKING:
    from vjepa_distill.backbones.hidden import Hidden
    from vjepa_distill.exports import load_backbone
    from vjepa_distill.masks import Blocks, Span, Whole
    from vjepa_distill.protocols import Backbone, Batch, DecodeError, Decoder, Latents, Objective, VideoInfo
    from vjepa_distill.registry import create
    from vjepa_distill.tokens import Grid, resample, take

__version__ = "0.1.0"

_LAZY = {
    "Backbone": "protocols",
    "Batch": "protocols",
    "DecodeError": "protocols",
    "Decoder": "protocols",
    "Latents": "protocols",
    "Objective": "protocols",
    "VideoInfo": "protocols",
    "Grid": "tokens",
    "Hidden": "backbones.hidden",
    "take": "tokens",
    "resample": "tokens",
    "Blocks": "masks",
    "Span": "masks",
    "Whole": "masks",
    "create": "registry",
    "load_backbone": "exports",
}

__all__ = [
    "Backbone",
    "Batch",
    "Blocks",
    "DecodeError",
    "Decoder",
    "Grid",
    "Hidden",
    "Latents",
    "Objective",
    "Span",
    "UserError",
    "VideoInfo",
    "Whole",
    "create",
    "hookimpl",
    "load_backbone",
    "resample",
    "take",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(f"vjepa_distill.{_LAZY[name]}"), name)
    raise AttributeError(f"module 'vjepa_distill' has no attribute {name!r}; it has {', '.join(__all__)}")
