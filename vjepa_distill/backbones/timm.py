"""Any timm ViT as a backbone: frame by frame, only kept patches encoded, its own normalisation inside."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import Any

import timm as library
import torch
from safetensors.torch import load_file
from torch import nn

from vjepa_distill.backbones.frames import Frames
from vjepa_distill.backbones.hidden import Hidden
from vjepa_distill.backbones.joint import Joint, refuse_others
from vjepa_distill.errors import UserError

TIMES = ("first", "mean", "concat")
# What builtin.py offers of this file; a literal, read without running the file.
OFFERS = {
    "timm/*": {
        "target": "create",
        "models": "models",
        "summary": "any model of timm, frame by frame or jointly",
    }
}
TEMPORAL = ("frames", "joint")


def create(
    model: str,
    weights: str | None = None,
    pretrained: bool = False,
    tubelet: int = 2,
    time: str = "first",
    timm: dict[str, Any] | None = None,
    temporal: str = "frames",
) -> nn.Module:
    """The timm model of that name as a backbone; UserError when it, or its weights, cannot be had.

    Args:
        model: timm's name, e.g. "vit_tiny_patch16_224".
        weights: a safetensors file of the whole model, classifier included, loaded strictly.
        pretrained: let timm fetch its own weights instead.
        tubelet: frames that share one token.
        time: which of them the token stands for: the "first", the "mean", or all by "concat" (D x tubelet).
        timm: further arguments of timm.create_model, e.g. {"img_size": 112} or {"drop_path_rate": 0.1}.
        temporal: "frames" encodes each frame alone; "joint" inflates a ViT to space-time, every token seeing
            every other. For `joint` leave `time` as it is.
    """
    if temporal not in TEMPORAL:
        raise UserError(f"temporal={temporal!r} is not one of {', '.join(TEMPORAL)}")
    if time not in TIMES:
        raise UserError(f"time={time!r} is not one of {', '.join(TIMES)}")
    if weights and pretrained:
        raise UserError(
            "both `weights` and `pretrained` are given; drop one: either a file or timm's own weights"
        )
    vit = build(model, pretrained, dict(timm or {}))
    if weights:
        load_strictly(vit, weights, model)
    if temporal == "joint":
        refuse_others(vit, model, time)
        only_features(vit, model)
        joint = Joint(vit, tubelet, weights or ("timm's pretrained" if pretrained else "random")).eval()
        freeze_unreached(joint)
        return joint.train()
    only_features(vit, model)
    frames = Frames(vit, tubelet, time).eval()
    freeze_unreached(frames)
    encoder = frames if frames.drops_tokens() else Hidden(frames)
    return encoder.train()


def models() -> list[str]:
    """Every model of the timm that is installed, by name."""
    return library.list_models()


def build(model: str, pretrained: bool, options: dict[str, Any]) -> Any:
    """timm.create_model with any-size input where the model has it; failures in one line."""
    if not library.is_model(model):
        near = get_close_matches(model, library.list_models(), n=3, cutoff=0.5)
        raise UserError(
            f"timm {library.__version__} has no model {model!r}; near it: {', '.join(near) or 'nothing'}"
        )
    try:
        try:
            return library.create_model(model, pretrained, dynamic_img_size=True, **options)
        except TypeError:  # BEiT and others are built for one size; `grid` then refuses every other
            return library.create_model(model, pretrained, **options)
    except Exception as error:
        hint = "; without a network give weights: PATH" if pretrained else ""
        raise UserError(f"timm could not create {model!r} with {options}: {error}{hint}") from error


def load_strictly(vit: nn.Module, path: str, model: str) -> None:
    """The whole model from a safetensors file, every name and shape equal; UserError tells what differs."""
    if not Path(path).is_file():
        raise UserError(
            f"there is no weights file {path}; give the safetensors of {model}, or `pretrained: true`"
        )
    try:
        vit.load_state_dict(load_file(path), strict=True)
    except Exception as error:
        reason = " ".join(str(error).split())[:400]
        raise UserError(f"{path} does not hold the weights of timm's {model}: {reason}") from error


def only_features(vit: Any, model: str) -> None:
    """Drop what `forward_features` does not use, keeping the final norm even where it sits in the head.

    Models that pool by averaging norm the pooled token (`fc_norm`) and leave their patch tokens raw; here the
    same norm is applied to the patch tokens, for raw ones differ a hundredfold between channels.
    """
    if not hasattr(vit, "patch_embed") or not hasattr(vit, "num_prefix_tokens"):
        raise UserError(
            f"timm's {model} is not a plain ViT: it has no patch tokens to hand out; try another model"
        )
    if isinstance(vit.norm, nn.Identity) and not isinstance(vit.fc_norm, nn.Identity):
        vit.norm, vit.fc_norm = vit.fc_norm, nn.Identity()
    vit.reset_classifier(0, "")


@torch.enable_grad()
def freeze_unreached(frames: Frames | Joint) -> None:
    """Parameters that no token depends on stop asking for a gradient: DDP would wait for it for ever."""
    named = [parameter for parameter in frames.parameters() if parameter.requires_grad]
    gradients = torch.autograd.grad(frames(frames.smallest_clip()).sum(), named, allow_unused=True)
    for parameter, gradient in zip(named, gradients, strict=True):
        parameter.requires_grad_(gradient is not None)
