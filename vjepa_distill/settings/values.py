"""Whether a value is of the type that an annotation says: a factory's parameter, a field of the settings."""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any

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


def words_of(hint: Any) -> str:
    """For example ``int or null``, or ``choice of bf16, fp32``."""
    if typing.get_origin(hint) is typing.Literal:
        return f"choice of {', '.join(str(one) for one in typing.get_args(hint))}"
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return " or ".join(words_of(one) for one in typing.get_args(hint))
    if hint is type(None):
        return "null"
    return hint.__name__ if isinstance(hint, type) and not typing.get_args(hint) else str(hint)
