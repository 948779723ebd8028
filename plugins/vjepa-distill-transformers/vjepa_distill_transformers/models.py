"""From a config and a place to a model of transformers: nothing missing, nothing unused, values in fp32."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError
from safetensors.torch import load_file
from vjepa_distill import UserError

from vjepa_distill_transformers.families import FAMILIES, Family
from vjepa_distill_transformers.sources import Source, in_short

# Names of a transformer block's tensors, and of parts beside the encoder that have blocks of their own.
BLOCK = re.compile(r"(^|\.)(layer|layers|blocks|stages)\.\d+\.")
APART = re.compile(r"^(model\.)?(text_model|decoder|predictor|head|vision_model\.head)\.")


def family_of(values: Mapping[str, Any], name: str) -> Family:
    """The adapter for a config; UserError for a model type that has none."""
    kind = values.get("model_type")
    if kind not in FAMILIES:
        raise UserError(
            f"{name} is of model_type {kind!r}, which has no adapter; there are {', '.join(FAMILIES)}"
        )
    return FAMILIES[kind]


def config_of(family: Family, values: Mapping[str, Any], name: str, strict: bool) -> Any:
    """The config of the vision model, also out of one of image and text.

    strict: refuse what the class does not know, for values that a person typed; files may hold more.
    """
    kind = getattr(transformers, family.config)
    values = dict(values.get("vision_config", values), model_type=kind.model_type)
    known = kind().to_dict()
    for key in values if strict else ():
        if key not in known:
            close = get_close_matches(key, known, n=3)
            hint = f" Did you mean {' or '.join(close)}?" if close else ""
            raise UserError(f"config of {name}: {family.config} has no {key!r}.{hint}")
    try:
        return kind.from_dict(values)
    except Exception as problem:  # whatever a class says of values that it cannot take
        raise UserError(f"config of {name} does not make a {family.config}: {in_short(problem)}") from problem


def plain(config: Any) -> dict[str, Any]:
    """What sets a config apart from any other, as values that a file can hold; `config_of` reads them."""
    shared = transformers.PreTrainedConfig().to_dict().keys() - {"model_type"}
    known = type(config)().to_dict().keys() - shared
    return json.loads(json.dumps({key: value for key, value in config.to_dict().items() if key in known}))


def changed(family: Family, config: Any) -> Any:
    """The config of what is built: without the parts that no token depends on."""
    other = type(config).from_dict(config.to_dict())
    for key, value in family.changes(config).items():
        setattr(other, key, value)
    return other


def untrained(family: Family, config: Any) -> Any:
    """The model with the library's own random values."""
    return freeze(getattr(transformers, family.model)(changed(family, config)), family)


def trained(family: Family, config: Any, source: Source, file: Path | None) -> Any:
    """The model with the values at the source, or of one safetensors file.

    UserError where they cannot be had, or where the tokens depend on a parameter that they lack.
    """
    kind = getattr(transformers, family.model)
    how = {"config": changed(family, config), "dtype": torch.float32}
    how |= {"output_loading_info": True, "ignore_mismatched_sizes": True}  # reported, and refused below
    with quiet():
        try:
            if file is None:
                model, report = kind.from_pretrained(source.place, revision=source.revision or "main", **how)
            else:
                model, report = kind.from_pretrained(None, state_dict=load_file(file), **how)
        except SafetensorError as problem:
            raise UserError(f"{file or source.place} cannot be read: {in_short(problem)}") from problem
        except OSError as problem:
            if source.local:
                raise UserError(f"{source.place} holds no weights: {in_short(problem)}") from problem
            raise source.unreachable(problem) from problem
        except (RuntimeError, ValueError) as problem:
            raise UserError(
                f"{file or source.place} does not fit its config: {in_short(problem)}"
            ) from problem
    refuse_partial(report, family, str(file or source.place))
    return freeze(model, family)


def refuse_partial(report: Mapping[str, Any], family: Family, place: str) -> None:
    """Nothing that a token depends on may be missing or of another shape, and no block may be left over."""
    over = sorted(key for key in report["unexpected_keys"] if BLOCK.search(key) and not APART.search(key))
    if over:
        names = ", ".join(over[:4]) + (", ..." if len(over) > 4 else "")
        raise UserError(
            f"{place} holds more than the {family.model} of its config.json: {len(over)} left over: {names}; "
            "give a config.json that fits the weights"
        )
    missing = sorted(key for key in report["missing_keys"] if not re.search(family.unused, key))
    started = [key for key in missing if re.search(family.optional, key)]
    other = [
        f"{key} {list(came)} in place of {list(due)}" for key, came, due in sorted(report["mismatched_keys"])
    ]
    lacking = [key for key in missing if key not in started] + other
    if lacking:
        names = ", ".join(lacking[:4]) + (", ..." if len(lacking) > 4 else "")
        raise UserError(
            f"{place} does not hold the weights of a {family.model}: {len(lacking)} missing or of another "
            f"shape: {names}; give weights that fit its config.json"
        )
    if started:
        words = f"{place} has no norm after the last block ({', '.join(started)}): tokens get one that only "
        warnings.warn(words + "centres and scales", stacklevel=2)


def freeze(model: Any, family: Family) -> Any:
    """Parameters that no token depends on stop asking for a gradient: DDP would wait for it for ever."""
    for name, parameter in model.named_parameters():
        if re.search(family.unused, name):
            parameter.requires_grad_(False)
    return model


@contextmanager
def quiet() -> Iterator[None]:
    """Without the library's table of heads that are left out: `refuse_partial` judges what is missing."""
    log = transformers.utils.logging
    before, shown = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity_error()
    log.disable_progress_bar()
    try:
        yield
    finally:
        log.set_verbosity(before)
        if shown:
            log.enable_progress_bar()
