"""The video ViT against its plain mathematics, timm ViTs against timm itself, and the leak-free wrapper."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import timm
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from vjepa_distill.backbones import conv, vjepa
from vjepa_distill.backbones.frames import Frames
from vjepa_distill.backbones.hidden import Hidden, blank
from vjepa_distill.backbones.timm import create, freeze_unreached
from vjepa_distill.errors import UserError
from vjepa_distill.tokens import Grid, take
from vjepa_distill.transformer import sincos3d

SHARED = Path(os.environ.get("VJEPA_DISTILL_SHARED", Path(__file__).parents[2] / "shared"))
WEIGHTS = SHARED / "weights" / "vit_tiny_patch16_224.safetensors"
needs_weights = pytest.mark.skipif(not WEIGHTS.is_file(), reason=f"no pretrained weights at {WEIGHTS}")

VIT = "vit_tiny_patch16_224"
KEEP = torch.tensor([[1, 5, 0, 7], [2, 11, 3, 4]])  # unsorted, and other counts in each tubelet of (2, 2, 3)


def noise(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


CLIP = noise(2, 3, 4, 32, 48)


# The native video ViT


def test_the_embedding_is_a_convolution_of_the_normalised_clip() -> None:
    vit = vjepa.tiny(depth=0, width=48, heads=2).double()
    clip = CLIP.double()
    mean = torch.tensor([0.485, 0.456, 0.406], dtype=torch.float64).view(3, 1, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225], dtype=torch.float64).view(3, 1, 1, 1)
    expected = vit.patches((clip - mean) / std).flatten(2).transpose(1, 2)
    torch.testing.assert_close(vit.embed(clip, None), expected, rtol=0, atol=1e-6)
    plain = vjepa.tiny(depth=0, width=48, heads=2, normalise="none").double()
    expected = plain.patches(clip).flatten(2).transpose(1, 2)
    torch.testing.assert_close(plain.embed(clip, None), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("position", ["sincos", "rotary"])
def test_without_blocks_keeping_is_selecting(position: str) -> None:
    """So positions are those of the full grid, also for tokens that are kept."""
    vit = vjepa.tiny(depth=0, position=position)
    vit.blocks = nn.ModuleList([TellsAngles()]) if position == "rotary" else vit.blocks
    torch.testing.assert_close(vit(CLIP, KEEP), take(vit(CLIP), KEEP))


class TellsAngles(nn.Module):
    """Instead of a block: adds the angles it is given to the tokens."""

    def forward(self, x: Tensor, angles: Tensor) -> Tensor:
        return x + F.pad(angles, (0, x.shape[-1] - angles.shape[-1]))


def test_tokens_are_blocks_over_placed_kept_tubelets() -> None:
    vit = vjepa.tiny(depth=2, width=48, heads=2)
    x = take(vit.embed(CLIP, None) + sincos3d(Grid(2, 2, 3), 48), KEEP)
    for block in vit.blocks:
        x = block(x)
    torch.testing.assert_close(vit(CLIP, KEEP), vit.norm(x))


def test_only_kept_tubelets_enter_a_block() -> None:
    vit = vjepa.tiny(depth=2, width=48, heads=2)
    lengths: list[int] = []
    for block in vit.blocks:
        block.register_forward_pre_hook(lambda _, inputs: lengths.append(inputs[0].shape[1]))
    vit(CLIP, KEEP)
    assert lengths == [4, 4]


@pytest.mark.parametrize(
    "build",
    [
        lambda: vjepa.tiny(depth=3, width=48, heads=2, position="rotary"),
        lambda: create(VIT, timm={"depth": 2}),
        lambda: conv.small(16),
    ],
    ids=["vjepa", "timm", "conv"],
)
def test_checkpointing_changes_memory_not_mathematics(build) -> None:
    model = build()
    weight = noise(2, 4, model.embed_dim)

    def gradients() -> tuple[Tensor, ...]:
        return torch.autograd.grad((model(CLIP, KEEP) * weight).sum(), list(model.parameters()))

    plain, kept_plain = gradients(), saved_bytes(model)
    model.set_checkpointing(True)
    torch.testing.assert_close(gradients(), plain)
    assert saved_bytes(model) < 0.8 * kept_plain
    model.set_checkpointing(False)
    assert saved_bytes(model) == kept_plain


def saved_bytes(model: nn.Module) -> int:
    """What a forward pass keeps for the backward pass."""
    sizes: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        sizes[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        model(CLIP, KEEP)
    return sum(sizes.values())


@pytest.mark.parametrize("position", ["sincos", "rotary"])
def test_the_residual_stream_keeps_its_precision_under_autocast(position: str) -> None:
    vit = vjepa.tiny(depth=2, width=48, heads=2, position=position)
    kinds: set[torch.dtype] = set()
    vit.blocks[1].register_forward_pre_hook(lambda _, inputs: kinds.add(inputs[0].dtype))
    with torch.autocast("cpu", torch.bfloat16):
        assert vit(CLIP).dtype == torch.float32
    assert kinds == {torch.float32}
    assert vit.double()(CLIP.double()).dtype == torch.float64


def test_drop_path_grows_to_the_last_block() -> None:
    vit = vjepa.tiny(depth=3, drop_path=0.2)
    assert [block.drop_path.p for block in vit.blocks] == pytest.approx([0.0, 0.1, 0.2])


@pytest.mark.parametrize(
    ("size", "parameters"),
    [("tiny", 5.6e6), ("small", 22e6), ("base", 86e6), ("large", 304e6), ("huge", 632e6)],
)
def test_sizes_are_those_of_the_literature(size: str, parameters: float) -> None:
    """Parameter counts of ViT papers, within the 3 % that patch size, class token and head differ by."""
    with torch.device("meta"):
        vit = vjepa.VideoViT(*SIZES[size])
    built = sum(p.numel() for p in vit.blocks.parameters()) + 768 * vit.embed_dim + 197 * vit.embed_dim
    assert built == pytest.approx(parameters, rel=0.03)


SIZES = {name: getattr(vjepa, name).__defaults__[:3] for name in ("tiny", "small", "base", "large", "huge")}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"width": 100, "heads": 3}, "width 100 does not divide into 3 heads"),
        ({"position": "absolute"}, "position='absolute' is not one of sincos, rotary"),
        ({"normalise": "clip"}, "normalise='clip' is not one of imagenet"),
    ],
)
def test_wrong_options_are_refused_in_words(options: dict, words: str) -> None:
    with pytest.raises(UserError, match=words):
        vjepa.tiny(**options)


@pytest.mark.parametrize("build", [vjepa.tiny, conv.small, lambda: create(VIT, timm={"depth": 1})])
def test_a_size_that_does_not_divide_is_told_the_nearest_that_does(build) -> None:
    with pytest.raises(UserError, match=r"of 120 x 100 pixels .* nearest that do: 20 frames of 112 x 96"):
        build().grid(20, 120, 100)


# The wrapper


class Mixer(nn.Module):
    """A black box: every token is the mean of its cell, plus the mean of the clip, in cells of any size."""

    embed_dim = 3

    def grid(self, T: int, H: int, W: int) -> Grid:
        return Grid(2, 3, 4)

    def forward(self, clip: Tensor) -> Tensor:
        cells = F.adaptive_avg_pool3d(clip, (2, 3, 4)).flatten(2).transpose(1, 2)
        return cells + clip.mean((2, 3, 4)).unsqueeze(1)


def test_hidden_pixels_are_gone_whatever_they_were() -> None:
    hidden, clip = Hidden(Mixer()), noise(2, 3, 4, 9, 16)
    keep = torch.tensor([[0, 23], [7, 5]])
    expected = hidden(clip, keep)
    shown = blank(torch.ones_like(clip), keep, Grid(2, 3, 4), fill=0.0).bool()
    assert shown[:, 0].flatten(1).sum(1).tolist() == [2 * 2 * 3 * 4] * 2
    torch.testing.assert_close(hidden(clip.masked_fill(~shown, torch.nan), keep), expected, rtol=0, atol=0)
    torch.testing.assert_close(hidden(clip), Mixer()(clip), rtol=0, atol=0)


def test_cells_need_not_be_whole_pixels() -> None:
    """Every pixel is in exactly one cell, also where 7 rows are cut into 3."""
    clip = torch.ones(1, 1, 2, 7, 5)
    grid = Grid(2, 3, 4)
    parts = [blank(clip, torch.tensor([[cell]]), grid, fill=0.0) for cell in range(grid.length)]
    assert torch.equal(sum(parts), clip)
    assert all(part.any() for part in parts)


def test_the_wrapper_says_when_there_is_nothing_to_checkpoint() -> None:
    with pytest.raises(UserError, match="Mixer has no activation checkpointing"):
        Hidden(Mixer()).set_checkpointing(True)


# timm, frame by frame


def own_features(model: nn.Module, images: Tensor) -> Tensor:
    """timm's own way: its preprocessing constants, its forward_features, its prefix tokens stripped."""
    config = timm.data.resolve_data_config({}, model=model)
    mean, std = (torch.tensor(config[key]).view(3, 1, 1) for key in ("mean", "std"))
    return model.forward_features((images - mean) / std)[:, model.num_prefix_tokens :]


