"""The model types that have an adapter: their classes in transformers, and how each becomes a backbone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn
from vjepa_distill import Grid, Hidden

from vjepa_distill_transformers.encoder import pair
from vjepa_distill_transformers.images import Patches, PerFrame, after_prefix, all_tokens, naflex
from vjepa_distill_transformers.videos import SIDE, VJEPA2, VideoMAE


@dataclass(frozen=True)
class Build:
    """What an adapter is given besides the model."""

    mean: Sequence[float]
    std: Sequence[float]
    about: dict[str, str]
    tubelet: int
    """Frames of a token of an image model."""
    time: str


@dataclass(frozen=True)
class Family:
    """One model type."""

    config: str
    """Name of its configuration in transformers."""
    model: str
    """Name of its model in transformers."""
    adapt: Callable[[Any, Any, Build], nn.Module]
    """(model, its config as given, what else) gives the backbone."""
    video: bool = False
    unused: str = r"mask_token$"
    """Parameters that no token depends on, as a regular expression over names: a file may lack them."""
    optional: str = r"$^"
    """Parameters that a file may lack though tokens depend on them: they keep their values at the start."""
    changes: Callable[[Any], dict[str, Any]] = lambda config: {}
    """What to build differently from the config: no parts that are not used."""


def vjepa2(model: Any, config: Any, build: Build) -> nn.Module:
    """Without the predictor, which is never called; trained size as the config tells it."""
    model.predictor = None
    side = config.crop_size
    cell = (config.tubelet_size, *pair(config.patch_size))
    sizes = f"clips of whole cells of {by(cell)}; trained at {by((config.frames_per_clip, side, side))}"
    return VJEPA2(model, config.hidden_size, cell, build.mean, build.std, {"sizes": sizes, **build.about})


def videomae(model: Any, config: Any, build: Build) -> nn.Module:
    """With its last norm on every token, also where the library norms the mean of them only."""
    inner = getattr(model, "videomae", model)
    norm = model.fc_norm if config.use_mean_pooling else inner.layernorm
    inner.layernorm = None
    cell = (config.tubelet_size, *pair(config.patch_size))
    size = (config.num_frames, *pair(config.image_size))
    trained = Grid(*(whole // part for whole, part in zip(size, cell, strict=True)))
    sizes = f"clips of whole cells of {by(cell)}; positions resampled away from {by(size)}"
    about = {"sizes": sizes, **build.about}
    return VideoMAE(inner, norm, trained, config.hidden_size, cell, build.mean, build.std, about)


def image(patches: Patches) -> Callable[[Any, Any, Build], nn.Module]:
    """An adapter for an image model whose patch tokens this function gives."""

    def adapt(model: Any, config: Any, build: Build) -> nn.Module:
        if hasattr(config, "hidden_sizes"):  # four rows and columns at the stem, halved by every later stage
            width, patch = config.hidden_sizes[-1], pair(2 ** (len(config.hidden_sizes) + 1))
        else:
            width, patch = config.hidden_size, pair(config.patch_size)
        cell = (build.tubelet, *patch)
        about = {"sizes": f"clips of whole cells of {by(cell)}, frame by frame", **build.about}
        return Hidden(PerFrame(model, patches, build.time, width, cell, build.mean, build.std, about))

    return adapt


def by(sizes: Sequence[int]) -> str:
    return " x ".join(str(size) for size in sizes)


def headless(config: Any) -> dict[str, Any]:
    return {"vision_use_head": False}


SIGLIP = Family("SiglipVisionConfig", "SiglipVisionModel", image(all_tokens), changes=headless)
NAFLEX = Family("Siglip2VisionConfig", "Siglip2VisionModel", image(naflex), changes=headless)

FAMILIES = {
    "vjepa2": Family(
        "VJEPA2Config",
        "VJEPA2Model",
        vjepa2,
        video=True,
        unused=r"^predictor\.",
        changes=lambda config: {"crop_size": SIDE * pair(config.patch_size)[0], "pred_num_hidden_layers": 0},
    ),
    "videomae": Family(
        "VideoMAEConfig",
        "VideoMAEForVideoClassification",
        videomae,
        video=True,
        unused=r"^classifier\.",
        optional=r"^fc_norm\.",
        changes=lambda config: {"num_labels": 0},
    ),
    "dinov2": Family("Dinov2Config", "Dinov2Model", image(after_prefix)),
    "dinov2_with_registers": Family(
        "Dinov2WithRegistersConfig", "Dinov2WithRegistersModel", image(after_prefix)
    ),
    "dinov3_vit": Family("DINOv3ViTConfig", "DINOv3ViTModel", image(after_prefix)),
    "dinov3_convnext": Family("DINOv3ConvNextConfig", "DINOv3ConvNextModel", image(after_prefix)),
    "siglip": SIGLIP,
    "siglip_vision_model": SIGLIP,
    "siglip2": NAFLEX,
    "siglip2_vision_model": NAFLEX,
}
"""By model_type in config.json; SigLIP 2 of a fixed resolution is told as "siglip"."""
