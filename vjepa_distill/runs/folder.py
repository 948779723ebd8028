"""The run folder: refused when it holds something, what a run writes there, and how a run is gone on with."""

from __future__ import annotations

import os
import shutil
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import yaml

from vjepa_distill.errors import UserError
from vjepa_distill.files import write_atomic
from vjepa_distill.settings import Run
from vjepa_distill.settings.older import completed
from vjepa_distill.settings.run import check_format

CONFIG = "config.yaml"
BEST = "best"
"""The folder in a run's own where the best step's exports are."""
# What may differ between a run and its continuation without changing what is computed.
FREE = {"out", "resume", "overwrite", "log_every", "eval_every", "save_every", "keep", "threads", "device"}
FREE |= {"trouble"}  # what stopped a run may be answered otherwise when it is gone on with
FREE_DATA = {"workers", "timeout", "index", "max_bad", "root"}


def check(config: Run) -> None:
    """UserError where the folder may not be taken: in use without --resume or --overwrite, or no run's."""
    run = Path(config.out)
    _check_place(run)
    used = run.exists() and any(run.iterdir())
    if config.resume:
        _check_same(config, run)
    elif config.overwrite and used and (needed := _read_from(config, run)):
        raise UserError(
            f"--overwrite: {run} holds what this run is to read ({needed[0]}), and would be emptied; "
            "give another --out"
        )
    elif config.overwrite and used and not (run / CONFIG).exists():
        raise UserError(
            f"--overwrite: {run} holds no {CONFIG}, so it is no run of ours; empty it or use another --out"
        )
    elif used and not config.overwrite:
        raise UserError(
            f"{run} is not empty: type --resume to go on with it, --overwrite to empty it, or another --out"
        )


def _check_place(run: Path) -> None:
    there = next(place for place in (run.absolute(), *run.absolute().parents) if place.exists())
    if not there.is_dir():
        raise UserError(f"--out {run}: {there} is a file; give a folder, new or empty")
    if not os.access(there, os.W_OK):
        raise UserError(f"--out {run}: nothing may be written in {there}; give another folder")


def _read_from(config: Run, run: Path) -> list[str]:
    """The settings that name something in the folder: a run to start from, a teacher, weights, videos."""
    settings = plain(config)
    components = [settings["student"], settings.get("targets"), *settings.get("teachers", {}).values()]
    named = [settings["data"]["root"], settings.get("init")]
    for component in filter(None, components):
        named += [component["name"], *component["options"].values()]
    there = (text for text in named if isinstance(text, str) and os.path.exists(text))
    return [text for text in there if Path(text).resolve().is_relative_to(run.resolve())]


def stored(run: Path | str) -> dict[str, Any] | None:
    """The settings that a run wrote down, as they lie there; None where there are none.

    UserError for a file that cannot be read or holds something else.
    """
    path = Path(run) / CONFIG
    if not path.is_file():
        return None
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as problem:
        raise UserError(f"{path} cannot be read: {str(problem).splitlines()[0]}") from problem
    if not isinstance(found, dict):
        raise UserError(f"{path} holds no settings: expected those that a run writes")
    return found


def format_of(config: Run) -> int:
    """The format of a run's settings; a continuation keeps that of the run, whatever the caller's has."""
    before = stored(config.out) if config.resume else None
    if before is None:
        return config.format
    found = before.get("format", 1)
    check_format(found)
    return found


def claim(config: Run) -> None:
    """Take the folder, once all else about the run is known to be right: --overwrite empties it now."""
    run = Path(config.out)
    if config.overwrite and run.exists():
        shutil.rmtree(run)
    try:
        run.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise UserError(f"--out {run} cannot be made: {problem.strerror}; give another folder") from problem
    text = yaml.safe_dump(plain(config), sort_keys=False, allow_unicode=True)
    write_atomic(run / CONFIG, lambda file: file.write(text.encode()))


def plain(config: Run) -> dict[str, Any]:
    """The resolved settings as YAML's own types, without what belongs to one invocation."""
    return _listed({k: v for k, v in asdict(config).items() if k not in ("resume", "overwrite")})


def _listed(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _listed(inner) for key, inner in value.items()}
    return [_listed(inner) for inner in value] if isinstance(value, list | tuple) else value


def _check_same(config: Run, run: Path) -> None:
    """A continuation computes the same thing: settings that would change it are refused by name."""
    written = stored(run)
    if written is None:
        raise UserError(f"--resume: {run} holds no {CONFIG}; start the run without --resume")
    before, now = completed(written), plain(config)
    for settings in (before, now):
        for name in FREE:
            settings.pop(name, None)
        for name in FREE_DATA:
            settings["data"].pop(name, None)
    changed = [f.name for f in fields(config) if before.get(f.name) != now.get(f.name)]
    if changed:
        told = "; ".join(f"{name} was {before.get(name)}, now {now.get(name)}" for name in changed)
        raise UserError(
            f"--resume goes on with the same run, but {told}. Leave that out, or start anew with --out"
        )
