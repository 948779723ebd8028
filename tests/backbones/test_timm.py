"""Every family of timm against timm itself: the contract, its own tokens, its own sizes, its own words."""

from __future__ import annotations

import importlib
import os
from copy import deepcopy
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from vjepa_distill.backbones.hidden import Hidden
from vjepa_distill.backbones.lifted.frames import Frames
from vjepa_distill.backbones.timm import create, freeze_unreached
from vjepa_distill.errors import UserError
from vjepa_distill.registry import create_backbone
from vjepa_distill.testing import check_backbone
from vjepa_distill.tokens import Grid

SHARED = Path(os.environ.get("VJEPA_DISTILL_SHARED", Path(__file__).parents[3] / "shared"))
WEIGHTS = SHARED / "weights" / "vit_tiny_patch16_224.safetensors"
MOBILENET = SHARED / "weights" / "mobilenetv2_100_same.safetensors"
needs_weights = pytest.mark.skipif(not WEIGHTS.is_file(), reason=f"no pretrained weights at {WEIGHTS}")

VIT = "vit_tiny_patch16_224"
KEEP = torch.tensor([[1, 5, 0, 7], [2, 11, 3, 4]])  # unsorted, and other counts in each tubelet of (2, 2, 3)


def noise(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


CLIP = noise(2, 3, 4, 32, 48)
SMALL = {"depth": 2, "embed_dim": 48, "num_heads": 2}
STAGES = {"embed_dim": 24, "depths": (1, 1, 1, 1), "num_heads": (1, 1, 2, 2)}

PYRAMID = {"depths": (1, 1, 1, 1), "embed_dims": (16, 16, 24, 48), "num_heads": (1, 1, 2, 2)}


class Family(NamedTuple):
    """One small model of a family: how timm lays its features out, and what makes it small."""

    model: str
    layout: int | str
    """How many prefix tokens come before one token a patch, or how a map is laid out."""
    cell: int
    """Pixels to a side of a cell."""
    kind: type
    """Frames where only kept patches are encoded, else Hidden."""
    options: dict[str, Any] = {}  # noqa: RUF012
    slow: bool = False

    @property
    def size(self) -> tuple[int, int]:
        return 2 * self.cell, 3 * self.cell


FAMILIES = [
    Family("vit_tiny_patch16_224", 1, 16, Frames, SMALL),
    Family("deit_tiny_distilled_patch16_224", 2, 16, Frames, SMALL),
    Family("vit_base_patch16_clip_224", 1, 16, Frames, SMALL),
    Family("vit_base_patch16_siglip_224", 0, 16, Frames, SMALL),
    Family("vit_small_patch14_dinov2", 1, 14, Frames, SMALL),
    Family("vit_small_patch14_reg4_dinov2", 5, 14, Frames, SMALL),
    Family("vit_small_patch16_dinov3", 5, 16, Frames, SMALL),
    Family("eva02_tiny_patch14_224", 1, 14, Frames, SMALL),
    Family("beit_base_patch16_224", 1, 16, Hidden, SMALL | {"img_size": (32, 48)}),
    Family("vit_relpos_small_patch16_224", 0, 16, Hidden, SMALL | {"img_size": (32, 48)}),
    Family("vit_tiny_r_s16_p8_224", 1, 32, Hidden, SMALL),
    Family("samvit_base_patch16", "NCHW", 16, Hidden, SMALL | {"global_attn_indexes": (1,)}),
    Family("naflexvit_base_patch16_gap", 4, 16, Hidden, SMALL),
    Family("cait_xxs24_224", 1, 16, Hidden, SMALL | {"img_size": (32, 48)}),
    Family("xcit_nano_12_p16_224", 1, 16, Hidden, {"depth": 1}),
    Family("mixer_s32_224", 0, 32, Hidden, {"img_size": (64, 96)}, slow=True),
    Family("test_convnext", "NCHW", 32, Hidden),
    Family("test_resnet", "NCHW", 32, Hidden),
    Family("mobilenetv2_035", "NCHW", 32, Hidden, slow=True),
    Family("mobilenetv4_conv_small", "NCHW", 32, Hidden),
    Family("test_efficientnet", "NCHW", 32, Hidden),
    Family("regnetx_002", "NCHW", 32, Hidden),
    Family("swin_tiny_patch4_window7_224", "NHWC", 32, Hidden, STAGES),
    Family("swinv2_tiny_window8_256", "NHWC", 32, Hidden, STAGES),
    Family("hiera_tiny_224", 0, 32, Hidden, {"img_size": (64, 96), "embed_dim": 24, "stages": (1, 1, 1, 1)}),
    Family("fastvit_t8", "NCHW", 32, Hidden, {"layers": (1, 1, 1, 1), "embed_dims": (16, 32, 32, 64)}),
    Family("test_maxvit", "NCHW", 32, Hidden, {"img_size": (64, 96)}),
    Family("pvt_v2_b0", "NCHW", 32, Hidden, PYRAMID),
    Family("efficientvit_b0", "NCHW", 32, Hidden),
    Family("test_mambaout", "NHWC", 32, Hidden),
    Family("mvitv2_tiny", 0, 32, Hidden, slow=True),
    Family("vitamin_small_224", 0, 16, Hidden, slow=True),
]


def families() -> pytest.MarkDecorator:
    rows = [pytest.param(f, id=f.model, marks=[pytest.mark.slow] if f.slow else []) for f in FAMILIES]
    return pytest.mark.parametrize("family", rows)


def timms_own(model: nn.Module, images: Tensor, layout: int | str) -> Tensor:
    """timm's own way: its constants, its forward_features; then [N, h*w, D] as the layout says."""
    config = timm.data.resolve_data_config({}, model=model)
    mean, std = (torch.tensor(config[key]).view(3, 1, 1) for key in ("mean", "std"))
    features = model.forward_features((images - mean) / std)
    if layout == "NCHW":
        return features.flatten(2).transpose(1, 2)
    return features.flatten(1, 2) if layout == "NHWC" else features[:, layout:]


@families()
def test_the_contract_holds(family: Family) -> None:
    check_backbone(lambda: create(family.model, timm=family.options), 4, *family.size)


@families()
def test_tokens_are_timms_own(family: Family, tmp_path: Path) -> None:
    """Weights through a file, its own size and normalisation; a tubelet's first frame, and the mean."""
    grows = family.kind is Frames or any(word in family.model for word in ("_r_s16", "swin", "vitamin"))
    any_size = {"dynamic_img_size": True} if grows else {}
    reference = timm.create_model(family.model, **any_size, **family.options).eval()
    stir(reference)
    path = str(tmp_path / "model.safetensors")
    save_file(reference.state_dict(), path)
    clip = noise(2, 3, 4, *family.size)
    with torch.no_grad():
        frames = timms_own(reference, clip.transpose(1, 2).flatten(0, 1), family.layout)
        frames = frames.unflatten(0, (2, 2, 2))  # [B, t, frame, cells, D]
        for time, expected in {"first": frames[:, :, 0], "mean": frames.mean(2)}.items():
            backbone = create(family.model, weights=path, time=time, timm=family.options).eval()
            assert isinstance(backbone, family.kind)
            assert backbone.grid(4, *family.size) == Grid(2, 2, 3)
            torch.testing.assert_close(backbone(clip), expected.flatten(1, 2), rtol=1e-5, atol=1e-5)


@torch.no_grad()
def stir(model: nn.Module) -> None:
    """Statistics and scales that are not the ones and zeros of a start, so that forgetting one shows."""
    generator = torch.Generator().manual_seed(0)
    for name, value in model.state_dict().items():
        if (
            value.ndim == 1
            and value.is_floating_point()
            and ("norm" in name or "bn" in name or "gamma" in name)
        ):
            value.add_(0.1 * torch.rand(value.shape, generator=generator))


@pytest.mark.parametrize(
    ("model", "options", "step"),
    [("test_resnet", {}, 1), ("swin_tiny_patch4_window7_224", STAGES, 4), ("test_mambaout", {}, 1)],
)
def test_the_grid_is_what_comes_out(model: str, options: dict[str, Any], step: int) -> None:
    """Sides that no stride divides, whichever way a model rounds."""
    backbone = create(model, timm=options).eval()
    with torch.no_grad():
        for H, W in ((72 - 2 // step, 100), (96 + 1 // step, 64), (32, 32 + step)):
            grid = backbone.grid(2, H, W)
            assert backbone(noise(1, 3, 2, H, W)).shape[1] == grid.length
            reference = backbone.module.model.forward_features(noise(1, 3, H, W))
            assert sorted(reference.shape[1:]) == sorted((grid.h, grid.w, backbone.embed_dim))


def test_concat_sets_the_frames_of_a_tubelet_side_by_side() -> None:
    both = create("test_resnet", time="concat").eval()
    first = create("test_resnet").eval()
    first.load_state_dict(both.state_dict())
    clip = noise(1, 3, 4, 64, 96)
    tokens = both(clip)
    assert both.embed_dim == 2 * first.embed_dim
    torch.testing.assert_close(tokens[..., : first.embed_dim], first(clip))
    torch.testing.assert_close(tokens[..., first.embed_dim :], first(clip.roll(-1, 2)))


def test_what_the_tokens_do_not_need_is_gone_or_frozen() -> None:
    backbone = create("mobilenetv3_small_050")
    assert not [
        name for name, _ in backbone.named_parameters() if "classifier" in name or "conv_head" in name
    ]
    backbone = create("coat_lite_tiny", timm={"img_size": (64, 96)})
    frozen = [name for name, p in backbone.named_parameters() if not p.requires_grad]
    tokens = backbone.train()(noise(1, 3, 2, 64, 96))
    asking = [p for p in backbone.parameters() if p.requires_grad]
    assert all(g is not None for g in torch.autograd.grad(tokens.sum(), asking, allow_unused=True))
    assert len(frozen) < len(asking)


@pytest.mark.parametrize("model", ["pit_ti_224", "efficientvim_m1"])
def test_where_the_output_is_no_map_the_last_one_inside_is_taken(model: str) -> None:
    """PiT returns its class token alone, EfficientViM what its stages had and their states."""
    backbone = create(model, size=[64, 96]).eval()
    clip = noise(1, 3, 2, 64, 96)
    grid = backbone.grid(2, 64, 96)
    images = (clip[:, :, 0] - backbone.module.mean) / backbone.module.std
    with torch.no_grad():
        expected = backbone.module.model.forward_intermediates(images, intermediates_only=True)[-1]
        torch.testing.assert_close(backbone(clip), expected.flatten(2).transpose(1, 2), rtol=0, atol=1e-5)
    assert expected.shape[2:] == (grid.h, grid.w)


def test_loaded_weights_count_at_once_where_timm_remembers_old_ones() -> None:
    """LeViT keeps its attention biases from the first pass in eval(): an EMA teacher would never follow."""
    backbone = create("levit_128s", size=128).eval()
    clip = noise(1, 3, 2, 128, 128)
    backbone(clip)
    state = {k: v + torch.randn_like(v) if "bias" in k else v for k, v in backbone.state_dict().items()}
    fresh = create("levit_128s", size=128).eval()
    for model in (backbone, fresh):
        model.load_state_dict(state)
    torch.testing.assert_close(backbone(clip), fresh(clip))


def test_a_copy_measures_sizes_of_its_own() -> None:
    backbone = create("test_resnet")
    other = deepcopy(backbone)
    assert other.module.shapes is not backbone.module.shapes
    assert other.grid(2, 70, 100) == backbone.grid(2, 70, 100) == Grid(1, 3, 4)
    assert all(not p.is_meta for p in other.parameters())


# Other sizes


@pytest.mark.parametrize(
    ("model", "options"),
    [
        ("beit_base_patch16_224", SMALL),
        ("vit_relpos_small_patch16_224", SMALL),
        ("test_vit", {"dynamic_img_size": False}),
        ("test_maxvit", {}),
    ],
)
def test_a_fixed_model_is_built_for_another_size(model: str, options: dict[str, Any], tmp_path: Path) -> None:
    """From weights of its own size by timm's resampling, and again as an exported run is: without them."""
    reference = timm.create_model(model, **options).eval()
    path = str(tmp_path / "model.safetensors")
    save_file(reference.state_dict(), path)
    with pytest.raises(UserError, match=r"size: \[64, 96\]"):
        create(model, timm=options).grid(2, 64, 96)
    backbone = create(model, weights=path, size=[64, 96], timm=options).eval()
    reference.set_input_size(img_size=(64, 96))
    clip = noise(1, 3, 2, 64, 96)
    with torch.no_grad():
        layout = getattr(reference, "num_prefix_tokens", "NCHW")
        expected = timms_own(reference, clip[:, :, 0], layout)
        torch.testing.assert_close(backbone(clip), expected, rtol=0, atol=1e-5)
    again = create(model, size=[64, 96], timm=options)
    again.load_state_dict(backbone.state_dict())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"model": VIT, "weights": "nowhere.safetensors"}, "there is no weights file nowhere.safetensors"),
        ({"model": VIT, "weights": __file__}, "does not hold the weights"),
        ({"model": "test_resnet", "weights": __file__}, "does not hold the weights"),
        ({"model": VIT, "weights": "a", "pretrained": True}, "drop one"),
        ({"model": VIT, "time": "last"}, "time='last' is not one of first, mean, concat"),
        ({"model": "vit_tiny_patch16_225"}, "near it: .*vit_tiny_patch16_224"),
        ({"model": "test_vit.nowhere", "pretrained": True}, r"no weights called .*it has: test_vit\."),
        ({"model": "test_vit.nowhere"}, "could not create"),
        ({"model": VIT, "timm": {"dept": 1}}, "could not create.*'dept'"),
        ({"model": "test_resnet", "timm": {"features_only": True}}, "has no forward_features"),
        ({"model": "test_resnet", "size": "big"}, "size='big' is not a number of pixels"),
        ({"model": "test_resnet", "size": [64, 0]}, r"size=\[64, 0\] is not a number of pixels"),
        ({"model": "test_maxvit", "size": [31, 31]}, "31"),
        ({"model": "gemma4_vit_167m", "timm": {"depth": 1}}, "reads values to know its shapes"),
        ({"model": "test_resnet", "size": 8}, "one vector for an image of 8 x 8 pixels"),
    ],
)
def test_what_cannot_be_had_is_said_in_one_line(arguments: dict, words: str) -> None:
    with pytest.raises(UserError, match=words) as caught:
        create(**arguments)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("model", ["test_maxvit", "hiera_tiny_224"])