def twin(model: str, **options) -> tuple[nn.Module, dict[str, Tensor]]:
    """A model of timm's, and its weights under the names of ours."""
    reference = timm.create_model(model, dynamic_img_size=True, **options).eval()
    return reference, {f"vit.{k}": v for k, v in reference.state_dict().items() if not k.startswith("head")}


@pytest.mark.parametrize("time", ["first", "mean", "concat"])
@pytest.mark.parametrize("model", [VIT, "deit_tiny_patch16_224", "vit_small_patch16_dinov3"])
def test_tokens_are_timms_own(model: str, time: str) -> None:
    reference, weights = twin(model, depth=2)
    backbone = create(model, time=time, timm={"depth": 2}).eval()
    backbone.load_state_dict(weights)
    frames = own_features(reference, CLIP.transpose(1, 2).flatten(0, 1))
    frames = frames.unflatten(0, (2, 2, 2))  # [B, t, frame of the tubelet, cells, D]
    expected = {
        "first": lambda x: x[:, :, 0],
        "mean": lambda x: x.mean(2),
        "concat": lambda x: torch.cat([x[:, :, 0], x[:, :, 1]], dim=-1),
    }[time](frames)
    assert backbone.embed_dim == expected.shape[-1]
    torch.testing.assert_close(backbone(CLIP), expected.flatten(1, 2), rtol=0, atol=1e-5)


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


