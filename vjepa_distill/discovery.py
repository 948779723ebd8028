"""Loads plugins, each in its own try: one that is broken is named with its reason, and the rest go on."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from importlib import metadata
from typing import Any

import pluggy

from vjepa_distill import __version__, hookspecs
from vjepa_distill.errors import UserError
from vjepa_distill.hookspecs import API, PROJECT, Register

KINDS = ("backbone", "objective", "decoder")
ONLY = "VJEPA_DISTILL_LOAD_PLUGINS"
STRICT = "VJEPA_DISTILL_STRICT_PLUGINS"
BUILTIN = metadata.EntryPoint("builtin", "vjepa_distill.builtin", PROJECT)

_NAME = re.compile(r"[\w.-]+(/([\w.-]+|\*))?")
_TARGET = re.compile(r"[\w.]+:[\w.]+")
_log = logging.getLogger(__name__)


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
    """The names it registered; of a broken plugin, those it came to before it broke."""


@dataclass
class Found:
    """Everything that loading the plugins brought to light."""

    offers: dict[str, dict[str, Offer]] = field(default_factory=lambda: {kind: {} for kind in KINDS})
    plugins: list[Plugin] = field(default_factory=list)
    contested: dict[tuple[str, str], str] = field(default_factory=dict)
    """(kind, name) that two strangers want: neither gets it, since the order of loading is no reason."""
    left_out: tuple[str, ...] = ()
    """Entry points that ``VJEPA_DISTILL_LOAD_PLUGINS`` excludes."""


class PluginError(UserError):
    """A plugin that breaks the contract of hookspecs.py."""


def near(word: str, words: Iterable[str]) -> str:
    """`` Did you mean …?`` with the closest of the words, or nothing."""
    close = get_close_matches(word, list(words), n=3, cutoff=0.6)
    return f" Did you mean {' or '.join(close)}?" if close else ""


def discover() -> Found:
    """Load the built-ins, then every installed plugin that ``VJEPA_DISTILL_LOAD_PLUGINS`` allows.

    Raises UserError when that variable names a plugin that is not installed and, with
    ``VJEPA_DISTILL_STRICT_PLUGINS=1``, for the first plugin that is broken.
    """
    installed = sorted(metadata.entry_points(group=PROJECT), key=_origin)
    allowed = _allowed(installed)
    found = Found(left_out=tuple(entry.name for entry in installed if entry not in allowed))
    for entry in [BUILTIN, *allowed]:
        found.plugins.append(_load(entry, found))
    return found


def _origin(entry: metadata.EntryPoint) -> tuple[str, str, str]:
    """Distribution, version, name of an entry point; the built-in one is ours though nothing declares it."""
    if entry is BUILTIN:
        return "vjepa-distill", __version__, entry.name
    distribution = entry.dist
    assert distribution is not None, "entry_points() always says which distribution"
    return distribution.name, distribution.version, entry.name


def _allowed(installed: Sequence[metadata.EntryPoint]) -> list[metadata.EntryPoint]:
    """The entry points the environment allows, by their own or their distribution's name; unset means all."""
    if (setting := os.environ.get(ONLY)) is None:
        return list(installed)
    wanted = {word.strip() for word in setting.split(",")} - {"", "builtin"}
    names = {entry.name for entry in installed} | {_origin(entry)[0] for entry in installed}
    for word in sorted(wanted - names):
        known = ", ".join(sorted({entry.name for entry in installed})) or "none"
        raise UserError(
            f"{ONLY} names {word!r}, which is not installed (plugins: {known}).{near(word, names)}"
        )
    return [entry for entry in installed if wanted & {entry.name, _origin(entry)[0]}]


def _load(entry: metadata.EntryPoint, found: Found) -> Plugin:
    """Import one entry point and run its hooks; of a broken one nothing stays but its name and the reason."""
    offers: list[Offer] = []
    error = ""
    try:
        _run_hooks(entry, offers, found)
    except (Exception, SystemExit) as problem:
        kind = "" if isinstance(problem, PluginError) else f"{type(problem).__name__}: "
        error = " ".join(f"{kind}{problem}".split())
        _report(entry, error, problem)
    else:
        for offer in offers:
            found.offers[offer.kind][offer.name] = offer
    distribution, version, name = _origin(entry)
    return Plugin(name, distribution, version, entry.value, error, tuple(offer.name for offer in offers))