def test_a_size_that_a_model_cannot_take_is_said_in_one_line(model: str) -> None:
    options = {"embed_dim": 24, "stages": (1, 1, 1, 1)} if "hiera" in model else {}
    with pytest.raises(UserError, match=r"does not take 100 x 90 pixels .* size: \[100, 90\]") as caught:
        create(model, timm=options).grid(2, 100, 90)
    assert "\n" not in str(caught.value)


def test_checkpointing_that_a_model_has_not_is_said() -> None:
    backbone = create("ghostnet_050")
    backbone.set_checkpointing(False)
    backbone.module.model.set_grad_checkpointing = lambda on: (_ for _ in ()).throw(AssertionError)
    with pytest.raises(UserError, match="cannot recompute its activations"):
        backbone.set_checkpointing(True)


def test_a_model_describes_itself(tmp_path: Path) -> None:
    told = create(VIT, timm=SMALL).describe()
    assert told == {
        "sizes": "any multiple of 16 x 16 pixels; made for 224 x 224 pixels (14 x 14 cells)",
        "normalisation": "mean 0.5 0.5 0.5, std 0.5 0.5 0.5",
        "weights": "random",
        "pretrained": "true takes timm/vit_tiny_patch16_224.augreg_in21k_ft_in1k, licence apache-2.0",
    }
    path = str(tmp_path / "resnet.safetensors")
    save_file(timm.create_model("test_resnet").state_dict(), path)
    told = create("test_resnet", weights=path).module.describe()
    assert (told["weights"], told["licence"]) == (path, "unknown: the file does not say")
    assert create_backbone("timm/test_resnet", weights=Path(path)).module.describe()["weights"] == path
    assert told["sizes"].startswith("any that the model takes; made for 160 x 160")
    told = create("hiera_tiny_224", timm={"embed_dim": 24, "stages": (1, 1, 1, 1)}).module.describe()
    assert told["sizes"] == "224 x 224 pixels (7 x 7 cells); others: build it with size: [H, W]"


