"""The run that writes features: an encoder, a folder of videos, one row a video."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from vjepa_distill.data.clips import VideoClips
from vjepa_distill.data.loader import Loader
from vjepa_distill.errors import UserError
from vjepa_distill.measures import encode as rows
from vjepa_distill.progress import folded, progress, width
from vjepa_distill.runs import encoders, exports, videos
from vjepa_distill.runs.shared import guard_of
from vjepa_distill.settings import Component, Data
from vjepa_distill.settings.plain import settled

_log = logging.getLogger(__name__)


def encode(
    source: str | Path | nn.Module,
    out: str | Path,
    data: Data | Mapping[str, Any],
    *,
    options: Mapping[str, Any] | None = None,
    which: Literal["student", "teacher"] = "student",
    space: Literal["backbone", "teacher"] = "backbone",
    pool: Literal["mean", "none"] = "mean",
    random_weights: bool = False,
    batch_size: int = 16,
    amp: Literal["bf16", "fp32"] = "fp32",
    device: Literal["auto", "cpu", "cuda"] = "auto",
    seed: int = 0,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Frozen features of every readable video, in the order of the file names, as `out` (safetensors).

    "features" is float32 [N, D] (pool mean) or [N, L, D] (none). Interrupted, the same call goes on.

    source: a run folder, an exported file, a registered name with its `options`, or a module of yours.
    data: which videos, as settings of `Data` by name; a run's own clip settings hold where nothing else is
        said, e.g. encode("runs/future", "feats.safetensors", {"root": "data"}).
    The other arguments are those of ``vjepa-distill encode``. Returns what is written beside the features as
    JSON: "files" (a name for every row), "bad" ({name: why}), and what made them. UserError for bad input.
    """
    if Path(out).suffix != ".safetensors":
        raise UserError(f"--out {out}: features are written as safetensors; type --out {out}.safetensors")
    on, data = encoders.device_of(device), settings(source, data)
    encoder = encoder_of(source, space, seed, which=which, options=options, random_weights=random_weights)
    decoder = videos.decoder_of(data)
    index = videos.index_of(data, decoder)
    for line in videos.duplicates_words(index):
        _log.warning(folded(line, width()))
    recipe = videos.recipe_of(data, train=False)
    clips = VideoClips(index.good, index.root, recipe, decoder, seed=0, shuffle=False)
    record = {
        "source": str(source) if isinstance(source, (str, Path)) else type(source).__name__,
        "weights": exports.fingerprint(encoder),
        "space": space,
        "random_weights": random_weights,
        "clip": vars(recipe),
        "index": index.digest(),
        "decoder": f"{decoder.name} {decoder.version}",
    }
    with progress("encoding") as update:
        return rows.encode(
            encoder,
            Loader(clips, batch_size, workers=data.workers, timeout=data.timeout, max_bad=1.0),
            out,
            record,
            pool=pool,
            device=on,
            autocast=torch.bfloat16 if amp == "bf16" else None,
            guard=guard_of(amp, on),
            bad={entry.path: entry.why for entry in index.bad},
            overwrite=overwrite,
            progress=update,
        )


def settings(source: str | Path | nn.Module, data: Data | Mapping[str, Any]) -> Data:
    """The data settings in full: those given, then the clip of the run that is encoded, then the defaults."""
    if not isinstance(data, Mapping) or isinstance(source, nn.Module):
        return settled(data, Data, "data")
    whole = settled({**exports.clip_of(source), **data}, Data, "data")
    exports.need_clip(source, data)
    return whole


def encoder_of(
    source: str | Path | nn.Module, space: Literal["backbone", "teacher"], seed: int, **how: Any
) -> nn.Module:
    """What is run on the clips; a registered name's options are judged before anything is built."""
    if isinstance(source, nn.Module):
        if space != "backbone":
            raise UserError("space='teacher' needs a run of distill, and a module was given")
        return source
    if how["options"]:
        encoders.check([Component(str(source), dict(how["options"]))], {})
    torch.manual_seed(seed)
    return exports.load_encoder(source, space, **how)
