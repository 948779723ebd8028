"""Puts a checkpoint's encoder into a model of ours, and says which model that has to be."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import Any

from torch import nn

from vjepa_distill.backbones.official.checkpoint import Checkpoint, read
from vjepa_distill.backbones.official.names import V1, V2, V21
from vjepa_distill.backbones.sizes import SIZES
from vjepa_distill.errors import UserError, brief

_log = logging.getLogger(__name__)

# What the publishers say of their own files; of anybody else's nothing is known.
LICENCES = {
    V1: "CC BY-NC 4.0 (facebookresearch/jepa), if these are Meta's",
    V2: "MIT (facebookresearch/vjepa2) or Apache-2.0 (its pages on Hugging Face), if these are Meta's",
    V21: "MIT (facebookresearch/vjepa2), if these are Meta's",
}


def load_into(vit: nn.Module, shape: Mapping[str, Any], source: str, which: str = "target") -> dict[str, str]:
    """Load a checkpoint's encoder strictly into a model of this shape (VideoViT.shape).

    Returns where the weights came from and their licence, in words. UserError where the checkpoint needs a
    model with other options, naming them: an exported run is built from its options alone.
    """
    checkpoint = read(source, which, shape["rope"])
    wrong = {name: value for name, value in checkpoint.shape.items() if not _same(name, value, shape)}
    if wrong:
        given = {name: shape[name] for name in wrong}
        name, options = component(checkpoint.shape)
        if "heads" in options and options["heads"] is None:
            options["heads"] = "N (the file does not tell)"
        raise UserError(
            f"{source} holds {checkpoint.version} with {_listed(wrong)}, but this model has "
            f"{_listed(given)}: "
            f"type {name} with {_listed(options, ': ') or 'its own options'}"
        )
    try:
        vit.load_state_dict(checkpoint.encoder, strict=True)
    except RuntimeError as problem:
        raise UserError(f"{source} does not fit: {brief(problem, 300)}") from problem
    words = f"{checkpoint.version}, {checkpoint.part} of {source}"
    if checkpoint.notes and os.environ.get("RANK", "0") == "0":
        _log.warning("%s; %s", words, "; ".join(checkpoint.notes))
    return {"weights": words, "licence": LICENCES[checkpoint.version]}


def component(shape: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The name and the options of the `vjepa/*` model that such weights need; options are plain values."""
    fits = [n for n, s in SIZES.items() if (s.depth, s.width) == (shape["depth"], shape["width"])]
    name = fits[0] if fits else "tiny"
    size = SIZES[name]
    options = {key: shape[key] for key in ("depth", "width", "heads") if shape[key] != getattr(size, key)}
    if shape["hidden"] != int(shape["width"] * size.mlp_ratio):
        options["mlp_ratio"] = _ratio(shape["hidden"], shape["width"])
    options |= {key: shape[key] for key, usual in (("tubelet", 2), ("patch", 16)) if shape[key] != usual}
    if shape["rope"]:
        options["rope"] = shape["rope"]
    if shape["sincos"] not in (None, "thirds"):
        options["sincos"] = shape["sincos"]
    if any(shape["trained_grid"]):
        options["trained_grid"] = list(shape["trained_grid"])
    return f"vjepa/{name}", options


def predictor_words(checkpoint: Checkpoint) -> str:
    """One line for the log of a run that starts from a checkpoint."""
    about = checkpoint.predictor.words
    if checkpoint.predictor.state is None:
        return f"WARNING: {checkpoint.source}: {about}; the predictor starts anew"
    return f"predictor of {checkpoint.version} from {checkpoint.source}: {about}"


def _same(name: str, value: Any, shape: Mapping[str, Any]) -> bool:
    """Whether the model has what the checkpoint needs; V-JEPA 1's positions may be counted on instead."""
    if name == "heads" and value is None:
        return True
    if name == "trained_grid" and shape["sincos"]:
        return shape[name] is not None and all(
            n in (0, old) for n, old in zip(shape[name], value, strict=True)
        )
    return (shape[name] or [0, 0, 0] if name == "trained_grid" else shape[name]) == value


def _ratio(hidden: int, width: int) -> float:
    """A ratio that gives this width again when a float's rounding goes down."""
    return hidden / width if int(width * (hidden / width)) == hidden else (hidden + 0.5) / width


def _listed(options: Mapping[str, Any], sign: str = "=") -> str:
    return ", ".join(f"{name}{sign}{value}" for name, value in options.items())
