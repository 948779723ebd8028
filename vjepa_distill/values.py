"""Whether a value is of the type that a factory's signature, or a field of the settings, says."""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from difflib import get_close_matches
from typing import Any, TypeVar

from vjepa_distill.errors import UserError

T = TypeVar("T")

# What a file of settings can hold, and what each may stand for; other types are the factory's own to judge.
PLAIN: dict[Any, tuple[type, ...]] = {
    int: (int,),
    float: (int, float),
    str: (str,),
    bool: (bool,),
    type(None): (type(None),),
    dict: (Mapping,),
    Mapping: (Mapping,),
    list: (list, tuple),
    tuple: (list, tuple),
    Sequence: (list, tuple),
}


def misfits(factory: Callable[..., Any], options: Mapping[str, Any]) -> dict[str, str]:
    """The options whose values are of another type than annotated, each with the type in words."""
    try:
        hints = typing.get_type_hints(vars(factory).get("__init__", factory))
    except (NameError, TypeError, AttributeError):  # annotations that only a type checker can read
        return {}
    return {
        name: words_of(hints[name])
        for name, value in options.items()
        if name in hints and not fits(value, hints[name])
    }


def fits(value: Any, hint: Any) -> bool:
    """False where the value surely is none of what the annotation allows."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return any(fits(value, one) for one in typing.get_args(hint))
    if typing.get_origin(hint) is typing.Literal:
        return value in typing.get_args(hint)
    allowed = PLAIN.get(typing.get_origin(hint) or hint)
    if allowed is None:
        return True
    if not isinstance(value, allowed) or (isinstance(value, bool) and bool not in allowed):
        return False
    inner = set(typing.get_args(hint)) - {...}
    if len(inner) != 1 or not isinstance(value, list | tuple):
        return True
    return all(fits(one, *inner) for one in value)


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
    if not fits(value, hint):
        raise UserError(f"{name}={value!r} is no {words_of(hint)}")
    return value


def settings(kind: type[T], value: T | Mapping[str, Any], name: str) -> T:
    """A dataclass, or a mapping of its fields, as the dataclass, its parts `settled`."""
    if isinstance(value, kind):
        settle(value)
        return value
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


def words_of(hint: Any) -> str:
    """For example ``int or None``."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return " or ".join(words_of(one) for one in typing.get_args(hint))
    if hint is type(None):
        return "null"
    return hint.__name__ if isinstance(hint, type) and not typing.get_args(hint) else str(hint)