def _run_hooks(entry: metadata.EntryPoint, offers: list[Offer], found: Found) -> None:
    """Fill ``offers`` from one plugin.

    Every plugin has a manager of its own, so nothing of a broken one is left to unregister, and two
    distributions may use the same entry-point name (a shared manager silently keeps the first).
    """
    module = entry.load()
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(hookspecs)
    hooks = ", ".join(f"register_{kind}s" for kind in KINDS)
    manager.register(module)
    if not manager.get_hookcallers(module):
        raise PluginError(
            f"{entry.value} holds no function marked with @vjepa_distill.hookimpl (hooks: {hooks})"
        )
    try:
        manager.check_pending()
    except pluggy.PluginValidationError as problem:
        raise PluginError(f"{problem}; the hooks are {hooks}") from problem
    for kind in KINDS:
        getattr(manager.hook, f"register_{kind}s")(register=_register(kind, entry, offers, found))


def _register(kind: str, entry: metadata.EntryPoint, offers: list[Offer], found: Found) -> Register:
    """The function a hook is handed."""

    def register(name: str, target: Any, *, summary: str = "", api: int = API, **later: Any) -> None:
        offer = Offer(kind, name, target, summary, *_origin(entry), api)
        offers.append(offer)
        if api > API:
            raise PluginError(
                f"{kind} {name!r} was made for plugin API {api}, this vjepa-distill speaks {API}: "
                f"upgrade vjepa-distill, or install an older {offer.distribution} than {offer.version}"
            )
        if later:
            raise PluginError(
                f"register({name!r}, …) got {', '.join(later)}; it takes name, target, summary, api"
            )
        _check_form(offer)
        _check_free(offer, offers[:-1], found)

    return register


def _check_form(offer: Offer) -> None:
    """A name and a target that could work, judged without importing anything."""
    if not _NAME.fullmatch(offer.name) or (offer.kind == "backbone" and "/" not in offer.name):
        raise PluginError(
            f"{offer.kind} name {offer.name!r}: expected family/model (or family/*), as in quat/small"
        )
    lazy = isinstance(offer.target, str) and _TARGET.fullmatch(offer.target)
    if not lazy and not callable(offer.target):
        raise PluginError(
            f"target {offer.target!r} of {offer.kind} {offer.name!r}: "
            "expected a callable or 'package.module:attribute'"
        )


def _check_free(offer: Offer, own: Sequence[Offer], found: Found) -> None:
    """Refuse a name that is taken, and take it from the stranger who holds it; a built-in keeps its own."""
    key = (offer.kind, offer.name)
    if key in {(mine.kind, mine.name) for mine in own}:
        raise PluginError(f"{offer.kind} {offer.name!r} is registered twice by {offer.origin}")
    if key in found.contested:
        raise PluginError(found.contested[key])
    for other in list(found.offers[offer.kind].values()):
        if other.name != offer.name and not other.model(offer.name) and not offer.model(other.name):
            continue
        words = (
            f"{offer.kind} {offer.name!r} is offered by both {other.origin} and {offer.origin}: "
            f"uninstall one of them, or name the plugins to load in {ONLY}"
        )
        if other.name == offer.name and other.plugin != BUILTIN.name:
            found.contested[key] = words
            del found.offers[offer.kind][offer.name]
        raise PluginError(words)


def _report(entry: metadata.EntryPoint, error: str, problem: BaseException) -> None:
    """Say that a plugin is broken: as an error where asked for, else as one warning, on rank 0 only."""
    distribution, version, name = _origin(entry)
    words = f"Plugin {name!r} of {distribution} {version} is broken and was left out: {error}"
    if os.environ.get(STRICT, "0") not in ("", "0"):
        raise UserError(words) from problem
    if os.environ.get("RANK", "0") == "0":
        _log.warning("%s", words)
