"""Rows as a table for people or as JSON for programs."""

from __future__ import annotations

import json
from typing import Any


def show(rows: list[dict[str, Any]], columns: list[str], as_json: bool) -> int:
    """Some of the columns as a table, or all of them as JSON; returns the exit code 0."""
    if as_json:
        print(json.dumps(rows, indent=2))
        return 0
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*columns, box=None, header_style="bold")
    for row in rows:
        table.add_row(*(Text(str(row[column])) for column in columns))  # as Text: brackets are no markup
    Console().print(table)
    return 0
