"""What comes out of a timm model for an image size, found out on a copy that has shapes and no values."""

from __future__ import annotations

from copy import deepcopy
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from vjepa_distill.errors import UserError


class Output(NamedTuple):
    """Where the map of h x w cells is in what a model returns, and how wide it is."""

    h: int
    w: int
    width: int
    layout: str
    """"NCHW" or "NHWC" maps, "NLC" tokens, or "last": timm's last intermediate map instead."""
    prefix: int
    """How many tokens come before the cells' own."""
    part: int | None
    """Which of several outputs."""


class Shapes:
    """The output of a model for any size, remembered; lives outside the module tree and owns no values."""

    def __init__(self, model: nn.Module, name: str, size: tuple[int, int] | None = None) -> None:
        self.model: Any = valueless(model).eval()
        self.name = name
        self.native = size or native_size(self.model)
        self.known: dict[tuple[int, int], Output] = {}
        self.refused: dict[tuple[int, int], str] = {}

    def __call__(self, H: int, W: int) -> Output:
        """The output for images of H x W pixels; UserError in one line for sizes the model cannot take."""
        if (H, W) in self.refused:
            raise UserError(self.refused[H, W])
        if (H, W) not in self.known:
            try:
                self.known[H, W] = self.measure(H, W)
            except UserError as refusal:
                self.refused[H, W] = str(refusal)
                raise
        return self.known[H, W]

    @torch.compiler.disable
    @torch.no_grad()
    def measure(self, H: int, W: int) -> Output:
        """One pass of an image without values."""
        try:
            output = locate(self.model, torch.zeros(1, 3, H, W, device="meta"))
        except Exception as error:  # whatever a model says of a size that it was not made for
            raise UserError(self.refusal(H, W, error)) from error
        if output is None or (self.native == (H, W) and output.h * output.w == 1):
            raise UserError(
                f"timm's {self.name} gives one vector for an image of {H} x {W} pixels and no map of cells; "
                "try another model"
            )
        return output

    def refusal(self, H: int, W: int, error: Exception) -> str:
        """What a model said of a size, in one line with what to do about it."""
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:150]
        if "meta tensor" in reason:
            return f"timm's {self.name} reads values to know its shapes ({reason}); try another model"
        others = [size for size in ((near(H), near(W)), own_size(self.model)) if self.works(*size)]
        words = f"timm's {self.name} does not take {H} x {W} pixels ({reason})"
        if others:
            words += f"; it takes {' or '.join(f'{h} x {w}' for h, w in dict.fromkeys(others))}"
        return words if self.native == (H, W) else f"{words}; or try to build it with size: [{H}, {W}]"

    @torch.no_grad()
    def works(self, H: int, W: int) -> bool:
        """Whether an image of that size passes, found out anew."""
        try:
            return locate(self.model, torch.zeros(1, 3, H, W, device="meta")) is not None
        except Exception:  # as in `measure`
            return False

    def takes(self, H: int, W: int) -> bool:
        """Whether the model takes images of that size."""
        try:
            self(H, W)
        except UserError:
            return False
        return True


def near(pixels: int) -> int:
    """The multiple of 32 that is nearest: what most models halve five times."""
    return max(32, round(pixels / 32) * 32)


def native_size(model: Any) -> tuple[int, int]:
    """Rows and columns of the images that a model was built for."""
    for owner in (model, getattr(model, "patch_embed", None)):
        size = getattr(owner, "img_size", None)
        if isinstance(size, tuple) and len(size) == 2:
            return size
    return own_size(model)


def own_size(model: Any) -> tuple[int, int]:
    """Rows and columns of the images that timm trained it on."""
    height, width = model.pretrained_cfg["input_size"][1:]
    return height, width


def valueless(module: nn.Module) -> nn.Module:
    """A deep copy on the meta device, made without copying a single value."""
    memo: dict[int, Any] = {}
    for parameter in module.parameters():
        empty = torch.empty_like(parameter, device="meta")
        memo[id(parameter)] = nn.Parameter(empty, requires_grad=parameter.requires_grad)
    for buffer in module.buffers():
        memo[id(buffer)] = torch.empty_like(buffer, device="meta")
    return deepcopy(module, memo)


def locate(model: Any, image: Tensor) -> Output | None:
    """Find the map [1, C, h, w] in what `forward_features` returns; None where there is none.

    A map says itself how many cells it has. Tokens in a row are counted against timm's last intermediate map,
    and that map stands in where they are no cells at all: PiT returns its class token alone.
    """
    features = model.forward_features(image)
    parts = [features] if isinstance(features, Tensor) else list(features)
    single = isinstance(features, Tensor)
    maps = [i for i, part in enumerate(parts) if part.ndim == 4]
    if maps:
        part, layout = maps[-1], image_layout(model, parts[maps[-1]])
        shape = parts[part].shape
        h, w, width = (shape[1], shape[2], shape[3]) if layout == "NHWC" else (shape[2], shape[3], shape[1])
        return Output(h, w, width, layout, 0, None if single else part)
    if not hasattr(model, "forward_intermediates"):
        return None
    _, width, h, w = last_map(model, image).shape
    for i in reversed(range(len(parts))):
        extra = parts[i].shape[1] - h * w
        if parts[i].ndim == 3 and parts[i].shape[2] == width and extra >= 0:
            return Output(h, w, width, "NLC", extra, None if single else i)
    return Output(h, w, width, "last", 0, None)


def image_layout(model: Any, features: Tensor) -> str:
    """Whether channels come first or last, as timm says or, where it does not, as the widths tell."""
    said = getattr(model, "output_fmt", None)
    if said is not None:
        return str(getattr(said, "value", said)).upper()
    wide = getattr(model, "num_features", None)
    return "NHWC" if features.shape[-1] == wide != features.shape[1] else "NCHW"


def last_map(model: Any, images: Tensor) -> Tensor:
    """timm's last intermediate feature as a map [N, C, h, w]."""
    return model.forward_intermediates(images, indices=1, output_fmt="NCHW", intermediates_only=True)[-1]


def cells(model: Any, images: Tensor, output: Output) -> Tensor:
    """images [N, 3, H, W], as the model wants them normalised -> [N, h*w, width], w fastest."""
    forget(model)
    if output.layout == "last":
        return last_map(model, images).flatten(2).transpose(1, 2)
    features = model.forward_features(images)
    features = features if output.part is None else features[output.part]
    if output.layout == "NCHW":
        return features.flatten(2).transpose(1, 2)
    return features.flatten(1, 2) if output.layout == "NHWC" else features[:, output.prefix :]


def forget(model: Any) -> None:
    """Let LeViT and its like look their attention biases up again.

    timm keeps them from the first pass in eval() on, when weights may still be loaded, or follow by averages.
    """
    for module in model.modules():
        if getattr(module, "attention_bias_cache", None):
            module.attention_bias_cache = {}
