"""Every registered part keeps its contract, and every check of a contract can fail."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from vjepa_distill import registry
from vjepa_distill.backbones.vjepa import VideoViT
from vjepa_distill.errors import UserError
from vjepa_distill.masks import Whole
from vjepa_distill.protocols import Backbone, DecodeError, Latents, Objective, Timeline
from vjepa_distill.testing import (
    BACKBONE_CHECKS,
    ContractError,
    check_backbone,
    check_decoder,
    check_objective,
    report_backbone,
)
from vjepa_distill.tokens import Grid, take

# What makes a family small enough for a second; a family that is not here is checked as it comes.
SMALL: dict[str, dict[str, Any]] = {
    "vjepa": {"depth": 2, "width": 48, "heads": 2},
    "ruffle": {"depth": 2, "width": 48, "heads": 2},
    "conv": {"width": 16},
    "timm": {"timm": {"depth": 2}},
}
MODELS = {"timm/*": "timm/vit_tiny_patch16_224"}


@pytest.mark.parametrize("name", registry.catalogue("backbone"))
def test_every_registered_backbone(name: str) -> None:
    def build() -> nn.Module:
        options = SMALL.get(name.split("/")[0], {})
        return registry.create("backbone", MODELS.get(name, name), **options)

    check_backbone(build)
    assert isinstance(build(), Backbone)


@pytest.mark.parametrize("position", ["sincos", "rotary"])
def test_the_video_vit_at_either_position(position: str) -> None:
    check_backbone(lambda: VideoViT(2, 48, 2, position=position))


@pytest.mark.parametrize("time", ["first", "mean", "concat"])
def test_timm_at_every_time(time: str) -> None:
    options = {"time": time, "timm": {"depth": 2}}
    check_backbone(lambda: registry.create("backbone", "timm/vit_tiny_patch16_224", **options))


@pytest.mark.parametrize("name", registry.catalogue("objective"))
def test_every_registered_objective(name: str) -> None:
    check_objective(lambda **options: registry.create("objective", name, **options))
    assert isinstance(registry.create("objective", name, embed_dim=24, timeline=Timeline(1, 1, 2)), Objective)


@pytest.mark.parametrize("name", registry.catalogue("decoder"))
def test_every_registered_decoder(name: str) -> None:
    try:
        registry.create("decoder", name)
    except UserError as error:
        pytest.skip(str(error))
    check_decoder(lambda: registry.create("decoder", name))


# Wrong encoders, each with the checks that must find it out. All begin as a sound one.


class Sound(VideoViT):
    def __init__(self) -> None:
        super().__init__(depth=2, width=48, heads=2)


class GathersAfterMixing(Sound):
    def forward(self, clip: Tensor, keep: Tensor | None = None) -> Tensor:
        tokens = super().forward(clip)
        return tokens if keep is None else take(tokens, keep)


class TimeFastest(Sound):
    def forward(self, clip: Tensor, keep: Tensor | None = None) -> Tensor:
        grid = self.grid(*clip.shape[2:])
        order = torch.arange(grid.length).view(grid).permute(1, 2, 0).flatten()
        return super().forward(clip, order.expand(len(clip), -1) if keep is None else order[keep])


class SwapsRowsAndColumns(Sound):
    def grid(self, T: int, H: int, W: int) -> Grid:
        t, h, w = super().grid(T, H, W)
        return Grid(t, w, h)

    def place(self, x: Tensor, grid: Grid, keep: Tensor | None) -> tuple[Tensor, Tensor | None]:
        return super().place(x, Grid(grid.t, grid.w, grid.h), keep)


class GuessesASquareGrid(Sound):
    def grid(self, T: int, H: int, W: int) -> Grid:
        t, h, w = super().grid(T, H, W)
        side = int((h * w) ** 0.5)
        return Grid(t, side, side)

    def place(self, x: Tensor, grid: Grid, keep: Tensor | None) -> tuple[Tensor, Tensor | None]:
        return x, None


class DropsOutInEval(Sound):
    def forward(self, clip: Tensor, keep: Tensor | None = None) -> Tensor:
        return nn.functional.dropout(super().forward(clip, keep), 0.1, training=True)


class NormalisesInPlace(Sound):
    def forward(self, clip: Tensor, keep: Tensor | None = None) -> Tensor:
        return super().forward(clip.mul_(1.0000001).add_(0.001), keep)


class HasAHeadNobodyUses(Sound):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(48, 10)


class SharesStateWithItsCopy(Sound):
    def __deepcopy__(self, memo: dict[int, Any]) -> SharesStateWithItsCopy:
        return self


class SortsWhatIsKept(Sound):
    def forward(self, clip: Tensor, keep: Tensor | None = None) -> Tensor:
        return super().forward(clip, None if keep is None else keep.sort(1).values)


class PositionsAfterKeeping(Sound):
    def place(self, x: Tensor, grid: Grid, keep: Tensor | None) -> tuple[Tensor, Tensor | None]:
        if keep is None:
            return super().place(x, grid, None)
        return super().place(x, grid, torch.arange(keep.shape[1]).expand(len(x), -1))


class CentresOverTheBatch(Sound):
    def forward(self, clip: Tensor, keep: Tensor | None = None) -> Tensor:
        tokens = super().forward(clip, keep)
        return tokens - 0.1 * tokens.mean(0, keepdim=True)


class HidesStateFromStateDict(Sound):
    def __init__(self) -> None:
        super().__init__()
        self.direction = torch.randn(48)

    def forward(self, clip: Tensor, keep: Tensor | None = None) -> Tensor:
        return super().forward(clip, keep) + self.direction


class OverflowsInBf16(Sound):
    def forward(self, clip: Tensor, keep: Tensor | None = None) -> Tensor:
        tokens = super().forward(clip, keep)
        return tokens / 0 if torch.is_autocast_enabled("cpu") else tokens


class RefusesWithoutWords(Sound):
    def grid(self, T: int, H: int, W: int) -> Grid:
        if H % 16 or W % 16 or T % 2:
            raise ValueError
        return super().grid(T, H, W)


class PromisesOddSizes(Sound):
    def grid(self, T: int, H: int, W: int) -> Grid:
        return Grid(-(-T // 2), -(-H // 16), -(-W // 16))


class SaysAnotherWidth(Sound):
    def __init__(self) -> None:
        super().__init__()
        self.embed_dim = 32

    def place(self, x: Tensor, grid: Grid, keep: Tensor | None) -> tuple[Tensor, Tensor | None]:
        return x, None


WRONG: dict[type[nn.Module], str] = {
    GathersAfterMixing: "no leak from hidden pixels",
    TimeFastest: "tokens in (t, h, w) order",
    SwapsRowsAndColumns: "tokens in (t, h, w) order",
    GuessesASquareGrid: "shape and grid agree",
    SaysAnotherWidth: "shape and grid agree",
    DropsOutInEval: "deterministic in eval",
    NormalisesInPlace: "deterministic in eval",
    HasAHeadNobodyUses: "gradient reaches every parameter",
    SharesStateWithItsCopy: "deepcopy is independent",
    SortsWhatIsKept: "keep-all equals full",
    PositionsAfterKeeping: "keep-all equals full",
    CentresOverTheBatch: "rows are independent",
    HidesStateFromStateDict: "state loads into a fresh one",
    OverflowsInBf16: "bf16 is finite and near",
    RefusesWithoutWords: "odd sizes refused in words",
    PromisesOddSizes: "odd sizes refused in words",
}


def failures(factory: Callable[[], nn.Module]) -> set[str]:
    return {name for name, error in report_backbone(factory) if error}


def test_a_sound_encoder_passes_and_names_are_those_of_the_table() -> None:
    assert failures(Sound) == set()
    assert set(WRONG.values()) <= {*BACKBONE_CHECKS, "state loads into a fresh one"}


@pytest.mark.parametrize("wrong", WRONG, ids=lambda kind: kind.__name__)
def test_every_check_of_a_backbone_can_fail(wrong: type[nn.Module]) -> None:
    assert WRONG[wrong] in failures(wrong)
    with pytest.raises(ContractError, match=r"expected .* came .* to mend it: "):
        check_backbone(wrong)


def test_a_backbone_without_members_is_named_as_such() -> None:
    assert failures(lambda: nn.Linear(2, 2)) == {"members"}


# Wrong objectives: a mean squared error of the whole clip, each spoilt in one way.


class SoundDistance(nn.Module):
    def __init__(self, embed_dim: int, timeline: object) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(embed_dim))
        self.view: Any = Whole()

    def views(self) -> tuple[Any, ...]:
        return (self.view,)

    def error(self, latents: Latents) -> Tensor:
        predicted = latents.predict(self.view, latents.splits[self.view].rest) * self.scale
        wide = torch.promote_types(predicted.dtype, torch.float32)
        return (predicted.to(wide) - latents.target.to(wide)).square()

    def forward(self, latents: Latents) -> Tensor:
        return self.error(latents).mean()


class NotReduced(SoundDistance):
    def forward(self, latents: Latents) -> Tensor:
        return self.error(latents).mean((1, 2))


class LowPrecision(SoundDistance):
    def forward(self, latents: Latents) -> Tensor:
        return super().forward(latents).to(latents.target.dtype)


class DemotesDoubles(SoundDistance):
    def forward(self, latents: Latents) -> Tensor:
        return super().forward(latents).float()


class ForgetsTheStudent(SoundDistance):
    def error(self, latents: Latents) -> Tensor:
        return (self.scale.float() * latents.target).float().square()


class OwnsAnUnusedWeight(SoundDistance):
    def __init__(self, embed_dim: int, timeline: object) -> None:
        super().__init__(embed_dim, timeline)
        self.unused = nn.Parameter(torch.ones(1))


class TurnsInfinite(SoundDistance):
    def forward(self, latents: Latents) -> Tensor:
        return super().forward(latents) / 0


class MakesNewViews(SoundDistance):
    def views(self) -> tuple[Any, ...]:
        class Unequal(type(self.view)):  # type: ignore[misc]
            pass

        return (Unequal(),)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (NotReduced, "one scalar tensor"),
        (LowPrecision, "a loss of torch.float32 from tokens of torch.bfloat16"),
        (DemotesDoubles, "a loss of torch.float64"),
        (ForgetsTheStudent, "none in the student's tokens"),
        (OwnsAnUnusedWeight, "none in unused"),
        (TurnsInfinite, "a finite loss"),
        (MakesNewViews, "equal, hashable views"),
    ],
)
def test_every_check_of_an_objective_can_fail(wrong: type[nn.Module], words: str) -> None:
    check_objective(SoundDistance)
    with pytest.raises(ContractError, match=words):
        check_objective(wrong)


# Wrong decoders: PyAV, each spoilt in one way.


def spoilt(
    scan: Callable[..., Any] | None = None, read: Callable[..., Any] | None = None
) -> Callable[[], Any]:
    sound = registry.create("decoder", "pyav")

    class Spoilt:
        name, version = "spoilt", "1"

        def scan(self, path: str) -> Any:
            return scan(sound, path) if scan else sound.scan(path)

        def read(self, path: str, indices: list[int], info: Any) -> np.ndarray:
            return read(sound, path, indices, info) if read else sound.read(path, indices, info)

    return Spoilt


def swallow(sound: Any, path: str) -> Any:
    try:
        return sound.scan(path)
    except DecodeError:
        return None


def fail_in_other_words(sound: Any, path: str) -> Any:
    try:
        return sound.scan(path)
    except DecodeError as error:
        raise OSError(str(error))


@pytest.mark.parametrize(
    ("decoder", "words"),
    [
        (lambda: spoilt(read=lambda d, p, i, info: d.read(p, sorted(i), info)), "in that order"),
        (
            lambda: spoilt(read=lambda d, p, i, info: d.read(p, [max(n - 1, 0) for n in i], info)),
            "in that order",
        ),
        (lambda: spoilt(read=lambda d, p, i, info: d.read(p, i, info).transpose(0, 3, 1, 2)), "uint8 RGB"),
        (lambda: spoilt(read=lambda d, p, i, info: d.read(p, i, info)[:, :, ::-1]), "in that order"),
        (lambda: spoilt(scan=swallow), "expected DecodeError"),
        (lambda: spoilt(scan=fail_in_other_words), "expected DecodeError"),
    ],
    ids=["sorted", "late", "channels first", "mirrored", "swallows", "other error"],
)
def test_every_check_of_a_decoder_can_fail(decoder: Callable[[], Any], words: str) -> None:
    with pytest.raises(ContractError, match=words):
        check_decoder(decoder())
