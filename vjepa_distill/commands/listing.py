"""backbones and plugins: what is registered, by whom, what is wrong with it; the lists import no torch."""

from __future__ import annotations

import json
from typing import Any

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


def add_backbone_arguments(parser: Any) -> None:
    """The options of backbones."""
    parser.add_argument(
        "action", choices=["list", "check"], help="Show them all, or hold one to the contract."
    )
    parser.add_argument("name", nargs="?", default="", help="The one to check: a name, or file.py:Class.")
    parser.add_argument("--options", type=dict[str, Any], default={}, help="Its options, e.g. '{depth: 2}'.")
    parser.add_argument(
        "--clip", type=tuple[int, int, int], default=(4, 32, 48), help="Frames, height, width."
    )
    parser.add_argument("--json", action="store_true", help="Machine-readable.")


def backbones(chosen: Any) -> int:
    """list or check."""
    if chosen.action == "list" and not chosen.name:
        return list_backbones(chosen)
    if chosen.action == "list" or not chosen.name:
        raise UserError("type vjepa-distill backbones list, or vjepa-distill backbones check NAME")
    return check_backbone(chosen)


def check_backbone(chosen: Any) -> int:
    """Every claim of the contract, and what is wrong where one does not hold; exit code 1 if any does not."""
    from vjepa_distill import registry
    from vjepa_distill.testing import report_backbone

    registry.check_options("backbone", chosen.name, chosen.options)
    report = report_backbone(lambda: registry.create("backbone", chosen.name, **chosen.options), *chosen.clip)
    rows = [{"claim": claim, "holds": error or "yes"} for claim, error in report]
    show(rows, ["claim", "holds"], chosen.json)
    return int(any(error for _, error in report))


def list_backbones(chosen: Any) -> int:
    """Registered encoders; families as ``family/*``."""
    from vjepa_distill.registry import catalogue

    rows = [
        {
            "name": o.name,
            "summary": o.summary,
            "plugin": o.plugin,
            "distribution": o.distribution,
            "version": o.version,
        }
        for o in catalogue("backbone").values()
    ]
    return show(rows, ["name", "summary", "plugin"], chosen.json)


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


def show(rows: list[dict[str, Any]], columns: list[str], as_json: bool) -> int:
    """Rows as a table for people or JSON for programs."""
    if as_json:
        print(json.dumps(rows, indent=2))
        return 0
    from rich.console import Console
    from rich.table import Table

    table = Table(*columns, box=None, header_style="bold")
    for row in rows:
        table.add_row(*(str(row[column]) for column in columns))
    Console().print(table)
    return 0
