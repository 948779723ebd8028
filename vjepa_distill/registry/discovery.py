"""Loads plugins, each in its own try: one that is broken is named with its reason, and the rest go on."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import pluggy

from vjepa_distill import __version__
from vjepa_distill.errors import UserError
from vjepa_distill.registry import hookspecs
from vjepa_distill.registry.hookspecs import API, PROJECT, Register
from vjepa_distill.registry.offers import (
    BUILTIN,
    KINDS,
    ONLY,
    Offer,
    Plugin,
    PluginError,
    check_form,
    contested,
    near,
)

STRICT = "VJEPA_DISTILL_STRICT_PLUGINS"

_OURS = metadata.EntryPoint(BUILTIN, "vjepa_distill.registry.builtin", PROJECT)
_log = logging.getLogger(__name__)


@dataclass
class Found:
    """Everything that loading the plugins brought to light."""

    offers: dict[str, dict[str, Offer]]
    """By kind, then by name, sorted."""
    plugins: list[Plugin]
    contested: list[tuple[Offer, str]]
    """Offers withheld because someone else has the name too, and the words for it."""
    left_out: list[metadata.EntryPoint]
    """What ``VJEPA_DISTILL_LOAD_PLUGINS`` excludes."""


def discover() -> Found:
    """Load the built-ins, then every installed plugin that ``VJEPA_DISTILL_LOAD_PLUGINS`` allows.

    Raises UserError when that variable names a plugin that is not installed and, with
    ``VJEPA_DISTILL_STRICT_PLUGINS=1``, for the first plugin that is broken.
    """
    installed = sorted(metadata.entry_points(group=PROJECT), key=_origin)
    allowed = _allowed(installed)
    loaded = [(entry, *_load(entry)) for entry in [_OURS, *allowed]]
    everything = [offer for _, offers, error in loaded if not error for offer in offers]
    clashes = contested(everything)
    free = [offer for offer in everything if id(offer) not in clashes]
    plugins = []
    for entry, offers, error in loaded:
        error = error or "; ".join(clashes[id(offer)] for offer in offers if id(offer) in clashes)
        distribution, version, name = _origin(entry)
        names = tuple(offer.name for offer in offers)
        plugins.append(Plugin(name, distribution, version, entry.value, error, names))
        if error and os.environ.get(STRICT, "0") not in ("", "0"):
            raise UserError(plugins[-1].complaint)
    return Found(
        {kind: {o.name: o for o in sorted(free, key=lambda o: o.name) if o.kind == kind} for kind in KINDS},
        plugins,
        [(offer, clashes[id(offer)]) for offer in everything if id(offer) in clashes],
        [entry for entry in installed if not any(entry is other for other in allowed)],
    )


def _origin(entry: metadata.EntryPoint) -> tuple[str, str, str]:
    """Distribution, version, name of an entry point; the built-in one is ours though nothing declares it."""
    if entry is _OURS:
        return "vjepa-distill", __version__, entry.name
    distribution = entry.dist
    assert distribution is not None, "entry_points() always says which distribution"
    return distribution.name, distribution.version, entry.name


def _allowed(installed: Sequence[metadata.EntryPoint]) -> list[metadata.EntryPoint]:
    """The entry points the environment allows, by their own or their distribution's name; unset means all."""
    if (setting := os.environ.get(ONLY)) is None:
        return list(installed)
    wanted = {word.strip() for word in setting.split(",")} - {"", BUILTIN}
    names = {entry.name for entry in installed} | {_origin(entry)[0] for entry in installed}
    for word in sorted(wanted - names):
        known = ", ".join(sorted({entry.name for entry in installed})) or "none"
        raise UserError(
            f"{ONLY} names {word!r}, which is not installed (plugins: {known}).{near(word, names)}"
        )
    return [entry for entry in installed if wanted & {entry.name, _origin(entry)[0]}]


def _load(entry: metadata.EntryPoint) -> tuple[list[Offer], str]:
    """Import one entry point and run its hooks: what it offers, and what went wrong (empty: nothing)."""
    offers: list[Offer] = []
    try:
        _run_hooks(entry, offers)
    except (Exception, SystemExit) as problem:
        _log.debug("plugin %s", entry.value, exc_info=True)
        kind = "" if isinstance(problem, PluginError) else f"{type(problem).__name__}: "
        return offers, " ".join(f"{kind}{problem}".split())
    return offers, ""


def _run_hooks(entry: metadata.EntryPoint, offers: list[Offer]) -> None:
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
            f"{entry.value} has no function marked @vjepa_distill.hookimpl; the hooks are {hooks}"
        )
    try:
        manager.check_pending()
    except pluggy.PluginValidationError as problem:
        raise PluginError(f"{problem}; the hooks are {hooks}") from problem
    for kind in KINDS:
        getattr(manager.hook, f"register_{kind}s")(register=_register(kind, entry, offers))


def _register(kind: str, entry: metadata.EntryPoint, offers: list[Offer]) -> Register:
    """The function a hook is handed."""

    def register(
        name: str, target: Any, *, summary: str = "", api: int = API, models: Any = None, **later: Any
    ) -> None:
        offer = Offer(kind, name, target, summary, *_origin(entry), api, models)
        offers.append(offer)
        if api > API:
            raise PluginError(
                f"{kind} {name!r} was made for plugin API {api}, this vjepa-distill speaks {API}: "
                f"upgrade vjepa-distill, or install an older {offer.distribution} than {offer.version}"
            )
        if later:
            raise PluginError(
                f"register({name!r}, …) got {', '.join(later)}; it takes name, target, summary, api, models"
            )
        check_form(offer)
        if any((mine.kind, mine.name) == (kind, name) for mine in offers[:-1]):
            raise PluginError(f"{kind} {name!r} is registered twice by {offer.origin}")

    return register


def warn(found: Found) -> None:
    """One warning for each broken plugin, on rank 0 only."""
    if os.environ.get("RANK", "0") == "0":
        for plugin in found.plugins:
            if plugin.error:
                _log.warning("%s", plugin.complaint)
