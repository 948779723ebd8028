"""What is done to the words of the command line before they are parsed."""

from __future__ import annotations

import json
import re
import typing
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import yaml

from vjepa_distill.errors import UserError
from vjepa_distill.settings.older import lacking

NAME = re.compile(r"(\w[\w-]*)(?:\.ya?ml)?")
NESTED = re.compile(r"--(teachers|objectives)\.([^.=]+)\.options\.([^.=]+)(?:=(.*))?", re.DOTALL)


def value_of(arguments: Sequence[str], option: str) -> str | None:
    """What stands behind an option, as ``--option VALUE`` or ``--option=VALUE``; None where it is absent."""
    for here, following in zip_longest(arguments, arguments[1:]):
        if here == option:
            return following
        if here.startswith(f"{option}="):
            return here.partition("=")[2]
    return None


def for_training(arguments: Sequence[str]) -> list[str]:
    """The words of distill and jepa-train as the parser takes them."""
    return with_nested_options(with_older_keys(with_run_config(with_named_config(arguments))))


def with_named_config(arguments: Sequence[str]) -> list[str]:
    """``--config distill_small`` as the path of the configuration that comes along; a file here wins."""
    given = list(arguments)
    for here, word in enumerate(given):
        if word.startswith("--config="):
            given[here] = f"--config={_config(word.partition('=')[2])}"
        elif here and given[here - 1] == "--config":
            given[here] = _config(word)
    return given


def _config(value: str) -> str:
    """The path for a name; what looks like none (a path, YAML, an option) is the parser's to judge."""
    name = NAME.fullmatch(value)
    if name is None or (Path(value).exists() and not Path(value).is_dir()):
        return value
    known = shipped_configs()
    if name[1] in known:
        return str(known[name[1]])
    if value != name[1]:
        return value  # a file's name, which the parser misses by that name
    raise UserError(
        f"--config {value}: no file here, and no name of ours; type a path or one of {', '.join(known)}"
    )


def shipped_configs() -> dict[str, Path]:
    """The files of configs/ by name: in the installed package, else beside it in a source checkout."""
    package = Path(__file__).parents[1]
    folders = (package / "configs", package.parent / "configs")
    found = ({file.stem: file for file in sorted(folder.glob("*.yaml"))} for folder in folders)
    return next(filter(None, found), {})


def check_sections(schema: type, config: str | None) -> None:
    """UserError where a --config file gives a number, a list or nothing for a setting that has parts.

    The parser does not see it where a part of the same setting is typed, and raises where none is.
    """
    given, hints = _settings(config), typing.get_type_hints(schema)
    for name, hint in hints.items():
        if name not in given or not is_dataclass(hint) or isinstance(given[name], Mapping | str):
            continue
        parts = [f"{field.name}: …" for field in fields(hint)][:3]
        raise UserError(
            f"{config}: {name} is set by its parts, and {json.dumps(given[name], default=str)} is none; "
            f"write {name}: {{{', '.join(parts)}}}, or leave it out"
        )


def with_run_config(arguments: Sequence[str]) -> list[str]:
    """``--resume --out RUN`` alone goes on with the settings that the run was started with."""
    given = list(arguments)
    if "--resume" not in given or value_of(given, "--config"):
        return given
    stored = Path(value_of(given, "--out") or ".") / "config.yaml"
    return [given[0], "--config", str(stored), *given[1:]] if stored.exists() else given


def with_older_keys(arguments: Sequence[str]) -> list[str]:
    """What a run's --config file lacks, as the version that wrote it behaved; what is typed overrules it."""
    given = list(arguments)
    lacked = lacking(_settings(value_of(given, "--config")))
    return [given[0], *(f"--{key}={_typed(value)}" for key, value in lacked), *given[1:]]


def _typed(value: Any) -> str:
    """A value as it is typed behind an option."""
    return value if isinstance(value, str) else json.dumps(value)


def with_clip_of_run(arguments: Sequence[str], source: str | None, by_name: bool = True) -> list[str]:
    """``encode --from RUN`` cuts clips as the run did; what is typed comes later and overrules it.

    by_name: a registered name will do, too, if it is said which clips it takes.
    """
    given = list(arguments)
    if source is None or "--help" in given:
        return given
    from vjepa_distill.runs.exports import clip_of, need_clip

    typed = (word.partition("=")[0].removeprefix("--data.") for word in given if word.startswith("--data."))
    if by_name:
        need_clip(source, set(typed))
    clip = clip_of(source)
    return [given[0], *(f"--data.{name}={_typed(value)}" for name, value in clip.items()), *given[1:]]


def with_nested_options(arguments: Sequence[str]) -> list[str]:
    """``--teachers.main.options.weights PATH`` as ``--teachers.main.options {"weights": "PATH"}``.

    jsonargparse takes dotted options of a component, but not of one in a mapping. Options that the --config
    file gives for the same component are kept.
    """
    kept: list[str] = []
    found: dict[tuple[str, str], dict[str, Any]] = {}
    words = iter(arguments)
    for word in words:
        match = NESTED.fullmatch(word)
        if match is None:
            kept.append(word)
            continue
        group, key, option, value = match.groups()
        value = next(words, "") if value is None else value
        found.setdefault((group, key), {})[option] = yaml.safe_load(value)
    settings = _settings(value_of(arguments, "--config")) if found else {}
    for (group, key), options in found.items():
        before = ((settings.get(group) or {}).get(key) or {}).get("options") or {}
        kept += [f"--{group}.{key}.options", json.dumps({**before, **options})]
    return kept


def _settings(path: str | None) -> dict[str, Any]:
    """The settings of a --config file; what is wrong with it is said when it is parsed."""
    if path is None or not Path(path).is_file():
        return {}
    try:
        settings = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError):
        return {}
    return settings if isinstance(settings, dict) else {}
