"""encode: frozen features of a folder of videos, from a run or a registered backbone."""

from __future__ import annotations

import sys
from typing import Any, Literal

from vjepa_distill.commands.chosen import add_data, add_encoder, add_running

SUMMARY = "Write the frozen features of a folder of videos."

# Typed alone, as the words that advise it do, or with true or false.
FLAG: dict[str, Any] = {"type": bool, "nargs": "?", "const": True, "default": False}


def add_arguments(parser: Any) -> None:
    """The options of encode."""
    add = parser.add_argument
    add(
        "--from",
        dest="source",
        required=True,
        help="A run folder, an exported .safetensors, or a registered name.",
    )
    add("--out", required=True, help="The .safetensors file to write; file names go beside it as .json.")
    add_encoder(parser)
    add(
        "--space",
        type=Literal["backbone", "teacher"],
        default="backbone",
        help="teacher: through a distilled run's head.",
    )
    add(
        "--pool",
        type=Literal["mean", "none"],
        default="mean",
        help="mean: one row a clip; none: all its tokens.",
    )
    add(
        "--random_weights",
        **FLAG,
        help="The same encoder untrained: the floor of every probe.",
    )
    add_running(parser, "fp32")
    add("--overwrite", **FLAG, help="Make features anew that were made otherwise.")
    add_data(parser)


def run(chosen: Any) -> int:
    """Encode every readable video once, in the order of the file names."""
    from vjepa_distill.data.quarantine import listed
    from vjepa_distill.runs.encode import encode

    done = encode(**vars(chosen))
    print(f"{len(done['files'])} rows in {chosen.out}", file=sys.stderr)
    if done["bad"]:
        print(f"{len(done['bad'])} bad files left out: {listed(done['bad'])}", file=sys.stderr)
    return 0
