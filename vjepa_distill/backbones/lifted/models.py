"""timm's models by name: built, filled from a file, made to fit a size; what cannot be is said in a line."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import timm as library
from huggingface_hub import logging as hub_log
from huggingface_hub.constants import HF_HUB_CACHE
from safetensors.torch import load_file
from torch import Tensor, nn

from vjepa_distill.errors import UserError, brief


def two(size: int | Sequence[int] | None) -> tuple[int, int] | None:
    """(H, W) of one side or two; UserError for anything else."""
    if size is None:
        return None
    sides: list[Any] = [size, size] if isinstance(size, int | str) else list(size)
    if len(sides) != 2 or not all(type(side) is int and side > 0 for side in sides):
        raise UserError(f"size={size!r} is not a number of pixels; give one, or two as [H, W]")
    return sides[0], sides[1]


def build(model: str, pretrained: bool, options: dict[str, Any], size: tuple[int, int] | None = None) -> Any:
    """timm.create_model with any-size input where the model has it; failures in one line.

    A model that `fit` can resize once its weights are there is built at its own size; another at `size`, if
    it knows sizes at all.
    """
    if not library.is_model(model):
        bare = model.rpartition("/")[2].lower()  # as in hf-hub:timm/NAME
        near = get_close_matches(bare, library.list_models(), n=3, cutoff=0.5)
        raise UserError(
            f"timm {library.__version__} has no model {model!r}; near it: {', '.join(near) or 'nothing'}"
        )
    if pretrained and not library.models.is_model_pretrained(model):
        tags = ", ".join(library.list_pretrained(model.split(".")[0] + ".*")[:5]) or "none"
        raise UserError(f"timm has no weights called {model!r} (it has: {tags}); give weights: PATH")
    built = attempt(model, pretrained, options, {"dynamic_img_size": True})
    if size and not hasattr(built, "set_input_size"):
        built = attempt(model, pretrained, options, {"img_size": size})
    return built


def attempt(model: str, pretrained: bool, options: dict[str, Any], extra: dict[str, Any]) -> Any:
    """The model with the extra arguments if it knows them, else without; what timm says, in one line."""
    if pretrained:
        hub_log.set_verbosity_error()  # its retries; what is wrong is said below
    try:
        try:
            return library.create_model(model, pretrained, **{**extra, **options})
        except TypeError:  # an argument that this model does not have
            return library.create_model(model, pretrained, **options)
    except Exception as error:
        reason = brief(error, 400)
        hint = where(model) if pretrained else ""
        raise UserError(f"timm could not create {model!r} with {options}: {reason}{hint}") from error


def where(model: str) -> str:
    """Where timm would have its weights from, and what to do without a network."""
    config = library.models.get_pretrained_cfg(model)
    source = (config.hf_hub_id or config.url) if config else None
    return f" (weights from {source}, kept in {HF_HUB_CACHE}); without a network give weights: PATH"


def load_strictly(vit: nn.Module, path: str, model: str, size: tuple[int, int] | None) -> None:
    """The whole model from a safetensors file, every name and shape equal; UserError tells what differs.

    size: what the model was built for, where that was asked: then timm's own filter may resample positions.
    """
    if not Path(path).is_file():
        raise UserError(
            f"there is no weights file {path}; give the safetensors of {model}, or `pretrained: true`"
        )
    try:
        state = load_file(path)
        vit.load_state_dict(resampled(state, vit) if size else state, strict=True)
    except Exception as error:
        reason = brief(error, 400)
        hint = "; or leave `size` out, if timm cannot resample this model's positions" if size else ""
        raise UserError(f"{path} does not hold the weights of timm's {model}: {reason}{hint}") from error


def resampled(state: dict[str, Tensor], vit: nn.Module) -> dict[str, Tensor]:
    """The tensors for this model's size, by timm's own filter of checkpoints where shapes differ."""
    own = vit.state_dict()
    same = all(state[name].shape == own[name].shape for name in state.keys() & own.keys())
    convert = getattr(sys.modules[type(vit).__module__], "checkpoint_filter_fn", None)
    return state if same or hasattr(vit, "set_input_size") or convert is None else convert(state, vit)


def fit(built: Any, model: str, size: tuple[int, int] | None) -> None:
    """Another size by timm's own resampling of positions and windows, where the model has it."""
    if size is None or not hasattr(built, "set_input_size"):
        return
    try:
        built.set_input_size(img_size=size)
    except Exception as error:
        reason = brief(error, 300)
        raise UserError(f"timm's {model} cannot be built for size {list(size)}: {reason}") from error


def origin(built: Any, weights: str | None, pretrained: bool) -> dict[str, str]:
    """Where the weights are from, or could be, and under which licence, as far as timm knows."""
    if weights:
        return {"weights": weights, "licence": "unknown: the file does not say"}
    config = built.pretrained_cfg
    name = ".".join(filter(None, [config.get("architecture"), config.get("tag")]))
    source = config.get("hf_hub_id") or config.get("url")
    licence = config.get("license") or "unknown"
    if pretrained:
        return {"weights": f"timm's {name} ({source or 'no address'})", "licence": licence}
    offered = {"pretrained": f"true takes {source}, licence {licence}"} if source else {}
    return {"weights": "random", **offered}
