"""Image ViTs inflated to space-time: timm's own tokens for a still clip, and attention that crosses time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from vjepa_distill.backbones.lifted.joint import inflated
from vjepa_distill.backbones.timm import create
from vjepa_distill.errors import UserError
from vjepa_distill.testing import check_backbone

# One model of every position scheme: what is added at the door, what is turned in every attention, which
# tokens stand before the patches, whether they have a position, and which norm is the last.
SCHEMES = {
    "vit_tiny_patch16_224": "class token, its position in the table",
    "deit_tiny_distilled_patch16_224": "class and distillation token",
    "deit3_small_patch16_224": "class token without position, layer scale",
    "vit_base_patch16_clip_224": "norm before the blocks, no bias in the patches",
    "vit_base_patch16_siglip_224": "no class token, pooled by attention",
    "vit_small_patch14_dinov2": "class token at patch 14",
    "vit_small_patch14_reg4_dinov2": "registers",
    "eva02_tiny_patch14_224": "added and rotary positions, norm in the head",
    "vit_small_patch16_dinov3": "rotary positions alone, registers",
    "vit_small_patch16_rope_mixed_224": "rotary positions of each block and head",
}
SMALL = {"depth": 2, "embed_dim": 48, "num_heads": 2, "num_classes": 5}


def joint(model: str, **options: Any) -> Any:
    return create(model, temporal="joint", timm=SMALL, **options)


def size(model: str) -> tuple[int, int]:
    """2 x 3 patches: not the trained size, not square."""
    return (28, 42) if "patch14" in model else (32, 48)


def noise(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


def twins(model: str, folder: Path, **options: Any) -> tuple[Any, Any]:
    """timm's own model, every parameter of it disturbed, and the joint one from its weights file."""
    own = timm.create_model(model, dynamic_img_size=True, **SMALL).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in own.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    save_file(own.state_dict(), folder / "image.safetensors")
    return own, joint(model, weights=str(folder / "image.safetensors"), **options).eval()


def own_tokens(own: Any, images: Tensor) -> Tensor:
    """timm's way: its constants, its forward_features."""
    config = timm.data.resolve_data_config({}, model=own)
    mean, std = (torch.tensor(config[key]).view(3, 1, 1) for key in ("mean", "std"))
    return own.forward_features((images - mean) / std)[:, own.num_prefix_tokens :]


