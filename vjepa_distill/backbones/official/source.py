"""From `weights: SOURCE` to tensors: a file, a folder of transformers' form, or a repository of the hub."""

from __future__ import annotations

import json
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from vjepa_distill.errors import UserError, brief

HUB = "hf-hub:"
TORCH = (".pt", ".pth", ".tar", ".bin")
KIND = (
    "give a .pt or .safetensors file, a folder with config.json and model.safetensors, or hf-hub:OWNER/NAME"
)


BEGINNINGS = (b"PK", b"\x80")
"""Of a file of torch.save: a zip archive, or in old ones a pickle."""


def is_official(source: str) -> bool:
    """Whether --init names weights of this kind, and not a run of ours or its export."""
    path = Path(source)
    if path.suffix == ".safetensors" and path.is_file():
        try:
            return not _ours(path)
        except (OSError, safetensors.SafetensorError):
            return False  # whoever reads it next says what is wrong with it
    return source.startswith(HUB) or path.suffix in TORCH or (path / "config.json").is_file()


def _ours(path: Path) -> bool:
    """Whether a safetensors file is the export of a run."""
    with safetensors.safe_open(str(path), framework="pt") as file:
        return "vjepa_distill" in (file.metadata() or {})


def fetched(source: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a source holds, as {section or name: tensors or tensor}, and its config.json ({} without one).

    Files that need pickle to run code are refused; UserError, in one line, for whatever cannot be had.
    """
    path = _from_hub(source) if source.startswith(HUB) else Path(source)
    if path.is_dir():
        return _folder(path, source)
    if not path.is_file():
        raise UserError(f"there are no weights {source}: {KIND}")
    return (_safetensors(path) if path.suffix == ".safetensors" else _torch(path)), {}


def _from_hub(source: str) -> Path:
    """The folder of a repository in the hub's cache, fetched if need be; "@" gives a revision."""
    import huggingface_hub  # half a second, for this alone

    repository, _, revision = source.removeprefix(HUB).partition("@")
    wanted = ["config.json", "*.safetensors", "*.safetensors.index.json"]
    try:
        huggingface_hub.logging.set_verbosity_error()  # its retries; what is wrong is said below
        return Path(
            huggingface_hub.snapshot_download(repository, revision=revision or None, allow_patterns=wanted)
        )
    except Exception as problem:  # no network, no permission, no such repository: each has classes of its own
        cause = problem.__cause__ or problem  # the hub's own words leave holes where a network is wanting
        reason = brief(cause, 200).rstrip(".")
        cache = huggingface_hub.constants.HF_HUB_CACHE
        raise UserError(
            f"{repository} cannot be had from the Hugging Face hub, nor from its cache {cache}: {reason}. "
            f"Fetch it where there is a network and permission (hf download {repository}), and type "
            "weights: PATH, or --init PATH, of that folder"
        ) from problem


def _folder(folder: Path, source: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """transformers' form: config.json, and model.safetensors or its index of several."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{source} holds no config.json: {KIND}") from None
    except ValueError as problem:
        raise UserError(f"{source}: config.json is not JSON: {problem}") from problem
    if config.get("model_type") != "vjepa2":
        raise UserError(f"{source} holds a model of type {config.get('model_type')!r}, not vjepa2")
    index = folder / "model.safetensors.index.json"
    names = {"model.safetensors"}
    if index.is_file():
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    if gone := [name for name in sorted(names) if not (folder / name).is_file()]:
        raise UserError(f"{source} holds no {gone[0]}: fetch the whole repository, or {KIND}")
    state: dict[str, Tensor] = {}
    for name in sorted(names):
        state |= _safetensors(folder / name)
    return state, config


def _safetensors(path: Path) -> dict[str, Tensor]:
    try:
        if _ours(path):
            raise UserError(f"{path} was exported by vjepa-distill: type it in place of the backbone's name")
        return safetensors.torch.load_file(path)
    except (OSError, safetensors.SafetensorError) as problem:
        raise UserError(f"{path} cannot be read as safetensors: {brief(problem, 200)}") from problem


def _torch(path: Path) -> dict[str, Any]:
    """A file of torch.save; large ones are mapped, so that an optimizer's state in it is never read."""
    with path.open("rb") as file:
        if not file.read(2).startswith(BEGINNINGS):
            raise UserError(f"{path} is no file of torch.save, or a damaged one")
    try:
        found = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as problem:
        raise UserError(
            f"{path} holds more than tensors and plain values, and reading that would run its code. Where "
            "you trust it, save its tensors alone: torch.save({name: file[name] for name in ('encoder', "
            f"'target_encoder', 'predictor')}}, PATH) ({brief(problem, 120)})"
        ) from problem
    except Exception as problem:  # text, a pointer of git-lfs, nothing at all: each fails in its own way
        raise UserError(
            f"{path} is no file of torch.save, or a damaged one: {brief(problem, 200)}"
        ) from problem
    if not isinstance(found, Mapping):
        raise UserError(f"{path} holds a {type(found).__name__}, not the state of a model: {KIND}")
    return dict(found)
