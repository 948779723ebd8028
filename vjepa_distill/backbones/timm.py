"""Any timm model as a backbone: frame by frame, leak-free under masking, its own normalisation inside."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import timm as library
import torch
from safetensors.torch import load_file
from torch import nn

from vjepa_distill.backbones.frames import Frames
from vjepa_distill.backbones.hidden import Hidden
from vjepa_distill.backbones.images import TIMES, Images
from vjepa_distill.backbones.maps import Maps
from vjepa_distill.backbones.shapes import Output, Shapes, valueless
from vjepa_distill.errors import UserError


def create(
    model: str,
    weights: str | None = None,
    pretrained: bool = False,
    tubelet: int = 2,
    time: str = "first",
    size: int | Sequence[int] | None = None,
    timm: dict[str, Any] | None = None,
) -> nn.Module:
    """The timm model of that name as a backbone; UserError when it, or its weights, cannot be had.

    A plain ViT that can drop tokens encodes only what is kept; every other model sees hidden cells blanked.

    Args:
        model: timm's name, e.g. "vit_tiny_patch16_224" or "convnext_atto.d2_in1k".
        weights: a safetensors file of the whole model, classifier included, loaded strictly.
        pretrained: let timm fetch its own weights instead.
        tubelet: frames that share one token.
        time: which of them the token stands for: the "first", the "mean", or all by "concat" (D x tubelet).
        size: pixels, one side or [H, W], to build a model of fixed size for; timm resamples its positions.
        timm: further arguments of timm.create_model, e.g. {"depth": 6} or {"drop_path_rate": 0.1}.
    """
    if time not in TIMES:
        raise UserError(f"time={time!r} is not one of {', '.join(TIMES)}")
    if weights and pretrained:
        raise UserError(
            "both `weights` and `pretrained` are given; drop one: either a file or timm's own weights"
        )
    options = dict(timm or {})
    sides = two(size)
    built = build(model, pretrained, options, sides)
    if weights:
        load_strictly(built, weights, model)
    fit(built, model, sides)
    images = adapt(built, model, sides or two(options.get("img_size")), tubelet, time).eval()
    images.origin = origin(built, weights, pretrained)
    freeze_unreached(images)
    encoder = images if isinstance(images, Frames) and images.drops_tokens() else Hidden(images)
    return encoder.train()


def two(size: int | Sequence[int] | None) -> tuple[int, int] | None:
    """(H, W) of one side or two; UserError for anything else."""
    if size is None:
        return None
    sides: list[Any] = [size, size] if isinstance(size, int | str) else list(size)
    if len(sides) != 2 or not all(type(side) is int and side > 0 for side in sides):
        raise UserError(f"size={size!r} is not a number of pixels; give one, or two as [H, W]")
    return sides[0], sides[1]


def build(model: str, pretrained: bool, options: dict[str, Any], size: tuple[int, int] | None = None) -> Any:
    """timm.create_model with any-size input where the model has it; failures in one line.

    A model that `fit` can resize once its weights are there is built at its own size; another at `size`, if
    it knows sizes at all.
    """
    if not library.is_model(model):
        near = get_close_matches(model, library.list_models(), n=3, cutoff=0.5)
        raise UserError(
            f"timm {library.__version__} has no model {model!r}; near it: {', '.join(near) or 'nothing'}"
        )
    if pretrained and not library.models.is_model_pretrained(model):
        tags = ", ".join(library.list_pretrained(model.split(".")[0] + ".*")[:5]) or "none"
        raise UserError(f"timm has no weights called {model!r} (it has: {tags}); give weights: PATH")
    built = attempt(model, pretrained, options, {"dynamic_img_size": True})
    if size and not hasattr(built, "set_input_size"):
        built = attempt(model, pretrained, options, {"img_size": size})
    return built


def attempt(model: str, pretrained: bool, options: dict[str, Any], extra: dict[str, Any]) -> Any:
    """The model with the extra arguments if it knows them, else without; what timm says, in one line."""
    try:
        try:
            return library.create_model(model, pretrained, **{**extra, **options})
        except TypeError:  # an argument that this model does not have
            return library.create_model(model, pretrained, **options)
    except Exception as error:
        reason = " ".join(str(error).split())[:400]
        hint = "; without a network give weights: PATH" if pretrained else ""
        raise UserError(f"timm could not create {model!r} with {options}: {reason}{hint}") from error


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


def fit(built: Any, model: str, size: tuple[int, int] | None) -> None:
    """Another size by timm's own resampling of positions and windows, where the model has it."""
    if size is None or not hasattr(built, "set_input_size"):
        return
    try:
        built.set_input_size(img_size=size)
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"timm's {model} cannot be built for size {list(size)}: {reason}") from error


def adapt(built: Any, model: str, size: tuple[int, int] | None, tubelet: int, time: str) -> Images:
    """The model on the frames of a clip: the patches of a plain ViT, else the cells of the last map."""
    if not hasattr(built, "forward_features"):
        raise UserError(f"timm's {model} has no forward_features to take tokens from; try another model")
    shapes = Shapes(built, model, size)
    if is_plain(built, shapes.native, shapes(*shapes.native)):
        only_features(built, model)
        return Frames(built, tubelet, time)
    keep_final_norm(built)
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
    """Drop what a ViT's `forward_features` does not use, but for the final norm; UserError if it is none."""
    if not hasattr(vit, "patch_embed") or not hasattr(vit, "num_prefix_tokens"):
        raise UserError(
            f"timm's {model} is not a plain ViT: it has no patch tokens to hand out; try another model"
        )
    keep_final_norm(vit)
    vit.reset_classifier(0, "")


def keep_final_norm(model: Any) -> None:
    """Norm the tokens even where timm's norm sits in the head.

    Models that pool by averaging norm the pooled token (`fc_norm`) and leave their patch tokens raw; here the
    same norm is applied to the patch tokens, for raw ones differ a hundredfold between channels.
    """
    norm, after = getattr(model, "norm", None), getattr(model, "fc_norm", None)
    if isinstance(norm, nn.Identity) and isinstance(after, nn.Module) and not isinstance(after, nn.Identity):
        model.norm, model.fc_norm = after, nn.Identity()


def origin(built: Any, weights: str | None, pretrained: bool) -> dict[str, str]:
    """Where the weights are from, and under which licence, as far as timm knows."""
    if weights:
        return {"weights": weights, "licence": "unknown: the file does not say"}
    if not pretrained:
        return {"weights": "random"}
    config = built.pretrained_cfg
    name = ".".join(filter(None, [config.get("architecture"), config.get("tag")]))
    source = config.get("hf_hub_id") or config.get("url") or "no address"
    return {"weights": f"timm's {name} ({source})", "licence": config.get("license") or "unknown"}


@torch.enable_grad()
def freeze_unreached(images: Images) -> None:
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
