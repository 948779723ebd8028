"""Who offers what: lists, resolves, creates backbones, objectives and decoders by name; never imports torch.

The names come from plugins (discovery.py), the built-ins among them. In place of a name, ``file.py:Class``
takes the class or function from a Python file; doing so *runs that file*.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import re
import sys
from collections.abc import Callable, Collection, Mapping
from difflib import get_close_matches
from functools import cache
from importlib import import_module, metadata, util
from pathlib import Path
from types import ModuleType
from typing import Any

from vjepa_distill.errors import UserError, accident, out_of_memory
from vjepa_distill.registry.discovery import Found, discover, warn
from vjepa_distill.registry.hookspecs import API, PROJECT
from vjepa_distill.registry.offers import KINDS, ONLY, Offer, Plugin, near
from vjepa_distill.settings.values import misfits

_FILE = re.compile(r"(?P<path>.+\.py):(?P<attribute>\w+)")


@cache
def _found() -> Found:
    """Plugins are loaded once for a process."""
    return discover()


@cache
def _warn_once() -> None:
    """Say which plugins are broken when names are first looked for; `plugins()` hands out the reasons."""
    warn(_found())


def catalogue(kind: str) -> dict[str, Offer]:
    """All offers of a kind (``backbone``, ``objective``, ``decoder``) by name; families as ``family/*``."""
    if kind not in KINDS:
        raise UserError(
            f"{kind!r} is not registered by anyone; kinds: {', '.join(KINDS)}.{near(kind, KINDS)}"
        )
    _warn_once()
    return dict(_found().offers[kind])


def plugins() -> list[Plugin]:
    """Every entry point that was loaded, the built-in one first, broken ones with the reason."""
    return list(_found().plugins)


def resolve(kind: str, name: str) -> tuple[Offer, dict[str, str]]:
    """The offer behind a name, and what a ``family/*`` offer binds: ``{"model": the rest of the name}``.

    Raises UserError for an unknown name with the nearest known ones, for a name two plugins fight over, and
    with the reason when a broken plugin would have given it.
    """
    offers = catalogue(kind)
    if _FILE.fullmatch(name):
        return _file_offer(kind, name), {}
    if name in offers and not name.endswith("/*"):
        return offers[name], {}
    for offer in offers.values():
        if model := offer.model(name):
            return offer, {"model": model}
    raise UserError(_unknown(kind, name, offers))


def models(family: str) -> list[str]:
    """The models of a backbone ``family/*`` by their names in it; imports what its plugin lists them with.

    UserError where it has no list, or where that cannot be loaded.
    """
    offer = catalogue("backbone")[family]
    if offer.models is None:
        raise UserError(
            f"{family} of {offer.origin} has no list of its models; look for it in its own documentation"
        )
    return [str(name) for name in _load(offer, offer.models)()]


def check_options(kind: str, name: str, options: Mapping[str, Any], brought: Collection[str] = ()) -> None:
    """Refuse options that the factory behind the name does not take; imports the factory, reads no data.

    Required ones are judged by ``create``: whoever creates may add some (an objective's ``embed_dim``).
    brought: those that whoever creates will add, which are nobody else's to give.
    """
    _checked(kind, name, options, brought)


def options_of(kind: str, name: str) -> list[str]:
    """The options that the factory behind a name takes by name; imports the factory."""
    offer, bound = resolve(kind, name)
    return _accepted(_factory(offer), bound)


def create(kind: str, name: str, **options: Any) -> Any:
    """Build what the name stands for; a ``family/*`` factory gets the model's name first, then the options.

    Raises UserError for an unknown name, unknown or missing options, and a factory that cannot be imported.
    """
    options = {key: os.fspath(v) if isinstance(v, os.PathLike) else v for key, v in options.items()}
    factory, bound = _checked(kind, name, options)
    try:
        inspect.signature(factory).bind(*bound, **options)
    except TypeError as problem:
        raise UserError(f"{kind} {name!r}: {problem}; options are given as '{{NAME: VALUE}}'") from problem
    try:
        return factory(*bound, **options)
    except UserError:
        raise
    except Exception as problem:  # whatever a stranger's constructor says
        if out_of_memory(problem):
            raise
        given = f" with {options}" if options else ""
        raise UserError(f"{kind} {name!r}{given} cannot be built: {accident(problem, 300)}") from problem


def create_backbone(name: str, **options: Any) -> Any:
    """``create("backbone", name, **options)``: a ``Backbone``, which is an ordinary ``torch.nn.Module``."""
    return create("backbone", name, **options)


def provenance(kind: str, name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """What a checkpoint stores so that ``create`` can be repeated: plain types only, ready for JSON."""
    offer, _ = resolve(kind, name)
    try:
        plain = json.loads(json.dumps(dict(options), default=os.fspath))
    except TypeError as problem:
        raise UserError(
            f"options of {kind} {name!r} must be plain values that a file can hold: {problem}"
        ) from problem
    return {
        "kind": kind,
        "name": name,
        "options": plain,
        "distribution": offer.distribution,
        "version": offer.version,
        "plugin": offer.plugin,
    }


def missing(record: Mapping[str, Any]) -> str:
    """What to install for a checkpoint of this provenance; empty when its distribution still offers it."""
    kind, name = record["kind"], record["name"]
    distribution, version = record["distribution"], record["version"]
    try:
        offer, _ = resolve(kind, name)
        if offer.distribution == distribution:
            return ""
        reason = f"here that name is offered by {offer.origin}"
    except UserError as problem:
        reason = str(problem)
    made_by = (
        f"This checkpoint holds the {kind} {name!r} of {distribution} {version} (plugin {record['plugin']!r})"
    )
    if _FILE.fullmatch(name):
        return f"{made_by}: {reason}"
    if distribution in {entry.dist.name for entry in _found().left_out if entry.dist}:
        return (
            f"{made_by}, which {ONLY}={os.environ.get(ONLY, '')!r} leaves out: add {record['plugin']!r} to it"
        )
    try:
        installed = f"which is installed as {metadata.version(distribution)}, but {reason}"
    except metadata.PackageNotFoundError:
        installed = "which is not installed"
    return f"{made_by}, {installed}. Type: pip install '{distribution}=={version}'"


def changed(record: Mapping[str, Any]) -> str:
    """What to say where ``file.py:Class`` is no longer the file of this provenance; else empty."""
    name = record["name"]
    if not _FILE.fullmatch(name):
        return ""
    now = _file_offer(record["kind"], name).version
    return "" if now == record["version"] else f"{name} was {record['version']} and is now {now}"


def _checked(
    kind: str, name: str, options: Mapping[str, Any], brought: Collection[str] = ()
) -> tuple[Callable[..., Any], tuple[str, ...]]:
    """The factory behind a name and what comes first in its call, once it is known to take these options."""
    offer, bound = resolve(kind, name)
    factory = _factory(offer)
    accepted = [option for option in _accepted(factory, bound) if option not in brought]
    every = inspect.signature(factory).parameters.values()
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in every)
    for option in options:
        if option in brought or not (takes_any or option in accepted):
            known = ", ".join(accepted) or "none"
            raise UserError(
                f"{kind} {name!r} has no option {option!r}; options: {known}.{near(option, accepted)}"
            )
    for option, expected in misfits(factory, options).items():
        raise UserError(f"{kind} {name!r}: option {option}={options[option]!r} is no {expected}")
    return factory, tuple(bound.values())


def _accepted(factory: Callable[..., Any], bound: Mapping[str, str]) -> list[str]:
    """The parameters of a factory that can be given by name, after what a ``family/*`` name binds."""
    by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    parameters = list(inspect.signature(factory).parameters.values())[len(bound) :]
    return [parameter.name for parameter in parameters if parameter.kind in by_name]


def _factory(offer: Offer) -> Callable[..., Any]:
    """The callable behind an offer, imported now if it is lazy."""
    return _load(offer, offer.target)


def _load(offer: Offer, target: Callable[..., Any] | str) -> Callable[..., Any]:
    """A callable that an offer names; UserError with the reason where it cannot be had."""
    if callable(target):
        return target
    source, _, attribute = target.rpartition(":")
    try:
        found: Any = _run_file(source) if source.endswith(".py") else import_module(source)
        for part in attribute.split("."):
            if not hasattr(found, part):
                raise UserError(
                    f"{offer.kind} {offer.name!r} of {offer.origin}: {source} has no {part!r}."
                    f"{near(part, [known for known in vars(found) if not known.startswith('_')])}"
                )
            found = getattr(found, part)
    except UserError:
        raise
    except Exception as problem:
        reason = f"{type(problem).__name__}: {problem}"
        words = f"{offer.kind} {offer.name!r} of {offer.origin} cannot be loaded from {target!r}: {reason}"
        raise UserError(words) from problem
    if not callable(found):
        raise UserError(f"{offer.kind} {offer.name!r} of {offer.origin}: {target!r} is not callable")
    return found


def _file_offer(kind: str, name: str) -> Offer:
    """An offer for ``file.py:Class``; its version is the hash of the file, which has no other."""
    path = Path(os.path.expanduser(_FILE.fullmatch(name)["path"]))  # type: ignore[index]
    if not path.is_file():
        raise UserError(f"{kind} {name!r}: there is no file {path} in {Path.cwd()}")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:12]
    return Offer(kind, name, name, f"from {path}", str(path), f"sha256:{digest}", "file", API)


@cache
def _run_file(path: str) -> ModuleType:
    """Run a Python file once, as a module that pickle and deepcopy can find again."""
    place = Path(os.path.expanduser(path)).resolve()
    label = f"vjepa_distill_file_{place.stem}_{hashlib.sha256(str(place).encode()).hexdigest()[:8]}"
    spec = util.spec_from_file_location(label, place)
    assert spec is not None, "a path that ends in .py always has a loader"
    assert spec.loader is not None, "a path that ends in .py always has a loader"
    sys.modules[label] = module = util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _unknown(kind: str, name: str, offers: Mapping[str, Offer]) -> str:
    """One line for a name that nobody gave: who would have, else what is close and what there is."""
    found = _found()
    family, _, model = name.partition("/")
    for offer, words in found.contested:
        if offer.kind == kind and (offer.name == name or offer.model(name)):
            return words
    if name in offers:
        return f"{kind} {name!r} is a family: put the name of a model in place of the *"
    for plugin in (plugin for plugin in found.plugins if plugin.error):
        if name in plugin.offers or family in (
            plugin.name,
            plugin.distribution.removeprefix("vjepa-distill-"),
        ):
            source = f"plugin {plugin.name!r} of {plugin.distribution} {plugin.version}"
            return f"{kind} {name!r} would come from the {source}, which is broken: {plugin.error}"
    if family in {entry.name for entry in found.left_out}:
        return f"{kind} {name!r}: plugin {family!r} is left out by {ONLY}={os.environ.get(ONLY, '')!r}"
    nearby = get_close_matches(family, [other.partition("/")[0] for other in offers if other.endswith("/*")])
    meant = [f"{one}/{model or '*'}" for one in nearby]
    if name.endswith(".py"):
        return f"{kind} {name!r}: name the class in it, as {name}:Class"
    closest = near(name, [*meant, *(other for other in offers if not other.endswith("/*"))])
    if kind == "backbone" and "/" not in name:
        closest = f" A name is FAMILY/MODEL, as in timm/{name}."
    broken = ", ".join(plugin.name for plugin in found.plugins if plugin.error)
    hint = f" Broken plugins, which may have had it: {broken}." if broken else ""
    groups = get_close_matches(PROJECT, {*metadata.entry_points().groups} - {PROJECT}, cutoff=0.8)
    if groups:
        hint += f" Entry points of the group {groups[0]!r} are not read: a plugin's is {PROJECT!r}."
    return f"there is no {kind} {name!r}.{closest} Known: {', '.join(offers)}.{hint}"
