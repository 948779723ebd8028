"""Every registered part keeps its contract, and every check of a contract can fail."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.testing.wrong_encoders import (
    WRONG,
    BranchesOnValues,
    GivesATuple,
    IgnoresKeep,
    NeedsTwoRows,
    OverflowsInFp16,
    SharesStateWithItsCopy,
    Sound,
    StopsInForward,
)
from vjepa_distill import registry
from vjepa_distill.backbones.cells import cut
from vjepa_distill.backbones.hidden import Hidden
from vjepa_distill.backbones.vjepa import VideoViT
from vjepa_distill.errors import UserError
from vjepa_distill.modules.masks import Whole
from vjepa_distill.protocols import Backbone, DecodeError, Latents, Objective, Timeline
from vjepa_distill.testing import (
    BACKBONE_CHECKS,
    ContractError,
    check_backbone,
    check_decoder,
    check_objective,
    examine_backbone,
    fitting_clip,
    report_backbone,
    sample_clip,
)
from vjepa_distill.testing.order import check_order
from vjepa_distill.tokens import Grid

HF = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}  # no file, no network
# What makes a family small enough for a second; a family that is not here is checked as it comes.
SMALL: dict[str, dict[str, Any]] = {
    "vjepa": {"depth": 2, "width": 48, "heads": 2},
    "ruffle": {"depth": 2, "width": 48, "heads": 2},
    "conv": {"width": 16},
    "timm": {"timm": {"depth": 2}},
    "hf": {"config": {"model_type": "dinov2", "patch_size": 16, **HF}},
}
MODELS = {
    "timm/*": "timm/vit_tiny_patch16_224",
    "torchvision/*": "torchvision/swin3d_t",
    "hf/*": "hf/facebook/dinov2-small",
}


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
    given = {"target_dim": 40, "layers": (24, 16, 24)}
    takes = registry.options_of("objective", name)
    check_objective(
        lambda **options: registry.create("objective", name, **options),
        **{option: value for option, value in given.items() if option in takes},
    )


@pytest.mark.parametrize("name", registry.catalogue("decoder"))
def test_every_registered_decoder(name: str) -> None:
    try:
        registry.create("decoder", name)
    except UserError as error:
        pytest.skip(str(error))
    check_decoder(lambda: registry.create("decoder", name))


def failures(factory: Callable[[], nn.Module]) -> set[str]:
    return {name for name, error in report_backbone(factory) if error}


class Convolutions(nn.Module):
    """Untrained convolutions over 3 x 3 x 3 cells, and a norm over groups: a cell moves all around it."""

    def __init__(self) -> None:
        super().__init__()
        self.embed_dim = 48
        self.layers = nn.Sequential(
            nn.Conv3d(3, 24, (2, 16, 16), (2, 16, 16)), nn.GELU(), nn.Conv3d(24, 48, 3, padding=1),
            nn.GroupNorm(4, 48),
        )  # fmt: skip

    def grid(self, T: int, H: int, W: int) -> Grid:
        return cut(T, H, W, (2, 16, 16))

    def arrange(self, x: Tensor) -> Tensor:
        return x

    def forward(self, clip: Tensor) -> Tensor:
        self.grid(*clip.shape[2:])
        return self.arrange(self.layers(2 * clip - 1)).flatten(2).transpose(1, 2)


class ColumnsFirst(Convolutions):
    def arrange(self, x: Tensor) -> Tensor:
        return x.transpose(3, 4)


class TimeLast(Convolutions):
    def arrange(self, x: Tensor) -> Tensor:
        return x.permute(0, 1, 3, 4, 2)


class SaysColumnsByRows(Convolutions):
    def grid(self, T: int, H: int, W: int) -> Grid:
        t, h, w = super().grid(T, H, W)
        return Grid(t, w, h)


@pytest.mark.parametrize("size", [(4, 32, 48), (4, 48, 64)])
def test_the_order_of_wide_convolutions_is_told_from_every_wrong_one(size: tuple[int, int, int]) -> None:
    """Their token that moves most is often a neighbour's: the order is judged by all the movement."""
    assert not [row for row in report_backbone(lambda: Hidden(Convolutions()), *size) if row[1]]
    for wrong in (ColumnsFirst, TimeLast, SaysColumnsByRows):
        torch.manual_seed(0)
        with pytest.raises(ContractError, match="movement that lies nearer when they are read as"):
            check_order(Hidden(wrong()).eval(), sample_clip(*size))


class Frame(nn.Module):
    """Each frame alone, by two convolutions: in a long clip most tokens never move with a cell."""

    def __init__(self) -> None:
        super().__init__()
        self.embed_dim = 24
        self.layers = nn.Sequential(
            nn.Conv2d(3, 24, 16, 16), nn.GELU(), nn.Conv2d(24, 24, 3, padding=1), nn.GELU(),
            nn.Conv2d(24, 24, 3, padding=1),
        )  # fmt: skip

    def grid(self, T: int, H: int, W: int) -> Grid:
        return cut(T, H, W, (1, 16, 16))

    def forward(self, clip: Tensor) -> Tensor:
        self.grid(*clip.shape[2:])
        cells = self.layers(2 * clip.transpose(1, 2).flatten(0, 1) - 1).unflatten(0, (len(clip), -1))
        return cells.flatten(3).transpose(2, 3).flatten(1, 2)


