"""encode: frozen features of a folder of videos, from a run or a registered backbone."""

from __future__ import annotations

import sys
from typing import Any, Literal

from vjepa_distill.settings import Data

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
    add(
        "--options",
        type=dict[str, Any],
        default={},
        help="Options of a registered backbone, e.g. '{depth: 6}'.",
    )
    add(
        "--which",
        type=Literal["student", "teacher"],
        default="student",
        help="Of a jepa-train run: or its average.",
    )
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
    add("--batch_size", type=int, default=16, help="Clips in one forward pass.")
    add("--amp", type=Literal["bf16", "fp32"], default="fp32", help="Precision of matrix products.")
    add("--device", type=Literal["auto", "cpu", "cuda"], default="auto", help="Where it runs.")
    add("--seed", type=int, default=0, help="Of random weights.")
    add("--overwrite", **FLAG, help="Make features anew that were made otherwise.")
    parser.add_class_arguments(Data, "data")


def run(chosen: Any) -> int:
    """Encode every readable video once, in the order of the file names."""
    from vjepa_distill.data.quarantine import listed
    from vjepa_distill.runs.encode import encode

    done = encode(**vars(chosen))
    print(f"{len(done['files'])} rows in {chosen.out}", file=sys.stderr)
    if done["bad"]:
        print(f"{len(done['bad'])} bad files left out: {listed(done['bad'])}", file=sys.stderr)
    return 0
