"""encode: frozen features of a folder of videos, from a run or a registered backbone."""

from __future__ import annotations

import sys
from typing import Any, Literal

from vjepa_distill.config import Data
from vjepa_distill.errors import UserError

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
    import torch

    from vjepa_distill import assemble, exports
    from vjepa_distill.data.clips import VideoClips
    from vjepa_distill.data.loader import Loader
    from vjepa_distill.data.quarantine import listed
    from vjepa_distill.evaluate.encode import encode
    from vjepa_distill.progress import progress

    if chosen.options and exports.locate(chosen.source) is None:
        assemble.check_component("backbone", assemble.Component(chosen.source, chosen.options))
    if not chosen.out.endswith(".safetensors"):
        raise UserError(
            f"--out {chosen.out}: features are written as safetensors; type --out {chosen.out}.safetensors"
        )
    device, data = assemble.device_of(chosen.device), chosen.data
    torch.manual_seed(chosen.seed)
    how = {"options": chosen.options, "random_weights": chosen.random_weights}
    encoder = exports.load_encoder(chosen.source, chosen.space, which=chosen.which, **how)
    decoder = assemble.decoder_of(data)
    index = assemble.index_of(data, decoder)
    recipe = assemble.recipe_of(data, train=False)
    clips = VideoClips(index.good, index.root, recipe, decoder, seed=0, shuffle=False)
    loader = Loader(clips, chosen.batch_size, workers=data.workers, timeout=data.timeout, max_bad=1.0)
    record = {
        "source": chosen.source,
        "weights": exports.fingerprint(encoder),
        "space": chosen.space,
        "random_weights": chosen.random_weights,
        "clip": vars(recipe),
        "index": index.digest(),
        "decoder": f"{decoder.name} {decoder.version}",
    }
    bad = {entry.path: entry.why for entry in index.bad}
    with progress("encoding") as update:
        done = encode(
            encoder,
            loader,
            chosen.out,
            record,
            pool=chosen.pool,
            device=device,
            autocast=torch.bfloat16 if chosen.amp == "bf16" else None,
            bad=bad,
            overwrite=chosen.overwrite,
            progress=update,
        )
    print(f"{len(done['files'])} rows in {chosen.out}", file=sys.stderr)
    if done["bad"]:
        print(f"{len(done['bad'])} bad files left out: {listed(done['bad'])}", file=sys.stderr)
    return 0