def test_the_order_of_a_long_clip_is_judged_by_the_tokens_that_move() -> None:
    for seed in range(3):
        torch.manual_seed(seed)
        check_order(Hidden(Frame()).eval(), sample_clip(60, 64, 80))


def test_tokens_in_another_order_are_named_by_it() -> None:
    torch.manual_seed(0)
    with pytest.raises(ContractError, match=r"read as \(h, w, t\) of 2 x 3 x 2"):
        check_order(Hidden(TimeLast()).eval(), sample_clip(4, 32, 48))


def test_a_sound_encoder_passes_and_names_are_those_of_the_table() -> None:
    assert failures(Sound) == set()
    assert set(WRONG.values()) | {"members"} == {*BACKBONE_CHECKS, "state loads into a fresh one"}


@pytest.mark.parametrize("wrong", WRONG, ids=lambda kind: kind.__name__)
def test_a_wrong_encoder_is_caught_by_exactly_the_check_meant_for_it(wrong: type[nn.Module]) -> None:
    assert failures(wrong) == {WRONG[wrong]}


@pytest.mark.parametrize("wrong", set(WRONG) - {NeedsTwoRows}, ids=lambda kind: kind.__name__)
def test_a_failure_has_three_parts_and_the_name_of_its_check(wrong: type[nn.Module]) -> None:
    with pytest.raises(ContractError, match=r"expected .* came .* to mend it: ") as caught:
        check_backbone(wrong)
    error = caught.value
    assert error.check == WRONG[wrong]
    assert all((error.expected, error.came, error.mend))
    assert str(error).startswith(f"{error.check}: expected {error.expected}; came {error.came}; ")
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.mend) == (str(error), error.mend)


def test_what_overflows_and_where_it_stops_is_named() -> None:
    rows = {f.check: f for f in examine_backbone(OverflowsInFp16)}
    assert "first in amplify (Linear)" in rows["fits into fp16"].came
    rows = {f.check: f for f in examine_backbone(StopsInForward)}
    assert "ZeroDivisionError" in rows["members"].came
    assert "wrong_encoders.py" in rows["members"].mend
    assert "in forward" in rows["members"].mend
    assert list(rows) == ["members"], "nothing else to be judged yet"


def test_what_comes_in_place_of_tokens_is_told() -> None:
    rows = {f.check: f for f in examine_backbone(GivesATuple)}
    assert rows["members"].came == "forward gives a tuple"
    rows = {f.check: f for f in examine_backbone(IgnoresKeep)}
    assert rows["shape and grid agree"].mend.startswith("keep is ignored: before tokens mix, select")


def test_an_encoder_is_left_as_it_was() -> None:
    for kind in (Sound, SharesStateWithItsCopy):
        module = kind()
        before = {name: value.clone() for name, value in module.state_dict().items()}
        examine_backbone(module)
        assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_a_backbone_without_members_is_named_as_such() -> None:
    assert failures(lambda: nn.Linear(2, 2)) == {"members"}


def test_an_encoder_that_takes_no_keep_is_told_of_the_wrapper() -> None:
    assert failures(Convolutions) == {"members"}
    with pytest.raises(
        ContractError, match=r"came forward\(clip: .*wrap the encoder in vjepa_distill.Hidden"
    ):
        check_backbone(Convolutions)


@pytest.mark.parametrize(
    ("cell", "words", "clip"),
    [
        ((2, 16, 16), "", (4, 32, 48)),
        ((2, 14, 14), "", (4, 28, 42)),
        ((2, 32, 32), "", (4, 64, 96)),
        ((16, 16, 16), "", (16, 32, 48)),
        ((8, 240, 240), "this model takes 240 x 240 pixels", (8, 240, 240)),
        ((6, 100, 180), "give 6 frames of 100 x 180", (6, 100, 180)),
    ],
)
def test_a_clip_that_fits_is_found(cell: tuple[int, int, int], words: str, clip: tuple[int, ...]) -> None:
    class Picky:
        def grid(self, *size: int) -> Grid:
            if any(n % step for n, step in zip(size, cell, strict=True)):
                raise UserError(words or "no")
            return Grid(1, 1, 1)

    assert fitting_clip(Picky()) == clip


def test_where_no_clip_fits_its_words_are_told() -> None:
    class Never:
        def grid(self, *size: int) -> Grid:
            raise UserError("not on a Sunday")

    with pytest.raises(UserError, match=r"--clip T H W.*not on a Sunday"):
        fitting_clip(Never())


@pytest.mark.slow
@pytest.mark.skipif(
    not (shutil.which("g++") or shutil.which("clang++")), reason="torch.compile needs a C++ compiler"
)
def test_what_compiles_and_exports_is_told_when_asked() -> None:
    rows = {f.check: f for f in examine_backbone(Sound, optional=True)}
    assert rows["compiles"].passed, rows["compiles"].came
    assert rows["exports"].passed, rows["exports"].came
    rows = {f.check: f for f in examine_backbone(BranchesOnValues, optional=True)}
    assert not rows["exports"].passed
    failed = {f.check: f.came for f in rows.values() if not f.passed}
    assert set(failed) == {"exports"}, failed


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
