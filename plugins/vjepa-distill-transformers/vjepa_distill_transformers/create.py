"""The factory behind ``hf/<repository>``: from options to a backbone that can be built again anywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn
from vjepa_distill import UserError

from vjepa_distill_transformers import models, sources
from vjepa_distill_transformers.families import Build, Family
from vjepa_distill_transformers.images import TIMES
from vjepa_distill_transformers.sources import Source

IMAGENET = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
"""For a config of one's own and random weights, where no processor says anything."""


def create(
    model: str,
    weights: str | None = None,
    pretrained: bool = False,
    config: dict[str, Any] | str | None = None,
    mean: list[float] | None = None,
    std: list[float] | None = None,
    tubelet: int | None = None,
    time: str | None = None,
    revision: str | None = None,
) -> nn.Module:
    """The encoder of a repository of the Hugging Face Hub; UserError when it cannot be had or has no adapter.

    Args:
        model: the repository, e.g. "facebook/dinov2-small"; a name of your own where `weights` or `config`
            say where things are.
        weights: a folder with config.json, weights and preprocessor_config.json, or a safetensors file in it.
        pretrained: take the weights of the repository, from the cache or the network.
        config: the architecture where it is not to be read there: values, or a folder or config.json.
        mean, std: normalisation of each channel in [0, 1] in place of the processor's.
        tubelet: frames that share one token (2); for image models.
        time: whether the token stands for the "first" of them or for their "mean"; for image models.
        revision: branch, tag or commit of the repository.
    """
    if weights and pretrained:
        raise UserError("both `weights` and `pretrained` are given; drop one: a folder or the repository")
    if (mean is None) != (std is None):
        raise UserError("`mean` and `std` go together: give both, three numbers each, or neither")
    repository = Source(model, revision)
    source = sources.folder(weights, "weights") if weights else repository
    told = sources.folder(config, "config") if isinstance(config, str) else source
    values = config if isinstance(config, dict) else sources.config_values(told)
    family = models.family_of(values, model)
    chosen = models.config_of(family, values, model, strict=isinstance(config, dict))
    how = options_of(family, model, tubelet, time)
    if mean is None or std is None:
        guess = isinstance(config, dict) and not weights and not pretrained
        mean, std = IMAGENET if guess else sources.normalisation(told)
    check_normalisation(mean, std)
    file = Path(weights).expanduser() if weights and weights.endswith(".safetensors") else None
    given = weights or pretrained
    library = models.trained(family, chosen, source, file) if given else models.untrained(family, chosen)
    about = {
        "weights": str(file or source.place) if given else "random",
        "licence": source.licence() if given else "none",
    }
    build = Build(mean, std, about, how.get("tubelet", 2), how.get("time", "first"))
    backbone: Any = family.adapt(library, chosen, build)
    backbone.rebuild_options = {"config": models.plain(chosen), "mean": [*mean], "std": [*std], **how}
    return backbone.train()


def options_of(family: Family, model: str, tubelet: int | None, time: str | None) -> dict[str, Any]:
    """`tubelet` and `time` of an image model; a video model has a tubelet of its own."""
    given = {key: value for key, value in {"tubelet": tubelet, "time": time}.items() if value is not None}
    if family.video:
        if given:
            raise UserError(
                f"{model} is a video model with tubelets of its own: leave out {', '.join(given)}"
            )
        return {}
    how = {"tubelet": 2, "time": "first", **given}
    if how["time"] not in TIMES:
        raise UserError(f"time={time!r} is not one of {', '.join(TIMES)}")
    if how["tubelet"] < 1:
        raise UserError(f"tubelet={tubelet}: give the number of frames that share a token, 1 or more")
    return how


def check_normalisation(mean: list[float], std: list[float]) -> None:
    """Three numbers each, and no division by zero."""
    if len(mean) != 3 or len(std) != 3 or not all(value > 0 for value in std):
        raise UserError(f"mean={mean}, std={std}: give three numbers each, one a channel, std above 0")