@torch.no_grad()
@pytest.mark.parametrize("tubelet", [1, 2, 3])
@pytest.mark.parametrize("model", SCHEMES)
def test_a_still_clip_gives_the_images_tokens_in_every_tubelet(
    model: str, tubelet: int, tmp_path: Path
) -> None:
    own, backbone = twins(model, tmp_path, tubelet=tubelet)
    image = noise(2, 3, *size(model))
    tokens = backbone(image.unsqueeze(2).expand(-1, -1, 6, -1, -1))
    expected = own_tokens(own, image).repeat(1, 6 // tubelet, 1)
    torch.testing.assert_close(tokens, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("model", SCHEMES)
def test_the_contract_holds(model: str) -> None:
    check_backbone(lambda: joint(model), 4, *size(model))


@torch.no_grad()
@pytest.mark.parametrize("model", ["vit_tiny_patch16_224", "vit_small_patch16_dinov3"])
def test_every_tubelet_sees_every_other(model: str, tmp_path: Path) -> None:
    """What changes in the last tubelet moves the first one's tokens, and not when encoded frame by frame."""
    _, backbone = twins(model, tmp_path)
    frames = create(model, weights=str(tmp_path / "image.safetensors"), time="mean", timm=SMALL).eval()
    clip = noise(1, 3, 6, 32, 48)
    other = clip.clone()
    other[:, :, 4:] = 1 - clip[:, :, 4:]
    assert torch.equal(frames(clip)[:, :6], frames(other)[:, :6])
    assert (backbone(clip)[:, :6] - backbone(other)[:, :6]).abs().max() > 1e-3
    assert (backbone(clip) - frames(clip)).abs().max() > 1e-2


@torch.no_grad()
def test_only_kept_tokens_enter_the_blocks() -> None:
    backbone = joint("vit_small_patch14_reg4_dinov2").eval()
    lengths = []
    backbone.vit.blocks[0].register_forward_pre_hook(lambda module, given: lengths.append(given[0].shape[1]))
    backbone(noise(2, 3, 4, 28, 42), torch.tensor([[0, 5, 7], [11, 2, 3]]))
    assert lengths == [2 * 5 + 3]  # in each of two tubelets one class token and four registers


@pytest.mark.parametrize("temporal", ["joint", "frames"])
def test_timms_own_random_dropping_of_patches_is_refused(temporal: str) -> None:
    with pytest.raises(UserError, match=r"patch_drop_rate.*leave it out"):
        create("vit_tiny_patch16_224", temporal=temporal, timm={**SMALL, "patch_drop_rate": 0.5})


@torch.no_grad()
def test_a_learned_time_tells_tubelets_apart_in_a_clip_of_any_length() -> None:
    backbone = joint("vit_tiny_patch16_224").eval()
    still = noise(1, 3, 1, 32, 48).expand(-1, -1, 20, -1, -1)
    tokens = backbone(still).unflatten(1, (10, 6))
    torch.testing.assert_close(tokens, tokens[:, :1].expand_as(tokens), rtol=0, atol=1e-5)
    nn.init.normal_(backbone.time_position.weight)
    tokens = backbone(still).unflatten(1, (10, 6))
    apart = (tokens[:, :, None] - tokens[:, None]).norm(dim=-1).mean((0, -1)) + torch.eye(10)
    assert apart.min() > 1e-2
    # 64 products of numbers below 4, added in an order that may differ between matmuls of 10 rows and of 3
    torch.testing.assert_close(backbone.time(10)[:3], backbone.time(3), rtol=0, atol=1e-5)


@torch.no_grad()
def test_the_tubelet_embedding_is_a_convolution_over_space_and_time() -> None:
    torch.manual_seed(0)
    proj = inflated(nn.Conv2d(3, 8, (4, 6), (4, 6)), 2)
    nn.init.normal_(proj.weight)
    clip = noise(2, 3, 2, 8, 12)
    cubes = proj.weight.unflatten(1, (2, 3)).transpose(1, 2)  # [D, 3, tubelet, 4, 6]
    expected = nn.functional.conv3d(clip, cubes, proj.bias, stride=(2, 4, 6)).squeeze(2)
    torch.testing.assert_close(proj(clip.transpose(1, 2).flatten(1, 2)), expected, rtol=0, atol=5e-5)


@pytest.mark.parametrize("model", ["vit_tiny_patch16_224", "eva02_tiny_patch14_224"])
def test_recomputed_activations_change_nothing(model: str) -> None:
    backbone = joint(model)
    clip, gradients = noise(1, 3, 4, *size(model)), []
    for on in (False, True):
        backbone.set_checkpointing(on)
        gradients.append(torch.autograd.grad(backbone(clip).square().sum(), list(backbone.parameters())))
    for one, two in zip(*gradients, strict=True):
        torch.testing.assert_close(one, two, rtol=0, atol=1e-4)


def test_sizes_that_do_not_divide_are_refused() -> None:
    backbone = joint("vit_tiny_patch16_224")
    assert backbone.grid(6, 32, 48) == (3, 2, 3)
    for clip in [(5, 32, 48), (4, 40, 48), (1, 32, 48)]:
        with pytest.raises(UserError, match="do not divide into cells of 2 frames of 16 x 16"):
            backbone.grid(*clip)
    fixed = create("vit_tiny_patch16_224", temporal="joint", timm={**SMALL, "dynamic_img_size": False})
    with pytest.raises(UserError, match=r"takes 224 x 224 pixels, not 32 x 48; build it with size: \[32, 48"):
        fixed.grid(4, 32, 48)
    assert fixed.eval()(torch.zeros(1, 3, 2, 224, 224)).shape == (1, 196, 48)


@pytest.mark.parametrize(
    ("model", "options", "words"),
    [
        ("beit_base_patch16_224", {"timm": {"depth": 1}}, "cannot be inflated.*type temporal: frames"),
        ("vit_relpos_small_patch16_224", {"timm": {"depth": 1}}, "cannot be inflated"),
        ("vit_tiny_r_s16_p8_224", {"timm": {"depth": 1}}, "cannot be inflated"),
        ("swin_tiny_patch4_window7_224", {}, "cannot be inflated"),
        ("mobilenetv2_035", {}, "cannot be inflated.*type temporal: frames"),
        ("vit_tiny_patch16_224", {"time": "mean", "timm": {"depth": 1}}, "leave `time` out"),
        ("vit_tiny_patch16_224", {"temporal": "joined"}, "temporal='joined' is not one of frames, joint"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(model: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words) as refusal:
        create(model, **{"temporal": "joint", **options})
    assert "\n" not in str(refusal.value)


def test_it_says_what_it_is(tmp_path: Path) -> None:
    _, backbone = twins("vit_base_patch16_clip_224", tmp_path)
    told = backbone.describe()
    assert told["sizes"] == "any multiple of 2 frames; multiples of 16 x 16 pixels"
    assert told["normalisation"].startswith("mean 0.481455 0.457827 0.408211, std 0.26863")
    assert told["weights"] == str(tmp_path / "image.safetensors")
    assert joint("vit_tiny_patch16_224").describe()["weights"] == "random"
