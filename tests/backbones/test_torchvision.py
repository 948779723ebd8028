"""torchvision's video models: its own features as tokens, its own normalisation, its own weights by name."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision import models as library
from torchvision.models.video import MViT, SwinTransformer3d, VideoResNet, mc3_18, mvit, resnet, s3d

from vjepa_distill import registry
from vjepa_distill.backbones import torchvision as adapter
from vjepa_distill.backbones.hidden import Hidden
from vjepa_distill.backbones.torchvision import create
from vjepa_distill.backbones.volumes import Volumes, interpolated
from vjepa_distill.errors import UserError
from vjepa_distill.testing import report_backbone


def noise(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


# Small models of every kind torchvision has, by its own classes.


def tiny_mvit(relative: bool, spatial_size: tuple[int, int] = (64, 96), temporal_size: int = 4) -> nn.Module:
    """Both versions in two blocks, the second at half the rows and columns."""
    shapes = [(1, 16, 32, [1, 1, 1], [1, 4, 4]), (2, 32, 32, [1, 2, 2], [1, 2, 2])]
    blocks = [
        mvit.MSBlockConfig(heads, given, made, [3, 3, 3], [3, 3, 3], stride, keys)
        for heads, given, made, stride, keys in shapes
    ]
    new = {"residual_pool": relative, "rel_pos_embed": relative, "proj_after_attn": relative}
    return MViT(spatial_size, temporal_size, blocks, residual_with_cls_embed=False, num_classes=5, **new)  # type: ignore[arg-type]


def tiny_swin() -> nn.Module:
    return SwinTransformer3d([2, 4, 4], 16, [2, 2], [2, 2], [8, 7, 7], num_classes=5)


def tiny_resnet() -> nn.Module:
    makers = [resnet.Conv2Plus1D] * 4
    return VideoResNet(resnet.BasicBlock, makers, [1, 1, 1, 1], resnet.R2Plus1dStem, num_classes=5)


TINY: dict[str, Callable[[], Any]] = {
    "mvit v1": partial(tiny_mvit, False),
    "mvit v2": partial(tiny_mvit, True),
    "swin": tiny_swin,
    "s3d": partial(s3d, num_classes=5),
    "mc3": partial(mc3_18, num_classes=5),
    "r2plus1d": tiny_resnet,
}
SIZES = {"s3d": (8, 64, 64), "r2plus1d": (9, 17, 32), "mc3": (2, 17, 32), "swin": (4, 16, 24)}
"""Clips that leave few cells, some of them with a rest; (4, 64, 96), for which they were built, for MViTs."""
# Where torchvision's own forward hands its features on, and in which order its axes are there.
LAST = {"s3d": "avgpool", "mc3": "avgpool", "r2plus1d": "avgpool", "swin": "avgpool"}


def disturb(module: nn.Module) -> None:
    """Other values everywhere, batch statistics too: what starts at zero or one would hide a mistake."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, value in module.state_dict().items():
            if value.is_floating_point():
                draw = torch.rand if name.endswith("running_var") else torch.randn
                value.add_(0.1 * draw(value.shape, generator=generator))


def own_tokens(model: Any, clip: Tensor, last: str) -> Tensor:
    """What torchvision's own forward computes just before it pools, in the order (t, h, w)."""
    seen: list[Tensor] = []
    if last == "norm":
        model.norm.register_forward_hook(lambda module, given, made: seen.append(made[:, 1:]))
    else:
        model.avgpool.register_forward_pre_hook(
            lambda module, given: seen.append(given[0].flatten(2).transpose(1, 2))
        )
        if isinstance(model.avgpool, nn.AvgPool3d):  # S3D's is made for 7 x 7 cells and up
            model.avgpool.forward = nn.AdaptiveAvgPool3d(1).forward
    model(clip)
    return seen[0]


@torch.no_grad()
@pytest.mark.parametrize("name", TINY)
def test_tokens_are_torchvisions_own_features(name: str) -> None:
    own = TINY[name]().eval()
    disturb(own)
    assert_same_tokens(own, noise(2, 3, *SIZES.get(name, (4, 64, 96))), LAST.get(name, "norm"))


@pytest.mark.slow
@torch.no_grad()
@pytest.mark.parametrize("name", adapter.models())
def test_tokens_of_the_real_ones_are_torchvisions_own_features(name: str) -> None:
    own = library.get_model(name).eval()
    disturb(own)
    clip = noise(1, 3, 16, 224, 224) if name.startswith("mvit") else noise(1, 3, 9, 65, 96)
    assert_same_tokens(own, clip, "norm" if name.startswith("mvit") else "avgpool")