@pytest.mark.parametrize(
    ("model", "kind", "options"),
    [
        (VIT, Frames, {}),
        ("eva02_tiny_patch14_224", Frames, {}),
        ("vit_relpos_small_patch16_224", Hidden, {}),
        ("vit_tiny_r_s16_p8_224", Hidden, {}),  # its convolutional stem mixes pixels before the slot
    ],
)
def test_models_that_cannot_drop_tokens_are_wrapped(model: str, kind: type, options: dict) -> None:
    assert isinstance(create(model, timm={"depth": 1, **options}), kind)


def test_the_final_norm_is_kept_where_it_sits_in_the_head() -> None:
    backbone = create(VIT, timm={"depth": 2, "global_pool": "avg"}).eval()
    tokens = backbone(CLIP)
    torch.testing.assert_close(tokens.mean(-1), torch.zeros(2, 12), rtol=0, atol=1e-5)
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
    freeze_unreached(frames.eval())
    frozen = [name for name, p in frames.named_parameters() if not p.requires_grad]
    assert frozen == ["vit.unused.weight", "vit.unused.bias"]


def test_weights_are_loaded_strictly_classifier_included(tmp_path: Path) -> None:
    model = timm.create_model(VIT, depth=1)
    path = str(tmp_path / "vit.safetensors")
    save_file(model.state_dict(), path)
    backbone = create(VIT, weights=path, timm={"depth": 1})
    assert torch.equal(backbone.vit.blocks[0].mlp.fc1.weight, model.blocks[0].mlp.fc1.weight)
    save_file({k: v for k, v in model.state_dict().items() if k != "head.bias"}, path)
    with pytest.raises(UserError, match=r"does not hold the weights of .* Missing key.* \"head.bias\""):
        create(VIT, weights=path, timm={"depth": 1})


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"model": VIT, "weights": "nowhere.safetensors"}, "there is no weights file nowhere.safetensors"),
        ({"model": VIT, "weights": __file__}, "does not hold the weights"),
        ({"model": VIT, "weights": "a", "pretrained": True}, "drop one"),
        ({"model": VIT, "time": "last"}, "time='last' is not one of first, mean, concat"),
        ({"model": "vit_tiny_patch16_225"}, "near it: .*vit_tiny_patch16_224"),
        ({"model": "mobilenetv2_100"}, "is not a plain ViT"),
        ({"model": VIT, "timm": {"dept": 1}}, "could not create.*'dept'"),
    ],
)
def test_what_cannot_be_had_is_said_in_one_line(arguments: dict, words: str) -> None:
    with pytest.raises(UserError, match=words) as caught:
        create(**arguments)
    assert "\n" not in str(caught.value)


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
    from safetensors.torch import load_file

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
