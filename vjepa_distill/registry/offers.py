"""What a plugin offers, as a value, and the rules that hold between offers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import combinations
from typing import Any

from vjepa_distill.errors import UserError

KINDS = ("backbone", "objective", "decoder")
BUILTIN = "builtin"
ONLY = "VJEPA_DISTILL_LOAD_PLUGINS"
"""The environment variable that names the plugins to load, comma-separated; empty for none, unset for all."""

_NAME = re.compile(r"[\w.-]+(/([\w.-]+|\*))?")
_TARGET = re.compile(r"[\w.]+:[\w.]+")


class PluginError(UserError):
    """A plugin that breaks the contract of hookspecs.py."""


@dataclass(frozen=True)
class Offer:
    """One name and who stands behind it."""

    kind: str
    name: str
    """``family/model``, or ``family/*`` for a factory that takes the model's name first."""
    target: Callable[..., Any] | str
    """The factory, or ``"module:attribute"`` to be imported when it is first needed."""
    summary: str
    distribution: str
    version: str
    plugin: str
    """The name of the entry point."""
    api: int
    models: Callable[[], Iterable[str]] | str | None = None
    """Of a ``family/*``: what lists its models, as a target is given."""

    @property
    def origin(self) -> str:
        """Who offers it, in words."""
        return f"{self.distribution} {self.version} (plugin {self.plugin!r})"

    def model(self, name: str) -> str:
        """What a ``family/*`` is asked for by this name; empty when the name is not of this family."""
        family = self.name.removesuffix("*")
        rest = name.removeprefix(family)
        return rest if family != self.name and rest not in (name, "*") else ""


@dataclass(frozen=True)
class Plugin:
    """One entry point: what it gave, or why it gave nothing."""

    name: str
    distribution: str
    version: str
    module: str
    error: str
    """Empty when all went well."""
    offers: tuple[str, ...]
    """The names it gave; of a broken plugin, those it came to before it broke."""

    @property
    def complaint(self) -> str:
        """What to say of it where it is broken."""
        return f"Plugin {self.name!r} of {self.distribution} {self.version} is broken: {self.error}"


def near(word: str, words: Iterable[str]) -> str:
    """`` Did you mean …?`` with the closest of the words, or nothing."""
    close = get_close_matches(word, list(words), n=3, cutoff=0.6)
    return f" Did you mean {' or '.join(close)}?" if close else ""


def check_form(offer: Offer) -> None:
    """A name and a target that could work, judged without importing anything."""
    if not _NAME.fullmatch(offer.name) or (offer.kind == "backbone" and "/" not in offer.name):
        raise PluginError(
            f"{offer.kind} name {offer.name!r}: expected family/model (or family/*), as in quat/small"
        )
    for what, target in {"target": offer.target, "models": offer.models or offer.target}.items():
        lazy = isinstance(target, str) and _TARGET.fullmatch(target)
        if not lazy and not callable(target):
            raise PluginError(
                f"{what} {target!r} of {offer.kind} {offer.name!r}: "
                "expected a callable or 'package.module:attribute'"
            )
    if offer.models and not offer.name.endswith("/*"):
        raise PluginError(f"{offer.kind} {offer.name!r} has models=…, which only a family/* can have")


def contested(offers: Sequence[Offer]) -> dict[int, str]:
    """The offers (by id) that clash with another distribution's, and the words for it.

    Strangers both lose the name, since the order of loading is no reason to prefer one; a built-in keeps it.
    """
    words: dict[int, str] = {}
    for one, two in combinations(offers, 2):
        if one.kind != two.kind or one.origin == two.origin:
            continue
        if one.name == two.name or one.model(two.name) or two.model(one.name):
            text = (
                f"{two.kind} {two.name!r} is offered by both {one.origin} and {two.origin}: "
                f"uninstall one of them, or name the plugins to load in {ONLY}"
            )
            words |= {id(offer): text for offer in (one, two) if offer.plugin != BUILTIN}
    return words
