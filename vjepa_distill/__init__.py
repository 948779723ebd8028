"""vjepa-distill: give any video encoder the tokens of a strong teacher, then teach it the future.

Everything a plugin may import is here, and what the commands do, as functions (`distill`, `evaluate`, …).
Names that need torch are loaded when first asked for, so that importing the package (as --help does) stays
fast.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from vjepa_distill.errors import UserError

if TYPE_CHECKING:
    from vjepa_distill.backbones.hidden import Hidden
    from vjepa_distill.modules.masks import Blocks, Span, Whole
    from vjepa_distill.protocols import Backbone, Batch, DecodeError, Decoder, Latents, Objective, VideoInfo
    from vjepa_distill.registry import create, create_backbone
    from vjepa_distill.registry.hookspecs import hookimpl
    from vjepa_distill.runs.distill import distill
    from vjepa_distill.runs.encode import encode
    from vjepa_distill.runs.evaluate import evaluate
    from vjepa_distill.runs.exports import load_backbone
    from vjepa_distill.runs.forecaster import load_forecaster
    from vjepa_distill.runs.jepa import jepa_train
    from vjepa_distill.runs.report import report
    from vjepa_distill.runs.surprise import surprise
    from vjepa_distill.settings import (
        Component,
        Data,
        DistillConfig,
        JepaConfig,
        Optimizer,
        PredictorConfig,
        Spans,
        Term,
    )
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
    "Blocks": "modules.masks",
    "Span": "modules.masks",
    "Whole": "modules.masks",
    "hookimpl": "registry.hookspecs",
    "create": "registry",
    "create_backbone": "registry",
    "load_backbone": "runs.exports",
    "load_forecaster": "runs.forecaster",
    "distill": "runs.distill",
    "jepa_train": "runs.jepa",
    "encode": "runs.encode",
    "evaluate": "runs.evaluate",
    "report": "runs.report",
    "surprise": "runs.surprise",
    "Component": "settings",
    "Data": "settings",
    "DistillConfig": "settings",
    "JepaConfig": "settings",
    "Optimizer": "settings",
    "PredictorConfig": "settings",
    "Spans": "settings",
    "Term": "settings",
}

__all__ = [
    "Backbone",
    "Batch",
    "Blocks",
    "Component",
    "Data",
    "DecodeError",
    "Decoder",
    "DistillConfig",
    "Grid",
    "Hidden",
    "JepaConfig",
    "Latents",
    "Objective",
    "Optimizer",
    "PredictorConfig",
    "Span",
    "Spans",
    "Term",
    "UserError",
    "VideoInfo",
    "Whole",
    "create",
    "create_backbone",
    "distill",
    "encode",
    "evaluate",
    "hookimpl",
    "jepa_train",
    "load_backbone",
    "load_forecaster",
    "report",
    "resample",
    "surprise",
    "take",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(f"vjepa_distill.{_LAZY[name]}"), name)
    raise AttributeError(f"module 'vjepa_distill' has no attribute {name!r}; it has {', '.join(__all__)}")
