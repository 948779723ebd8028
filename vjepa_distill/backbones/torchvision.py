"""torchvision's video models as backbones, by name, with their own weights and their own normalisation."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn
from torchvision import models as library

from vjepa_distill.backbones.hidden import Hidden
from vjepa_distill.backbones.volumes import Volumes
from vjepa_distill.errors import UserError, brief

# What builtin.py offers of this file; a literal, read without running the file.
OFFERS = {
    "torchvision/*": {
        "target": "create",
        "models": "models",
        "summary": "any video model of torchvision: MViT, Video Swin, S3D, R3D, MC3, R(2+1)D",
    }
}


def models() -> list[str]:
    """The names that may stand after torchvision/."""
    return library.list_models(module=library.video)


def create(model: str, weights: str | None = None, torchvision: Mapping[str, Any] | None = None) -> nn.Module:
    """The torchvision video model of that name, leak-free; UserError when it, or its weights, cannot be had.

    Args:
        model: torchvision's name, e.g. "mvit_v2_s", "swin3d_t", "s3d", "r2plus1d_18".
        weights: torchvision's name of its own weights, e.g. "KINETICS400_V1", fetched and kept by torch.hub;
            or a file of the whole model, classifier included (.pth or .safetensors), loaded strictly.
        torchvision: further arguments of torchvision's builder, e.g. {"attention_dropout": 0.1} for a Swin.
    """
    net = build(model, dict(torchvision or {}))
    origin = load(net, model, weights) if weights else "random"
    preset = library.get_model_weights(model).DEFAULT.transforms()  # one and the same for all its weights
    return Hidden(Volumes(net, preset.mean, preset.std, origin))


def build(model: str, options: dict[str, Any]) -> nn.Module:
    """torchvision's builder without weights; failures in one line."""
    if model not in models():
        near = get_close_matches(model, models(), n=3, cutoff=0.5) or models()
        words = f"torchvision has no video model {model!r}; near it: {', '.join(near)}"
        if model in library.list_models():
            words = f"torchvision's {model} is no video model; type timm/ and timm's name of an image model"
        raise UserError(words)
    try:
        return library.get_model(model, **options)
    except Exception as error:
        raise UserError(f"torchvision could not create {model!r} with {options}: {error}") from error


def load(net: nn.Module, model: str, weights: str) -> str:
    """Fill the whole model, every name and shape equal, and say with what; UserError tells what is wrong."""
    known = library.get_model_weights(model).__members__
    own = {spelt: one for name, one in known.items() for spelt in (name, str(one))}
    if weights in own:
        state, origin = fetch(own[weights]), str(own[weights])
    elif Path(weights).is_file():
        state, origin = read(weights), weights
    else:
        raise UserError(
            f"weights={weights!r} is neither a file nor one of torchvision's for {model}: {', '.join(known)}"
        )
    try:
        net.load_state_dict(state, strict=True)
    except Exception as error:
        reason = brief(error, 400)
        raise UserError(f"{weights} does not hold the weights of torchvision's {model}: {reason}") from error
    return origin


def read(path: str) -> dict[str, Any]:
    """The tensors of a file, by its suffix; no code in it is ever run."""
    reader: Callable[[str], Any] = load_file if path.endswith(".safetensors") else load_pickle
    try:
        return reader(path)
    except Exception as error:
        reason = brief(error, 200)
        raise UserError(
            f"{path} cannot be read as a state dict (.safetensors, or .pth of tensors alone): {reason}"
        ) from error


def load_pickle(path: str) -> Any:
    return torch.load(path, map_location="cpu", weights_only=True)


def fetch(weights: Any) -> dict[str, Any]:
    """torchvision's own weights, from torch.hub's cache or the network; a failure says what to put where."""
    try:
        with redirect_stdout(sys.stderr):  # torch.hub announces the download where our own output goes
            return weights.get_state_dict(progress=True, check_hash=True, weights_only=True)
    except Exception as error:
        folder = Path(torch.hub.get_dir()) / "checkpoints"
        raise UserError(
            f"could not fetch {weights}: {error}; put {weights.url} into {folder}, or give weights: PATH"
        ) from error