def assert_same_tokens(own: nn.Module, clip: Tensor, last: str) -> None:
    mean, std = (0.4, 0.5, 0.3), (0.2, 0.3, 0.25)
    backbone = Volumes(deepcopy(own), mean, std, "random").eval()
    scaled = (clip - torch.tensor(mean).view(3, 1, 1, 1)) / torch.tensor(std).view(3, 1, 1, 1)
    expected = own_tokens(own, scaled, last)
    tokens = backbone(clip)
    assert tokens.shape == (len(clip), backbone.grid(*clip.shape[2:]).length, backbone.embed_dim)
    torch.testing.assert_close(tokens, expected, rtol=0, atol=1e-5 * max(1.0, expected.abs().max().item()))


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.slow) if name in ("s3d", "r2plus1d") else name for name in TINY],
)
def test_the_contract_holds(name: str) -> None:
    def build() -> nn.Module:
        return Hidden(Volumes(TINY[name](), (0.45,) * 3, (0.225,) * 3, "random"))

    assert broken(build, SIZES.get(name, (4, 64, 96))) == {}


@pytest.mark.slow
@pytest.mark.parametrize("name", adapter.models())
def test_every_video_model_of_torchvision_keeps_the_contract(name: str) -> None:
    sizes = {"s3d": (16, 64, 96), "mc3_18": (2, 32, 48), "r3d_18": (16, 32, 48), "r2plus1d_18": (16, 32, 48)}
    size = sizes.get(name, (4, 64, 96))
    assert broken(lambda: registry.create("backbone", f"torchvision/{name}"), size) == {}


def broken(build: Callable[[], nn.Module], size: tuple[int, int, int]) -> dict[str, str]:
    """Every row of the contract that does not hold."""
    return {name: error for name, error in report_backbone(build, *size) if error}


@torch.no_grad()
@pytest.mark.parametrize("relative", [False, True])
def test_an_mvit_takes_other_sizes_than_it_was_built_for(relative: bool) -> None:
    """Version 2 as torchvision's own with its places told anew, version 1 by interpolated positions."""
    own = tiny_mvit(relative, (64, 64), 8).eval()
    disturb(own)
    twin = tiny_mvit(relative, (64, 64), 8)
    twin.load_state_dict(own.state_dict())
    backbone = Volumes(twin, (0.0,) * 3, (1.0,) * 3, "random").eval()
    places = own.pos_encoding
    if not relative:
        space = interpolated(places.spatial_pos, (16, 16), (16, 24), "bicubic")
        time = interpolated(places.temporal_pos, (4,), (2,), "linear")
        places.spatial_pos, places.temporal_pos = nn.Parameter(space), nn.Parameter(time)
    places.spatial_size, places.temporal_size = (16, 24), 2
    clip = noise(1, 3, 4, 64, 96)
    torch.testing.assert_close(backbone(clip), own_tokens(own, clip, "norm"), rtol=0, atol=1e-5)


def test_positions_are_interpolated_along_their_own_axes() -> None:
    rows = torch.arange(4.0).repeat_interleave(4).unsqueeze(1)  # the row of every cell of 4 x 4
    wider = interpolated(rows, (4, 4), (4, 8), "bicubic").view(4, 8)
    torch.testing.assert_close(wider, torch.arange(4.0).unsqueeze(1).expand(4, 8))
    assert interpolated(rows, (4, 4), (4, 4), "bicubic") is rows


