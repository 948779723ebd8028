"""backbones and plugins: what is registered, by whom, and what is wrong with what is broken; imports no torch."""

from __future__ import annotations

import json
from typing import Any


def add_arguments(parser: Any) -> None:
    parser.add_argument("action", choices=["list"], help="What to do.")
    parser.add_argument("--json", action="store_true", help="Machine-readable.")


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
