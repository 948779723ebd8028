"""Every model type against transformers' own tokens, the contract, building again offline, and errors."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from vjepa_distill import Grid, UserError, create, resample
from vjepa_distill.testing import check_backbone

from vjepa_distill_transformers import sources
from vjepa_distill_transformers.families import FAMILIES

VIT: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
VIT |= {
    "initializer_range": 0.15
}  # at the usual 0.02 positions hardly move a token, and no test would see them
IMAGE = {**VIT, "intermediate_size": 64, "image_size": 32, "patch_size": 8}
SIGLIP = {"text_config": {**VIT, "intermediate_size": 64, "vocab_size": 16}}
FLEX = {key: value for key, value in IMAGE.items() if key != "image_size"} | {"num_patches": 16}
VJEPA2 = {**VIT, "hidden_size": 48, "patch_size": 8, "crop_size": 32, "frames_per_clip": 4, "mlp_ratio": 2.0}
VJEPA2 |= {"pred_hidden_size": 48, "pred_num_attention_heads": 2, "pred_num_hidden_layers": 1}
VIDEOMAE = {**IMAGE, "num_frames": 4, "layer_norm_eps": 1e-6}
DINO3 = {**IMAGE, "num_register_tokens": 4}
CONVNEXT = {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1], "layer_scale_init_value": 0.5}

# model_type: the model that is saved, its config, and the clip that the contract is checked on.
TYPES: dict[str, tuple[str, dict[str, Any], tuple[int, int, int]]] = {
    "vjepa2": ("VJEPA2Model", VJEPA2, (4, 16, 24)),
    "videomae": ("VideoMAEModel", VIDEOMAE | {"use_mean_pooling": False}, (4, 16, 24)),
    "dinov2": ("Dinov2Model", IMAGE, (4, 16, 24)),
    "dinov2_with_registers": ("Dinov2WithRegistersModel", IMAGE, (4, 16, 24)),
    "dinov3_vit": ("DINOv3ViTModel", DINO3, (4, 16, 24)),
    "dinov3_convnext": ("DINOv3ConvNextModel", CONVNEXT, (4, 64, 96)),
    "siglip": ("SiglipModel", SIGLIP | {"vision_config": IMAGE}, (4, 16, 24)),
    "siglip_vision_model": ("SiglipVisionModel", IMAGE, (4, 16, 24)),
    "siglip2": ("Siglip2Model", SIGLIP | {"vision_config": FLEX}, (4, 16, 24)),
    "siglip2_vision_model": ("Siglip2VisionModel", FLEX, (4, 16, 24)),
}
MEAN, STD = [0.4, 0.5, 0.6], [0.2, 0.25, 0.3]
PROCESSOR = {"image_mean": MEAN, "image_std": STD, "do_rescale": True, "rescale_factor": 1 / 255}
Saved = tuple[Path, Any]


def save(folder: Path, model: Any, processor: dict[str, Any] | None = PROCESSOR) -> Saved:
    """A model of random weights, its norms no longer the identity, in a folder; and the model itself."""
    with torch.no_grad():
        for name, value in model.named_parameters():
            if "norm" in name or "token" in name:
                value.add_(0.3 * torch.randn_like(value))
    model.save_pretrained(folder)
    if processor is not None:
        (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return folder, model.eval()


def build(name: str, values: dict[str, Any]) -> Any:
    torch.manual_seed(0)
    kind = getattr(transformers, name)
    return kind(kind.config_class(**values))


@pytest.fixture
def saved(tmp_path: Path) -> Callable[..., Saved]:
    def make(model_type: str, processor: dict[str, Any] | None = PROCESSOR, **changes: Any) -> Saved:
        name, values, _ = TYPES[model_type]
        return save(tmp_path / model_type, build(name, values | changes), processor)

    return make


def load(folder: Path | str, **options: Any) -> Any:
    return create("backbone", "hf/some/name", weights=str(folder), **options).eval()


def inside(backbone: Any) -> Any:
    return getattr(backbone, "module", backbone)


def pixels(clip: Tensor) -> Tensor:
    """[B, 3, T, H, W] as a processor hands it over: [B, T, 3, H, W], normalised."""
    return (clip.transpose(1, 2) - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)


def own_tokens(model: Any, model_type: str, clip: Tensor) -> Tensor:
    """What the library itself says of a clip (videos) or of the first frame of each tubelet (images)."""
    given = pixels(clip)
    if model_type == "vjepa2":
        return model(given, skip_predictor=True).last_hidden_state
    if model_type == "videomae":
        return model(given).last_hidden_state
    images = given[:, ::2].flatten(0, 1)
    model = getattr(model, "vision_model", model)
    if model_type.startswith("siglip2"):
        tokens = flexible_tokens(model, images)
    elif model_type.startswith("siglip"):
        tokens = model(images, interpolate_pos_encoding=True).last_hidden_state
    else:
        registers = getattr(model.config, "num_register_tokens", 0)
        tokens = model(images).last_hidden_state[:, 1 + registers :]
    return tokens.unflatten(0, (len(clip), -1)).flatten(1, 2)


def flexible_tokens(model: Any, images: Tensor) -> Tensor:
    """NaFlex by its own processor, which pads: patches are cut, masked and resampled in the library."""
    size = model.config.patch_size
    h, w = images.shape[-2] // size, images.shape[-1] // size
    kind = transformers.Siglip2ImageProcessor
    from_pixels = kind(
        patch_size=size, max_num_patches=h * w + 3, do_resize=False, do_rescale=False, do_normalize=False
    )
    batch = from_pixels(list(images), return_tensors="pt", input_data_format="channels_first")
    assert batch["spatial_shapes"][0].tolist() == [h, w]
    return model(**batch).last_hidden_state[:, : h * w]


SIZES = {"square": (4, 32, 32), "wide": (6, 32, 48)}
FIXED = {("videomae", "wide"), ("vjepa2", "wide")}  # the library takes one square size only


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("model_type", TYPES)
@torch.no_grad()
def test_tokens_are_the_librarys_own(saved: Callable[..., Saved], model_type: str, size: str) -> None:
    if (model_type, size) in FIXED:
        pytest.skip("has a test of its own below")
    folder, model = saved(model_type)
    T, H, W = SIZES[size]
    if model_type == "dinov3_convnext":
        H, W = 2 * H, 2 * W
    clip = torch.rand(2, 3, T, H, W)
    backbone = load(folder)
    torch.testing.assert_close(backbone(clip), own_tokens(model, model_type, clip), rtol=0, atol=1e-5)
    assert backbone.grid(T, H, W).length == backbone(clip).shape[1]
    assert backbone.embed_dim == backbone(clip).shape[2]


def test_every_adapter_is_tried() -> None:
    assert TYPES.keys() == FAMILIES.keys()


@pytest.mark.parametrize("model_type", TYPES)
def test_the_contract(saved: Callable[..., Saved], model_type: str) -> None:
    folder, _ = saved(model_type)
    check_backbone(lambda: create("backbone", "hf/a/b", config=str(folder)), *TYPES[model_type][2])


@torch.no_grad()
def test_vjepa2_at_another_square_size_and_length_is_the_library_built_for_it(
    saved: Callable[..., Saved], tmp_path: Path
) -> None:
    folder, model = saved("vjepa2")
    wider = build("VJEPA2Model", VJEPA2 | {"crop_size": 48})
    wider.load_state_dict(model.state_dict())
    clip = torch.rand(1, 3, 8, 48, 48)
    expected = own_tokens(wider.eval(), "vjepa2", clip)
    torch.testing.assert_close(load(folder)(clip), expected, rtol=0, atol=1e-5)
    assert (own_tokens(model, "vjepa2", clip) - expected).abs().max() > 1e-3, (
        "its own crop_size is wrong here"
    )


@torch.no_grad()
def test_vjepa2_of_a_wide_clip_has_the_places_of_a_square_one(saved: Callable[..., Saved]) -> None:
    """Told to see two rows of a square clip only, the library itself gives the tokens of the wide clip."""
    folder, model = saved("vjepa2")
    backbone, square = load(folder), torch.rand(1, 3, 4, 32, 32)
    wide = square[..., :16, :]
    places = torch.arange(2 * 4 * 4).view(2, 4, 4)[:, :2].flatten()
    x = model.encoder.embeddings(pixels(square))[:, places]
    for layer in model.encoder.layer:
        x = layer(x, places.unsqueeze(0))[0]
    torch.testing.assert_close(backbone(wide), model.encoder.layernorm(x), rtol=0, atol=1e-5)


def test_the_predictor_of_vjepa2_is_not_there(saved: Callable[..., Saved]) -> None:
    backbone = load(saved("vjepa2")[0])
    assert not [name for name in backbone.state_dict() if "predictor" in name]
    lengths: list[int] = []
    backbone.model.encoder.layer[0].register_forward_pre_hook(lambda _, x: lengths.append(x[0].shape[1]))
    backbone(torch.rand(1, 3, 4, 16, 24), torch.tensor([[1, 5, 0]]))
    assert lengths == [3], "only kept tokens enter a block"


@torch.no_grad()
def test_videomae_at_another_size_has_its_positions_resampled(saved: Callable[..., Saved]) -> None:
    folder, model = saved("videomae")
    clip = torch.rand(1, 3, 8, 16, 48)
    layer = model.embeddings
    x = layer.patch_embeddings.projection(pixels(clip).transpose(1, 2)).flatten(2).transpose(1, 2)
    x = x + resample(layer.position_embeddings, Grid(2, 4, 4), Grid(4, 2, 6))
    expected = model.layernorm(model.encoder(x).last_hidden_state)
    torch.testing.assert_close(load(folder)(clip), expected, rtol=0, atol=1e-5)


@torch.no_grad()
def test_a_finetuned_videomae_norms_its_tokens_with_the_norm_of_their_mean(tmp_path: Path) -> None:
    folder, model = save(tmp_path, build("VideoMAEForVideoClassification", VIDEOMAE))
    clip = torch.rand(1, 3, 4, 32, 32)
    raw = model.videomae(pixels(clip)).last_hidden_state
    torch.testing.assert_close(load(folder)(clip), model.fc_norm(raw), rtol=0, atol=1e-5)


@torch.no_grad()
def test_a_videomae_without_any_last_norm_gets_a_plain_one_and_says_so(saved: Callable[..., Saved]) -> None:
    folder, model = saved("videomae", use_mean_pooling=True)
    clip = torch.rand(1, 3, 4, 32, 32)
    with pytest.warns(UserWarning, match="no norm after the last block"):
        backbone = load(folder)
    raw = model(pixels(clip)).last_hidden_state
    expected = nn.functional.layer_norm(raw, raw.shape[-1:])
    torch.testing.assert_close(backbone(clip), expected, rtol=0, atol=1e-5)


@torch.no_grad()
def test_heads_of_other_tasks_are_left_out(tmp_path: Path) -> None:
    folder, model = save(tmp_path, build("Dinov2ForImageClassification", IMAGE))
    clip = torch.rand(1, 3, 2, 16, 24)
    expected = own_tokens(model.dinov2, "dinov2", clip)
    torch.testing.assert_close(load(folder)(clip), expected, rtol=0, atol=1e-5)


@torch.no_grad()
def test_time_and_tubelet_of_an_image_model(saved: Callable[..., Saved]) -> None:
    folder, _ = saved("dinov2")
    clip = torch.rand(1, 3, 6, 16, 24)
    each = load(folder, tubelet=1)(clip).unflatten(1, (6, 6))
    first, mean = (
        load(folder, tubelet=3, time=time)(clip).unflatten(1, (2, 6)) for time in ("first", "mean")
    )
    torch.testing.assert_close(first, each[:, ::3])
    torch.testing.assert_close(mean, each.unflatten(1, (2, 3)).mean(2))


@pytest.mark.parametrize(
    ("values", "mean", "std"),
    [
        (PROCESSOR, MEAN, STD),
        ({"image_processor": PROCESSOR}, MEAN, STD),
        (PROCESSOR | {"do_normalize": False}, [0.0] * 3, [1.0] * 3),
        (PROCESSOR | {"rescale_factor": 2 / 255}, [x / 2 for x in MEAN], [x / 2 for x in STD]),
        (PROCESSOR | {"image_mean": 0.5, "image_std": 0.5}, [0.5] * 3, [0.5] * 3),
    ],
)
def test_a_processors_own_normalisation(
    saved: Callable[..., Saved], values: dict[str, Any], mean: list[float], std: list[float]
) -> None:
    module = inside(load(saved("dinov2", processor=values)[0]))
    assert module.mean.flatten().tolist() == pytest.approx(mean)
    assert module.std.flatten().tolist() == pytest.approx(std)


def test_files_as_transformers_itself_saves_them(saved: Callable[..., Saved]) -> None:
    for model_type, processor in {
        "vjepa2": transformers.VJEPA2VideoProcessor(image_mean=MEAN, image_std=STD),
        "dinov2": transformers.BitImageProcessor(image_mean=MEAN, image_std=STD),
    }.items():
        folder, _ = saved(model_type, processor=None)
        processor.save_pretrained(folder)
        assert inside(load(folder)).mean.flatten().tolist() == pytest.approx(MEAN)


@pytest.mark.parametrize("model_type", ["vjepa2", "videomae", "siglip", "dinov3_convnext"])
@torch.no_grad()
def test_the_options_of_a_built_one_build_it_again_without_its_files(
    saved: Callable[..., Saved], model_type: str, no_hub: Path
) -> None:
    folder, _ = saved(model_type)
    made = load(folder)
    options = json.loads(json.dumps(made.rebuild_options))
    (folder / "config.json").rename(folder / "gone.json")
    again = create("backbone", "hf/some/name", **options).eval()
    again.load_state_dict(made.state_dict())
    clip = torch.rand(1, 3, *TYPES[model_type][2])
    assert torch.equal(again(clip), made(clip))
    assert again.rebuild_options == options


@torch.no_grad()
def test_one_safetensors_file_stands_for_its_folder(saved: Callable[..., Saved]) -> None:
    folder, _ = saved("siglip")
    clip = torch.rand(1, 3, 2, 16, 24)
    other = folder / "other.safetensors"
    (folder / "model.safetensors").rename(other)
    before = load(other)(clip)
    state = load_file(other)
    state["vision_model.post_layernorm.bias"] += 1
    save_file(state, other)
    torch.testing.assert_close(load(other)(clip), before + 1)


@pytest.mark.parametrize("model_type", ["vjepa2", "videomae", "dinov2", "siglip2"])
def test_checkpointing_leaves_the_gradients_alone(saved: Callable[..., Saved], model_type: str) -> None:
    backbone, clip = load(saved(model_type)[0]).train(), torch.rand(1, 3, 4, 16, 24)
    wanted = [parameter for parameter in backbone.parameters() if parameter.requires_grad]
    layers = transformers.modeling_layers.GradientCheckpointingLayer
    block = next(module for module in backbone.modules() if isinstance(module, layers))
    ran: list[bool] = []
    next(block.children()).register_forward_pre_hook(lambda *_: ran.append(True))

    def gradients() -> tuple[tuple[Tensor, ...], int]:
        ran.clear()
        loss = backbone(clip, torch.tensor([[0, 3, 7]])).square().mean()
        return torch.autograd.grad(loss, wanted), len(ran)

    plain, once = gradients()
    backbone.set_checkpointing(True)
    recomputed, twice = gradients()
    torch.testing.assert_close(recomputed, plain)
    assert twice == 2 * once, "every block runs once more in the backward pass"
    backbone.set_checkpointing(False)
    assert gradients()[1] == once


def test_a_model_without_checkpointing_says_so(saved: Callable[..., Saved]) -> None:
    with pytest.raises(UserError, match="DINOv3ConvNextModel has no activation checkpointing"):
        load(saved("dinov3_convnext")[0]).set_checkpointing(True)


def test_describe(saved: Callable[..., Saved]) -> None:
    folder, _ = saved("dinov2")
    (folder / "README.md").write_text("---\ntags:\n- x\nlicense: apache-2.0\n---\nlicense: no\n")
    told = inside(load(folder)).describe()
    assert told["normalisation"] == "mean 0.4 0.5 0.6, std 0.2 0.25 0.3"
    assert told["weights"] == str(folder)
    assert told["licence"] == "apache-2.0"
    assert "2 x 8 x 8" in told["sizes"]
    told = inside(create("backbone", "hf/a/b", config=str(folder))).describe()
    assert told["weights"] == "random"
    assert "4 x 32 x 32" in inside(load(saved("vjepa2")[0])).describe()["sizes"]


@pytest.mark.parametrize("model_type", ["vjepa2", "dinov2"])
def test_sizes_that_do_not_divide_are_refused_with_ones_that_do(
    saved: Callable[..., Saved], model_type: str
) -> None:
    words = "5 frames of 30 x 4 pixels do not divide into cells of 2 frames of 8 x 8: give 4 frames of 24 x 8"
    with pytest.raises(UserError, match=words):
        load(saved(model_type)[0]).grid(5, 30, 4)


# What cannot be: each in one line.


@pytest.fixture
def no_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache and a network that answers nobody, whether or not this machine has one."""
    cache = tmp_path / "empty cache"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return cache