@pytest.mark.parametrize("name", ["mvit_v2_s", "swin3d_t", "r2plus1d_18", "s3d"])
def test_the_normalisation_is_that_of_the_models_weights(name: str) -> None:
    preset = library.get_model_weights(name).DEFAULT.transforms()
    with torch.device("meta"):
        net = library.get_model(name)
    told = Volumes(net, preset.mean, preset.std, "random").describe()["normalisation"]
    assert (
        told
        == {
            "mvit_v2_s": "mean 0.45 0.45 0.45, std 0.225 0.225 0.225",
            "swin3d_t": "mean 0.485 0.456 0.406, std 0.229 0.224 0.225",
            "r2plus1d_18": "mean 0.43216 0.394666 0.37645, std 0.22803 0.22145 0.216989",
            "s3d": "mean 0.43216 0.394666 0.37645, std 0.22803 0.22145 0.216989",
        }[name]
    )


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_weights_from_a_file_are_loaded_strictly(suffix: str, tmp_path: Path) -> None:
    own = library.get_model("s3d").eval()
    disturb(own)
    state, path = own.state_dict(), tmp_path / f"weights.{suffix}"
    write: Callable[[dict[str, Tensor]], None] = (
        (lambda state: torch.save(state, path)) if suffix == "pth" else (lambda state: save_file(state, path))
    )
    write(state)
    backbone = create("s3d", weights=str(path)).eval()
    clip = noise(1, 3, 8, 32, 32)
    mean, std = (
        torch.tensor(v).view(3, 1, 1, 1) for v in ([0.43216, 0.394666, 0.37645], [0.22803, 0.22145, 0.216989])
    )
    with torch.no_grad():
        expected = own.features((clip - mean) / std).flatten(2).transpose(1, 2)
        torch.testing.assert_close(backbone(clip), expected, rtol=1e-4, atol=1e-5)
    assert backbone.module.describe()["weights"] == str(path)
    write({name: value for name, value in state.items() if name != "classifier.1.bias"})
    with pytest.raises(
        UserError, match=r"does not hold the weights of torchvision's s3d.*classifier\.1\.bias"
    ):
        create("s3d", weights=str(path))
    path.write_bytes(b"not tensors")
    with pytest.raises(UserError, match="cannot be read as a state dict"):
        create("s3d", weights=str(path))


def test_a_download_that_fails_says_what_to_put_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    for scheme in ("http", "https", "HTTP", "HTTPS"):
        monkeypatch.setenv(f"{scheme}_proxy" if scheme.islower() else f"{scheme}_PROXY", "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UserError) as refusal:
        create("s3d", weights="KINETICS400_V1")
    words = str(refusal.value)
    assert "could not fetch S3D_Weights.KINETICS400_V1" in words
    assert "https://download.pytorch.org/models/s3d-d76dad2f.pth" in words
    assert str(tmp_path / "hub" / "checkpoints") in words
    assert "weights: PATH" in words
    assert "\n" not in words


def test_weights_in_the_cache_need_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By torchvision's own name, and by its full one; a file that is not what the name says is refused."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    torch.save(library.get_model("s3d").state_dict(), folder / "s3d-d76dad2f.pth")
    for name in ("KINETICS400_V1", "DEFAULT", "S3D_Weights.KINETICS400_V1"):
        told = create("s3d", weights=name).module.describe()
        assert told["weights"] == "S3D_Weights.KINETICS400_V1"
        assert "Kinetics-400" in told["licence"]
    with pytest.raises(UserError, match=r"neither a file nor one of torchvision's for s3d: KINETICS400_V1"):
        create("s3d", weights="MViT_V2_S_Weights.KINETICS400_V1")


@pytest.mark.parametrize(
    ("model", "options", "words"),
    [
        ("mvit_v3", {}, "has no video model 'mvit_v3'; near it: mvit_v"),
        ("nothing_like_it", {}, "near it: mc3_18, .*swin3d_t"),
        ("resnet18", {}, "resnet18 is no video model; type timm/"),
        (
            "s3d",
            {"weights": "KINETICS600"},
            "neither a file nor one of torchvision's for s3d: KINETICS400_V1, DEFAULT",
        ),
        ("s3d", {"weights": "R3D_18_Weights.V2"}, "neither a file nor one of torchvision's for s3d"),
        ("s3d", {"torchvision": {"depth": 3}}, "could not create 's3d' with .*'depth'"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(model: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words) as refusal:
        create(model, **options)
    assert "\n" not in str(refusal.value)


def test_a_clip_of_which_nothing_is_left_is_refused() -> None:
    backbone = create("s3d")
    assert backbone.grid(16, 224, 224) == (2, 7, 7)
    with pytest.raises(
        UserError, match=r"nothing is left of 4 frames of 64 x 64 pixels.*at least 8 frames of 32 x 32"
    ):
        backbone.grid(4, 64, 64)


def test_checkpointing_is_for_models_without_batch_norms() -> None:
    with pytest.raises(UserError, match="S3D has batch norms, which would count every batch twice"):
        create("s3d").set_checkpointing(True)
    backbone = Volumes(tiny_mvit(True), (0.0,) * 3, (1.0,) * 3, "random")
    gradients = []
    for on in (False, True):
        backbone.set_checkpointing(on)
        loss = backbone(noise(1, 3, 4, 64, 96)).square().sum()
        gradients.append(torch.autograd.grad(loss, list(backbone.parameters())))
    for one, two in zip(*gradients, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-4)


def test_options_reach_torchvisions_builder() -> None:
    backbone = create("swin3d_t", torchvision={"attention_dropout": 0.25})
    assert backbone.module.model.features[0][0].attn.attention_dropout == 0.25
