"""What each subcommand does once its arguments are parsed; torch is imported only where it is needed."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

from vjepa_distill.errors import UserError


class Command(NamedTuple):
    """A subcommand that is no training run."""

    summary: str
    add_arguments: Callable[[Any], None]
    run: Callable[[Any], int]


MEMORY = (
    "out of memory. Try, in this order: --batch_size smaller with --accumulate larger; --checkpointing true; "
    "--amp bf16; jepa-train's --teacher_context segment; --data.size smaller; --data.num_frames smaller"
)


def train(name: str, config: Any) -> int:
    """distill or jepa-train; what can go wrong in a run becomes one line that says how to go on."""
    from vjepa_distill import runs
    from vjepa_distill.health import Collapsed
    from vjepa_distill.loop import Interrupted
    from vjepa_distill.train import Diverged

    again = f"vjepa-distill {name} --out {config.out} --resume"
    try:
        {"distill": runs.distill, "jepa-train": runs.jepa_train}[name](config)
    except Interrupted:
        say(f"stopped and saved; go on with: {again}")
        return 130
    except (Diverged, Collapsed) as problem:
        say(
            f"{problem}. Nothing was updated by that step; the last checkpoint is in {config.out}/checkpoints"
        )
        return 1
    except RuntimeError as problem:
        if not out_of_memory(problem):
            raise
        raise UserError(MEMORY) from problem
    say(f"done: {config.out}")
    return 0


def out_of_memory(problem: RuntimeError) -> bool:
    """CUDA's own class, or the words of the CPU's allocator."""
    import torch

    return isinstance(problem, torch.OutOfMemoryError) or "can't allocate memory" in str(problem)


def say(words: str) -> None:
    print(words, file=sys.stderr)


def _list_arguments(parser: Any) -> None:
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


COMMANDS = {
    "backbones": Command("List the encoders that are registered.", _list_arguments, list_backbones),
    "plugins": Command(
        "List the plugins that were found, and what is wrong with broken ones.", _list_arguments, list_plugins
    ),
}