def refused(*call: Any, **options: Any) -> str:
    with pytest.raises(UserError) as caught:
        create("backbone", *call, **options)
    words = str(caught.value)
    assert "\n" not in words
    assert len(words) < 700
    return words


@pytest.mark.parametrize("pretrained", [False, True])
def test_a_repository_that_cannot_be_had_is_told_with_the_way_out(no_hub: Path, pretrained: bool) -> None:
    words = refused("hf/facebook/dinov2-small", pretrained=pretrained)
    for part in ("'facebook/dinov2-small'", str(no_hub), "weights: PATH", "hf auth login"):
        assert part in words


@pytest.mark.slow
def test_without_a_network_and_not_told_so(tmp_path: Path) -> None:
    """A fresh process whose proxy is a closed port; the library tries for 23 s before it gives up."""
    code = (
        "from vjepa_distill import UserError, create\n"
        "try: create('backbone', 'hf/facebook/dinov2-small', pretrained=True)\n"
        "except UserError as error: print(error)"
    )
    proxies = {f"{kind}_proxy": "http://127.0.0.1:9" for kind in ("http", "https", "all")}
    proxies |= {name.upper(): value for name, value in proxies.items()}
    env = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    env |= proxies | {"HF_HOME": str(tmp_path), "NO_PROXY": "", "no_proxy": ""}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, timeout=120)
    for part in ("'facebook/dinov2-small'", str(tmp_path), "weights: PATH"):
        assert part in done.stdout, done.stderr
    assert done.stdout.count("\n") == 1


