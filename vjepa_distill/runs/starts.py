"""The encoders that an evaluation compares: this one, the same untrained, and what its run started from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vjepa_distill.errors import UserError
from vjepa_distill.runs import encoders, exports
from vjepa_distill.runs.folder import BEST, stored
from vjepa_distill.settings import Component


@dataclass
class Chosen:
    """Encoders by name, and what the record says of them."""

    name: str
    encoders: dict[str, nn.Module]
    made: dict[str, Any]
    """"stage" and "backbone"."""
    notes: list[str] = field(default_factory=list)


def of(
    source: str | Path | nn.Module,
    which: str,
    options: Mapping[str, Any] | None,
    seed: int,
    start: str | Path | nn.Module | None = None,
    random: nn.Module | None = None,
) -> Chosen:
    """ "this", "random" and, where there is one, "start". UserError for what cannot be loaded."""
    if isinstance(source, nn.Module):
        kind = type(source).__name__
        found = {"this": source, **({"random": random} if random is not None else {})}
        chosen = Chosen(kind, found, {"stage": None, "backbone": {"name": kind}})
    else:
        chosen = _named(source, which, options, seed)
        start = start_of(source, chosen.notes) if start is None else start
    if isinstance(start, nn.Module):
        chosen.encoders["start"] = start
    elif start is not None:
        chosen.encoders["start"] = _module(exports.load_backbone(start))
        chosen.made["start"] = str(start)
    return chosen


def _named(source: str | Path, which: str, options: Mapping[str, Any] | None, seed: int) -> Chosen:
    path, given = exports.locate(source, which), dict(options or {})
    component = Component(str(source), given)
    if given and path is None:
        encoders.check([component], {})
    built = []
    for untrained in (False, True):
        torch.manual_seed(seed)
        built.append(_module(exports.load_backbone(source, which, given, random_weights=untrained)))
    record = exports.read_record(path) if path else {"backbone": encoders.provenance_of(component, built[0])}
    made = {"stage": record.get("stage"), "backbone": record["backbone"]}
    notes = [f"{source} has random weights itself"] if path is None and encoders.untrained(component) else []
    return Chosen(str(source), dict(zip(("this", "random"), built, strict=True)), made, notes)


def start_of(source: str | Path, notes: list[str]) -> str | None:
    """The run that this one started from, by its config.yaml, while it exists; else words in `notes`."""
    path = exports.locate(source)
    if path is None:
        return None
    run = path.parent.parent if path.parent.name == BEST else path.parent
    told = stored(run)
    if told is None:
        return None
    begun = told.get("init") or (told.get("student") or {}).get("name")
    try:
        if begun and exports.locate(begun):
            return str(begun)
    except UserError:
        pass
    if told.get("init"):
        notes.append(f"it started from {begun}, which is no run here: name it by --start RUN")
    return None


def _module(backbone: Any) -> nn.Module:
    """A backbone is a module by contract, which its type cannot say."""
    return backbone
