"""The subcommands: what each takes, what it prints, and what is said of a wrong word (``wording.py``).

In come the words of the command line (``arguments.py``); out go text, JSON and an exit code, and the work is
imported when it is asked for. It must never import torch while it is merely listed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from vjepa_distill.commands import (
    backbones,
    demo,
    encode,
    evaluate,
    listing,
    probe,
    report,
    surprise,
)


class Command(NamedTuple):
    """One subcommand."""

    summary: str
    add_arguments: Callable[[Any], None]
    run: Callable[[Any], int]


COMMANDS = {
    "encode": Command(encode.SUMMARY, encode.add_arguments, encode.run),
    "probe": Command(probe.SUMMARY, probe.add_arguments, probe.run),
    "evaluate": Command(evaluate.SUMMARY, evaluate.add_arguments, evaluate.run),
    "surprise": Command(surprise.SUMMARY, surprise.add_arguments, surprise.run),
    "report": Command(report.SUMMARY, report.add_arguments, report.run),
    "backbones": Command(backbones.SUMMARY, backbones.add_arguments, backbones.run),
    "plugins": Command(
        "List the plugins found, the broken ones with the reason; write the package of a new one.",
        listing.add_arguments,
        listing.plugins,
    ),
    "demo": Command(demo.SUMMARY, demo.add_arguments, demo.run),
}