def test_a_repository_in_the_cache_needs_no_network(saved: Callable[..., Saved], no_hub: Path) -> None:
    folder, _ = saved("dinov2")
    repository, commit = no_hub / "models--some--repo", "0" * 40
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    (repository / "snapshots").mkdir()
    folder.rename(repository / "snapshots" / commit)
    clip = torch.rand(1, 3, 2, 16, 24)
    tokens = [
        create("backbone", "hf/some/repo", pretrained=pretrained).eval()(clip)
        for pretrained in (True, True, False)
    ]
    assert torch.equal(tokens[0], tokens[1])
    assert not torch.equal(tokens[0], tokens[2]), "random until asked for the weights"
    (repository / "snapshots" / commit / "model.safetensors").unlink()
    assert "'some/repo' cannot be had" in refused("hf/some/repo", pretrained=True)
    (repository / "snapshots" / commit / "preprocessor_config.json").unlink()
    assert "'some/repo' cannot be had" in refused("hf/some/repo")


@pytest.mark.parametrize("problem", ["GatedRepoError", "RepositoryNotFoundError"])
def test_without_permission(problem: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = getattr(__import__("huggingface_hub.errors").errors, problem)

    def refuse(*args: Any, **options: Any) -> None:
        raise kind.__new__(kind, "401\nAccess is restricted")

    monkeypatch.setattr(sources, "hf_hub_download", refuse)
    words = refused("hf/facebook/dinov3-vits16-pretrain-lvd1689m", pretrained=True)
    assert problem in words
    assert "hf auth login" in words


def test_a_model_type_without_adapter_is_refused_with_those_that_have_one(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    words = refused("hf/some/bert", weights=str(tmp_path))
    assert "'bert'" in words
    assert all(model_type in words for model_type in FAMILIES)


def test_wrong_options_are_refused(saved: Callable[..., Saved], tmp_path: Path) -> None:
    folder, _ = saved("dinov2")
    video, _ = saved("vjepa2")
    given = {"weights": str(folder)}
    assert "drop one" in refused("hf/a", weights=str(folder), pretrained=True)
    assert "give both" in refused("hf/a", mean=MEAN, **given)
    assert "three numbers" in refused("hf/a", mean=MEAN, std=[0.0, 1, 1], **given)
    assert "'last' is not one of first, mean" in refused("hf/a", time="last", **given)
    assert "tubelet=0" in refused("hf/a", tubelet=0, **given)
    assert "leave out tubelet" in refused("hf/a", tubelet=2, weights=str(video))
    assert "no such file or folder" in refused("hf/a", weights=str(tmp_path / "nowhere"))
    assert "no config.json" in refused("hf/a", weights=str(tmp_path))
    (folder / "other.bin").touch()
    for name in ("other.bin", "config.json"):
        words = refused("hf/a", weights=str(folder / name))
        assert "give a folder with config.json, or a file .safetensors in it" in words
    assert "is no list[float]" in refused("hf/a", mean=["a", "b", "c"], std=STD, **given)
    typo = {"model_type": "dinov2", "hiden_size": 3}
    assert "Did you mean hidden_size" in refused("hf/a", config=typo)
    assert "does not make a Dinov2Config" in refused(
        "hf/a", config={"model_type": "dinov2", "hidden_size": "x"}
    )


def test_a_folder_without_a_processor_is_refused_unless_told(saved: Callable[..., Saved]) -> None:
    folder, _ = saved("dinov2", processor=None)
    assert "mean: [R, G, B]" in refused("hf/a", weights=str(folder))
    assert load(folder, mean=MEAN, std=STD).rebuild_options["mean"] == MEAN


def test_weights_that_do_not_fit_are_never_loaded_in_part(saved: Callable[..., Saved]) -> None:
    folder, _ = saved("dinov2")
    file = folder / "model.safetensors"
    state = load_file(file)
    norm = state.pop("layernorm.weight")
    save_file(state, file)
    assert "1 missing or of another shape: layernorm.weight" in refused("hf/a", weights=str(folder))
    state["layernorm.weight"] = norm
    extra = {"encoder.layer.9.mlp.fc1.weight": norm.clone()}
    save_file(state | extra, file)
    assert "1 left over: encoder.layer.9.mlp.fc1.weight" in refused("hf/a", weights=str(folder))
    save_file(state | {"head.weight": norm.clone()}, file)  # a head of some task
    load(folder)
    save_file(state | {"layernorm.weight": norm[:3].clone()}, file)
    assert "layernorm.weight [3] in place of [32]" in refused("hf/a", weights=str(folder))
    file.write_bytes(b"not safetensors")
    assert "cannot be read" in refused("hf/a", weights=str(folder))
    file.unlink()
    assert "holds no weights" in refused("hf/a", weights=str(folder))


@pytest.mark.parametrize("model_type", ["vjepa2", "videomae", "siglip_vision_model"])
def test_a_config_of_fewer_blocks_than_the_weights_is_refused(
    saved: Callable[..., Saved], model_type: str
) -> None:
    folder, _ = saved(model_type)
    values = json.loads((folder / "config.json").read_text())
    values["num_hidden_layers"] -= 1
    (folder / "config.json").write_text(json.dumps(values))
    assert "give a config.json that fits the weights" in refused("hf/a", weights=str(folder))


def test_registering_imports_neither_torch_nor_transformers() -> None:
    code = (
        "import sys, vjepa_distill_transformers; sys.exit(bool({'torch', 'transformers'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
