"""Settings given from Python: nested dictionaries become the classes of this room, wrong types one line."""

from __future__ import annotations

import os
import typing
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from difflib import get_close_matches
from typing import Any, TypeVar

from vjepa_distill.errors import UserError
from vjepa_distill.settings.older import completed
from vjepa_distill.settings.values import fits, words_of

T = TypeVar("T")


def settle(owner: Any) -> None:
    """Make the parts of a dataclass what its fields say they are: see `settled`."""
    hints = typing.get_type_hints(type(owner))
    for field in fields(owner):
        setattr(owner, field.name, settled(getattr(owner, field.name), hints[field.name], field.name))


def settled(value: Any, hint: Any, name: str) -> Any:
    """The value as the type it stands for; a mapping as the dataclass whose fields it has, each in turn.

    UserError for an unknown field and for a value of another type, which it calls by `name`.
    """
    inner = typing.get_args(hint)
    if isinstance(hint, type) and is_dataclass(hint):
        return settings(hint, value, name)
    if typing.get_origin(hint) is dict and isinstance(inner[1], type) and is_dataclass(inner[1]):
        if not isinstance(value, Mapping):
            raise UserError(f"{name}={value!r}: give a dictionary, as {{'a name': {inner[1].__name__}(...)}}")
        return {key: settled(one, inner[1], f"{name}.{key}") for key, one in value.items()}
    value = os.fspath(value) if isinstance(value, os.PathLike) else value
    if not fits(value, hint):
        raise UserError(f"{name}={value!r} is no {words_of(hint)}")
    return value


def settings(kind: type[T], value: T | Mapping[str, Any], name: str) -> T:
    """A dataclass, or a mapping of its fields, as the dataclass, its parts `settled`."""
    if isinstance(value, kind):
        settle(value)
        return value
    value = completed(value) if isinstance(value, Mapping) else value
    known = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    example = f"give {kind.__name__}({known[0]}=...), or a dictionary of {', '.join(known[:3])} ..."
    if not isinstance(value, Mapping):
        raise UserError(f"{name}={value!r} is no {kind.__name__}: {example}")
    for key in value:
        if key not in known:
            close = get_close_matches(str(key), known, n=2)
            hint = f"Did you mean {' or '.join(close)}?" if close else f"It has {', '.join(known)}"
            raise UserError(f"{name} has no setting {key!r}. {hint}")
    hints = typing.get_type_hints(kind)
    return kind(**{key: settled(one, hints[key], f"{name}.{key}") for key, one in value.items()})