# Plain ViTs, of which only what is kept is encoded


def own_features(model: nn.Module, images: Tensor) -> Tensor:
    """timm's own way: its preprocessing constants, its forward_features, its prefix tokens stripped."""
    config = timm.data.resolve_data_config({}, model=model)
    mean, std = (torch.tensor(config[key]).view(3, 1, 1) for key in ("mean", "std"))
    return model.forward_features((images - mean) / std)[:, model.num_prefix_tokens :]


def twin(model: str, **options) -> tuple[nn.Module, dict[str, Tensor]]:
    """A model of timm's, and its weights under the names of ours."""
    reference = timm.create_model(model, dynamic_img_size=True, **options).eval()
    return reference, {f"vit.{k}": v for k, v in reference.state_dict().items() if not k.startswith("head")}


@pytest.mark.parametrize("time", ["first", "concat"])
def test_kept_tokens_equal_frames_encoded_one_by_one(time: str) -> None:
    """Other counts in every tubelet, in any order, against the transformer run by hand on what is kept."""
    reference, weights = twin(VIT, depth=2)
    backbone = create(VIT, time=time, timm={"depth": 2}).eval()
    backbone.load_state_dict(weights)

    def by_hand(image: Tensor, cell_list: list[int]) -> Tensor:
        x = reference._pos_embed(reference.patch_embed((image[None] - 0.5) / 0.5))
        return reference.norm(reference.blocks(x[:, [0, *(1 + c for c in cell_list)]]))[0, 1:]

    tokens = backbone(CLIP, KEEP)
    for row, keep in enumerate(KEEP.tolist()):
        for tubelet in (0, 1):
            columns = [i for i, k in enumerate(keep) if k // 6 == tubelet]
            frames = [2 * tubelet, 2 * tubelet + 1][: 2 if time == "concat" else 1]
            parts = [by_hand(CLIP[row, :, f], [keep[i] % 6 for i in columns]) for f in frames]
            torch.testing.assert_close(tokens[row, columns], torch.cat(parts, -1), rtol=0, atol=1e-5)


def test_tubelets_of_which_nothing_is_kept_are_not_encoded() -> None:
    backbone = create(VIT, timm={"depth": 1})
    batches: list[tuple[int, ...]] = []
    backbone.vit.blocks.register_forward_pre_hook(lambda _, inputs: batches.append(inputs[0].shape[:2]))
    backbone(CLIP, torch.arange(6).expand(2, -1))
    backbone(CLIP, torch.tensor([[0, 3, 6, 9], [1, 2, 7, 8]]))
    assert batches == [(2, 1 + 6), (4, 1 + 2)]  # one pass each, with the class token


def test_a_model_of_another_size_takes_its_weights_through_timms_own_filter(tmp_path: Path) -> None:
    """TNT cannot be resized once built; timm resamples its positions when a checkpoint is read."""
    name, options = "tnt_s_legacy_patch16_224", {"depth": 1}
    reference, path = timm.create_model(name, **options), str(tmp_path / "tnt.safetensors")
    save_file(reference.state_dict(), path)
    other = timm.create_model(name, img_size=(64, 96), **options).eval()
    convert = importlib.import_module("timm.models.tnt").checkpoint_filter_fn
    other.load_state_dict(convert(reference.state_dict(), other))
    clip = noise(1, 3, 2, 64, 96)
    with torch.no_grad():
        tokens = create(name, weights=path, size=[64, 96], timm=options).eval()(clip)
        torch.testing.assert_close(tokens, timms_own(other, clip[:, :, 0], 1), rtol=0, atol=1e-5)
    save_file(timm.create_model("pit_ti_224").state_dict(), path)
    with pytest.raises(UserError, match=r"pos_embed.*leave `size` out, if timm cannot resample"):
        create("pit_ti_224", weights=path, size=160)


def test_a_refused_size_is_told_with_sizes_that_work() -> None:
    with pytest.raises(UserError, match=r"does not take 100 x 90 .*; it takes 96 x 96 or 224 x 224"):
        create("swin_tiny_patch4_window7_224", timm={"depths": (1, 1, 1, 1)}).grid(2, 100, 90)


def test_a_norm_that_forward_features_does_not_use_is_gone() -> None:
    backbone = create(VIT, timm={"depth": 2, "global_pool": "avg"}).eval()
    assert not [name for name, _ in backbone.named_parameters() if "head" in name or "fc_norm" in name]


def test_building_draws_nothing_and_probes_nothing_that_stays() -> None:
    """The checks on the way leave no gradient, no mode and no random state behind."""
    backbone = create(VIT, timm={"depth": 1})
    assert backbone.training
    assert all(p.grad is None and p.requires_grad for p in backbone.parameters())
    with torch.inference_mode(False), torch.no_grad():
        assert all(p.requires_grad for p in create(VIT, timm={"depth": 1}).parameters())


def test_parameters_that_no_token_depends_on_are_frozen() -> None:
    frames = create(VIT, timm={"depth": 1})
    frames.vit.unused = nn.Linear(2, 2)
    frames.vit.blocks[0].unused = nn.Linear(2, 2)
    freeze_unreached(frames.eval())
    frozen = [name for name, p in frames.named_parameters() if not p.requires_grad]
    assert frozen == ["vit.blocks.0.unused.weight", "vit.blocks.0.unused.bias"]
    assert not list(frames.vit.unused.parameters()), "a part of the model that nothing calls goes altogether"


def test_weights_are_loaded_strictly_classifier_included(tmp_path: Path) -> None:
    model = timm.create_model(VIT, depth=1)
    path = str(tmp_path / "vit.safetensors")
    save_file(model.state_dict(), path)
    backbone = create(VIT, weights=path, timm={"depth": 1})
    assert torch.equal(backbone.vit.blocks[0].mlp.fc1.weight, model.blocks[0].mlp.fc1.weight)
    save_file({k: v for k, v in model.state_dict().items() if k != "head.bias"}, path)
    with pytest.raises(UserError, match=r"does not hold the weights of .* Missing key.* \"head.bias\""):
        create(VIT, weights=path, timm={"depth": 1})


# The real thing


def picture(path: Path, size: int = 224) -> Tensor:
    """A photo as the weights were evaluated with: shorter side to size / 0.9, centre crop, [3, H, W]."""
    from PIL import Image
    from torchvision.transforms import v2

    steps = [v2.Resize(int(size / 0.9), v2.InterpolationMode.BICUBIC), v2.CenterCrop(size), v2.PILToTensor()]
    return v2.Compose(steps)(Image.open(path).convert("RGB")).float() / 255


PHOTOS = {
    "cat.bmp": {281, 282, 285},
    "bird.bmp": {19},
    "dragonfly.bmp": {319},
    "hot_dog.jpg": {934},
    "parrot.jpg": {88},
}


@needs_weights
def test_the_pretrained_vit_names_the_photos_through_our_path() -> None:
    """The classifier needs the class token, which we strip: it is caught on its way out of the final norm."""
    weights = load_file(WEIGHTS)
    backbone = create(VIT, weights=str(WEIGHTS)).eval()
    seen: list[Tensor] = []
    backbone.vit.norm.register_forward_hook(lambda _, inputs, output: seen.append(output[:, 0]))
    for name, classes in PHOTOS.items():
        image = picture(SHARED / "weights" / "photos" / name)
        backbone(image[None, :, None].expand(-1, -1, 2, -1, -1))
        named = int((seen[-1] @ weights["head.weight"].T + weights["head.bias"]).argmax())
        assert named in classes, f"{name} was named {named}"


@needs_weights
@pytest.mark.parametrize("size", [224, 112])
def test_pretrained_tokens_are_timms_own(size: int) -> None:
    reference = timm.create_model(VIT, checkpoint_path=str(WEIGHTS), dynamic_img_size=True).eval()
    images = torch.stack([picture(SHARED / "weights" / "photos" / name, size) for name in PHOTOS])
    clip = images.unsqueeze(2).repeat_interleave(2, 2)  # [5, 3, 2, H, W]
    with torch.no_grad():
        tokens = create(VIT, weights=str(WEIGHTS)).eval()(clip)
        torch.testing.assert_close(tokens, own_features(reference, images), rtol=0, atol=1e-5)


@needs_weights
def test_the_pretrained_mobilenet_names_the_photos_from_our_tokens() -> None:
    """Loaded strictly; timm's classifier upon the mean of our tokens."""
    backbone = create("mobilenetv2_100", weights=str(MOBILENET), timm={"pad_type": "same"}).eval()
    weights = load_file(MOBILENET)
    for name, classes in PHOTOS.items():
        image = picture(SHARED / "weights" / "photos" / name)
        with torch.no_grad():
            pooled = backbone(image[None, :, None].expand(-1, -1, 2, -1, -1)).mean(1)[0]
        named = int((weights["classifier.weight"] @ pooled + weights["classifier.bias"]).argmax())
        assert named in classes, f"{name} was named {named}"
