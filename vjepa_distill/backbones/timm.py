"""Any timm model as a backbone: frame by frame, leak-free under masking, its own normalisation inside."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import timm as library
import torch
from torch import nn

from vjepa_distill.backbones.cells import refuse_empty
from vjepa_distill.backbones.hidden import Hidden
from vjepa_distill.backbones.lifted.frames import Frames
from vjepa_distill.backbones.lifted.images import TIMES, Images
from vjepa_distill.backbones.lifted.joint import Joint, refuse_others
from vjepa_distill.backbones.lifted.maps import Maps
from vjepa_distill.backbones.lifted.models import build, fit, load_strictly, origin, two
from vjepa_distill.backbones.lifted.shapes import Output, Shapes, valueless
from vjepa_distill.errors import UserError, one_of

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
    size: int | Sequence[int] | None = None,
    timm: dict[str, Any] | None = None,
    temporal: str = "frames",
) -> nn.Module:
    """The timm model of that name as a backbone; UserError when it, or its weights, cannot be had.

    Its tokens are those of timm's own `forward_features`: of models that norm what they pooled (`fc_norm`, as
    EVA02 and BEiT do) they are not normed. A plain ViT that can drop tokens encodes only what is kept; every
    other model sees hidden cells blanked.

    Args:
        model: timm's name, e.g. "vit_tiny_patch16_224" or "convnext_atto.d2_in1k".
        weights: a safetensors file of the whole model, classifier included, loaded strictly.
        pretrained: let timm fetch its own weights instead.
        tubelet: frames that share one token.
        time: which of them the token stands for: the "first", the "mean", or all by "concat" (D x tubelet).
        size: pixels, one side or [H, W], to build a model of fixed size for; timm resamples its positions.
        timm: further arguments of timm.create_model, e.g. {"depth": 6} or {"drop_path_rate": 0.1}.
        temporal: "frames" encodes each frame alone; "joint" inflates a plain ViT to space-time, every token
            seeing every other. For `joint` leave `time` as it is.
    """
    one_of("temporal", temporal, TEMPORAL)
    one_of("time", time, TIMES)
    refuse_empty((tubelet, 1, 1))
    if weights and pretrained:
        raise UserError(
            "both `weights` and `pretrained` are given; drop one: either a file or timm's own weights"
        )
    options = dict(timm or {})
    if options.get("patch_drop_rate"):
        raise UserError("timm: {patch_drop_rate}: what a student sees is the masks' to say; leave it out")
    sides = two(size)
    built = build(model, pretrained, options, sides)
    if weights:
        load_strictly(built, weights, model, sides)
    fit(built, model, sides)
    images: Images | Joint
    if temporal == "joint":
        images = inflate(built, model, tubelet, time).eval()
    else:
        images = adapt(built, model, sides or two(options.get("img_size")), tubelet, time).eval()
    images.origin = origin(built, weights, pretrained)
    freeze_unreached(images)
    encoder = images if drops_tokens(images) else Hidden(images)
    return encoder.train()


def models() -> list[str]:
    """Every model of the timm that is installed, by name."""
    return library.list_models()


def inflate(built: Any, model: str, tubelet: int, time: str) -> Joint:
    """The ViT on tubelets, attending over the whole clip."""
    refuse_others(built, model, time)
    only_features(built, model)
    return Joint(built, tubelet)


def drops_tokens(images: Images | Joint) -> bool:
    """Whether only what is kept enters it, as was tried."""
    return isinstance(images, Joint) or (isinstance(images, Frames) and images.drops_tokens())


def adapt(built: Any, model: str, size: tuple[int, int] | None, tubelet: int, time: str) -> Images:
    """The model on the frames of a clip: the patches of a plain ViT, else the cells of the last map."""
    if not hasattr(built, "forward_features"):
        raise UserError(f"timm's {model} has no forward_features to take tokens from; try another model")
    shapes = Shapes(built, model, size)
    if is_plain(built, shapes.native, shapes(*shapes.native)):
        only_features(built, model)
        return Frames(built, tubelet, time)
    return Maps(built, shapes, tubelet, time)


def is_plain(built: Any, size: tuple[int, int], output: Output) -> bool:
    """Whether it is a ViT of one scale: prefix tokens, then one token for each patch of the image."""
    embed: Any = getattr(built, "patch_embed", None)
    if not hasattr(embed, "feat_ratio") or not hasattr(built, "num_prefix_tokens") or output.part is not None:
        return False
    rows, columns = embed.feat_ratio(as_scalar=False)
    cells = (size[0] // rows, size[1] // columns)
    return output[:2] == cells and (output.layout, output.prefix) == ("NLC", built.num_prefix_tokens)


def only_features(vit: Any, model: str) -> None:
    """Drop the head of a ViT, which `forward_features` does not use; UserError if it is none."""
    if not hasattr(vit, "patch_embed") or not hasattr(vit, "num_prefix_tokens"):
        raise UserError(
            f"timm's {model} is not a plain ViT: it has no patch tokens to hand out; try another model"
        )
    vit.reset_classifier(0, "")


@torch.enable_grad()
def freeze_unreached(images: Images | Joint) -> None:
    """Parameters that no token depends on stop asking for a gradient: DDP would wait for it for ever.

    Whole parts of the model that are never called, as heads are, go. Found out on a copy without values.
    """
    twin: Any = valueless(images)
    called: set[str] = set()
    for name, module in twin.named_modules():
        module.register_forward_pre_hook(lambda *_, name=name: called.add(name))
    named = dict(twin.named_parameters())
    asking = [name for name, parameter in named.items() if parameter.requires_grad]
    tokens = twin(twin.smallest_clip().to("meta"))
    gradients = torch.autograd.grad(
        tokens, [named[name] for name in asking], torch.ones_like(tokens), allow_unused=True
    )
    reached = {name for name, gradient in zip(asking, gradients, strict=True) if gradient is not None}
    for name, parameter in images.named_parameters():
        parameter.requires_grad_(name in reached)
    drop_unused(images, reached | called)


def drop_unused(images: nn.Module, used: set[str]) -> None:
    """Replace by nothing the parts of the model of which neither a module nor a parameter is used.

    Lists stay: a model may walk through one without calling what is in it (EfficientViM's norms).
    """
    for outer, model in images.named_children():
        for inner, part in model.named_children():
            path = f"{outer}.{inner}"
            idle = not any(name == path or name.startswith(path + ".") for name in used)
            if idle and not isinstance(part, nn.ModuleList) and any(True for _ in part.parameters()):
                setattr(model, inner, nn.Identity())
