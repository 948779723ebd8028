"""backbones list and plugins list: what is registered, by whom, what is wrong with it; without torch."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Any

from vjepa_distill.commands.tables import show
from vjepa_distill.errors import UserError


def add_arguments(parser: Any) -> None:
    """The options of plugins."""
    parser.add_argument(
        "action", choices=["list", "new"], help="Show them all, or write the package of a new one."
    )
    parser.add_argument("name", nargs="?", default="", help="Of the new one, e.g. my-encoder.")
    parser.add_argument(
        "folder", nargs="?", default="", help="Where to write it; by default vjepa-distill-NAME."
    )
    parser.add_argument("--json", action="store_true", help="Machine-readable.")


def list_backbones(chosen: Any) -> int:
    """Registered encoders, families as ``family/*``; with a prefix or pattern, those and models that fit."""
    from vjepa_distill import registry
    from vjepa_distill.registry.offers import near

    offers, asked = registry.catalogue("backbone"), chosen.name
    rows = [row(o.name, o) for o in offers.values() if fits(o.name, asked)]
    family = asked.partition("/")[0] + "/*"
    if "/" in asked and family in offers:
        models = [f"{family[:-1]}{model}" for model in registry.models(family)]
        rows = [row(name, offers[family]) for name in models if fits(name, asked)]
        rows += [row(o.name, o) for o in offers.values() if o.name != family and fits(o.name, asked)]
        if not rows:
            hint = near(asked, models) or f" Type vjepa-distill backbones list {family[:-1]}"
            raise UserError(f"{family} has no model that begins with {asked!r} among {len(models)}.{hint}")
    if not rows:
        hint = near(asked, offers) or " Type vjepa-distill backbones list"
        raise UserError(f"no backbone begins with {asked!r}.{hint}")
    columns = ["name"] if "/" in asked and family in offers else ["name", "summary", "plugin"]
    return show(rows, columns, chosen.json)


def row(name: str, offer: Any) -> dict[str, str]:
    """One name and who stands behind it."""
    return {
        "name": name,
        "summary": offer.summary,
        "plugin": offer.plugin,
        "distribution": offer.distribution,
        "version": offer.version,
    }


def fits(name: str, asked: str) -> bool:
    """Whether a name begins as asked, or is one of ``timm/*dinov2*``."""
    return fnmatchcase(name, asked) if "*" in asked else name.startswith(asked)


def plugins(chosen: Any) -> int:
    """list or new."""
    if chosen.action == "list" and not chosen.name:
        return list_plugins(chosen)
    if chosen.action == "list" or not chosen.name:
        raise UserError("type vjepa-distill plugins list, or vjepa-distill plugins new NAME")
    from vjepa_distill.commands.new import new_plugin

    return new_plugin(chosen.name, chosen.folder)


def list_plugins(chosen: Any) -> int:
    """Every plugin found, the broken ones with the reason."""
    from vjepa_distill.registry import plugins

    rows = [
        {
            "name": p.name,
            "distribution": p.distribution,
            "version": p.version,
            "module": p.module,
            "status": p.error or "ok",
            "offers": list(p.offers),
        }
        for p in plugins()
    ]
    return show(rows, ["name", "distribution", "version", "status"], chosen.json)
