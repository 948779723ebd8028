"""V-JEPA's weights: transformers' form against transformers, official files against a plain reference."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tests.backbones import vjepa_reference as official
from vjepa_distill import registry
from vjepa_distill.backbones import vjepa
from vjepa_distill.backbones.official import component, predictor_words, read, to_hf
from vjepa_distill.backbones.sizes import SIZES
from vjepa_distill.errors import UserError
from vjepa_distill.modules.heads import Predictor
from vjepa_distill.modules.transformer import rotary_angles, rotate
from vjepa_distill.runs import encoders, exports, initial
from vjepa_distill.settings import Component, JepaConfig, PredictorConfig
from vjepa_distill.testing import check_backbone
from vjepa_distill.tokens import Grid, take

TINY = {"depth": 2, "width": 48, "heads": 2, "patch": 8}
PREDICTOR = {"width": 48, "depth": 2, "heads": 2, "rope": "vjepa2"}
CLOSE = {"rtol": 0, "atol": 1e-5}


def clip_of(T: int, H: int, W: int) -> Tensor:
    return torch.rand(2, 3, T, H, W, generator=torch.Generator().manual_seed(T * H + W))


def split_of(grid: Grid, context: int) -> tuple[Tensor, Tensor]:
    """Context and asked places of two rows, each in no order."""
    order = torch.stack([torch.randperm(grid.length) for _ in range(2)])
    return order[:, :context], order[:, context:]


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


# transformers


@pytest.fixture
def hf() -> Any:
    """Builds transformers' VJEPA2Model at its smallest, every value random, for square clips of one side."""
    transformers = pytest.importorskip("transformers")

    def build(side: int = 32, kind: str = "VJEPA2Model", **options: Any) -> nn.Module:
        config = transformers.VJEPA2Config(
            patch_size=8, crop_size=side, frames_per_clip=4, hidden_size=48, num_attention_heads=2,
            num_hidden_layers=2, pred_hidden_size=48, pred_num_attention_heads=2, pred_num_hidden_layers=2,
            num_pooler_layers=1, num_labels=3, **options,
        )  # fmt: skip
        torch.manual_seed(1)
        model = getattr(transformers, kind)(config).eval()
        with torch.no_grad():
            for value in model.parameters():
                value.copy_(torch.randn(value.shape) * 0.2 + (value.mean() == 1))
        tokens = getattr(model, "vjepa2", model).predictor.embeddings.mask_tokens
        tokens.data[torch.arange(len(tokens)) != 1] = 0  # transformers predicts with the second
        return model

    return build


def hf_tokens(model: nn.Module, clip: Tensor, **how: Any) -> Any:
    frames = ((clip - official.MEAN) / official.STD).transpose(1, 2)
    with torch.no_grad():
        return model(frames, **how)


SIZES_OF_CLIPS = [(4, 32), (12, 32), (2, 48)]  # T and side: the trained T, a longer and a shorter one


@pytest.mark.parametrize(("T", "side"), SIZES_OF_CLIPS)
def test_tokens_and_predictions_are_those_of_transformers(hf, tmp_path: Path, T: int, side: int) -> None:
    model, clip = hf(side), clip_of(T, side, side)
    model.save_pretrained(tmp_path)
    vit = vjepa.tiny(**TINY, rope="vjepa2", weights=str(tmp_path)).eval()
    keep, rest = split_of(vit.grid(T, side, side), 7)
    theirs = hf_tokens(model, clip, context_mask=[keep], target_mask=[rest])
    with torch.no_grad():
        torch.testing.assert_close(vit(clip), theirs.last_hidden_state, **CLOSE)
        predictor = initial_of(tmp_path).predictor(vit).eval()
        ours = predictor(take(vit(clip), keep), keep, rest, vit.grid(T, side, side))
    torch.testing.assert_close(ours, theirs.predictor_output.last_hidden_state, **CLOSE)


@pytest.mark.parametrize(("T", "side"), SIZES_OF_CLIPS)
def test_ours_become_those_of_transformers(hf, T: int, side: int) -> None:
    vit = vjepa.tiny(**TINY, rope="vjepa2").eval()
    predictor = Predictor(48, **PREDICTOR).eval()
    with torch.no_grad():
        for value in [*vit.parameters(), *predictor.parameters()]:
            value.add_(torch.randn_like(value) * 0.1)
    model, clip = hf(side), clip_of(T, side, side)
    model.load_state_dict(to_hf(vit.state_dict(), predictor.state_dict()), strict=True)
    grid = vit.grid(T, side, side)
    keep, rest = split_of(grid, 7)
    theirs = hf_tokens(model, clip, context_mask=[keep], target_mask=[rest])
    with torch.no_grad():
        torch.testing.assert_close(vit(clip), theirs.last_hidden_state, **CLOSE)
        ours = predictor(take(vit(clip), keep), keep, rest, grid)
    torch.testing.assert_close(ours, theirs.predictor_output.last_hidden_state, **CLOSE)


@pytest.mark.parametrize(("size", "ratio"), [("large", 4.0), ("huge", 4.0), ("giant", 4.363636363636363)])
def test_published_sizes_have_the_names_and_shapes_of_transformers(size: str, ratio: float) -> None:
    transformers = pytest.importorskip("transformers")
    shape = SIZES[size]
    config = transformers.VJEPA2Config(
        hidden_size=shape.width,
        num_hidden_layers=shape.depth,
        num_attention_heads=shape.heads,
        mlp_ratio=ratio,
    )
    with torch.device("meta"):
        theirs = transformers.VJEPA2Model(config).state_dict()
        vit = registry.create("backbone", f"vjepa/{size}", rope="vjepa2")
        predictor = Predictor(shape.width, 384, 12, 12, rope="vjepa2")
        ours = to_hf(vit.state_dict(), predictor.state_dict())
    assert {n: v.shape for n, v in ours.items()} == {n: v.shape for n, v in theirs.items()}


def test_a_classifier_of_transformers_gives_its_encoder_and_names_what_is_left(
    hf, tmp_path: Path, caplog
) -> None:
    model = hf(kind="VJEPA2ForVideoClassification")
    model.save_pretrained(tmp_path, max_shard_size="40KB")
    assert (tmp_path / "model.safetensors.index.json").is_file(), "in several files, as large models are"
    vit = vjepa.tiny(**TINY, rope="vjepa2", weights=str(tmp_path)).eval()
    clip = clip_of(4, 32, 32)
    with torch.no_grad():
        expected = hf_tokens(model.vjepa2, clip, skip_predictor=True).last_hidden_state
        torch.testing.assert_close(vit(clip), expected, **CLOSE)
    (line,) = caplog.messages
    assert "no place here: classifier.bias, classifier.weight, pooler." in line


def test_the_trained_mask_token_is_picked_and_all_norms_are_said(hf, tmp_path: Path) -> None:
    model = hf()
    tokens = model.predictor.embeddings.mask_tokens.data
    tokens[4] = 3 * tokens[1]
    model.save_pretrained(tmp_path)
    found = read(str(tmp_path))
    assert torch.equal(found.predictor.state["mask_token"], tokens[4].flatten())
    norm = tokens[1].norm()
    assert f"mask token 4 of 10, norms 0 {norm:.3g} 0 0 {3 * norm:.3g} 0 0" in predictor_words(found)


# The rotation


def scores(rope: str, q: Tensor, k: Tensor, shift: int) -> Tensor:
    places = torch.tensor([[0, 1, 2], [3, 0, 5]]) + shift
    angles = rotary_angles(places, 24, rope)
    return rotate(q, angles[:1]) @ rotate(k, angles[1:]).T


def test_only_the_right_rotation_is_one() -> None:
    """Scores of a rotation depend on where tokens are to each other; V-JEPA 2's on where they are."""
    q, k = torch.randn(2, 1, 24)
    torch.testing.assert_close(scores("rotary", q, k, 0), scores("rotary", q, k, 7), rtol=0, atol=1e-4)
    assert (scores("vjepa2", q, k, 0) - scores("vjepa2", q, k, 7)).abs() > 0.1
    torch.testing.assert_close(rotate(q, rotary_angles(torch.ones(1, 3), 24)).norm(), q.norm())


OPTIONS = [
    {"rope": "vjepa2"},
    {"rope": "rotary", "trained_grid": [0, 7, 5]},
    {"sincos": "uniform", "trained_grid": [5, 3, 3]},
    {"sincos": "halves"},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_the_contract_holds_at_every_position(options: dict) -> None:
    check_backbone(lambda: vjepa.tiny(depth=2, width=48, heads=2, **options))


# Official files, at their smallest


def table_of(grid: tuple[int, int, int], width: int = 48, uniform: bool = True) -> Tensor:
    return official.official_table(grid, width, uniform)


def files(version: str, tmp_path: Path, **change: Any) -> tuple[Path, dict[str, Any]]:
    """A .pt of that version as its training saves it, and the plain states in it."""
    make, table = official.random_tensor, None
    if version != "2.1":
        table = table_of((2, 4, 4))  # V-JEPA 2's files still hold one
    target, online = (official.encoder(version, make, 2, 48, 192, 8, table) for _ in range(2))
    pred = official.predictor(make, 2, 48, 48, 2 if version == "1" else 10, table)
    pred["mask_tokens.0"] = torch.randn(1, 1, 48)
    if version == "2.1":
        pred |= official.linear("predictor_proj_context", make, 60, 48)
    name = "ema_encoder" if version == "2.1" else "target_encoder"
    held = {"encoder": official.wrapped(online), name: official.wrapped(target)}
    held |= {"predictor": official.wrapped(pred), "opt": {"state": {}}, "epoch": 3, "loss": 0.5} | change
    torch.save(held, tmp_path / "v.pt")
    return tmp_path / "v.pt", {"target": target, "encoder": online, "predictor": pred}


NEEDED: dict[str, dict[str, Any]] = {
    "1": {"trained_grid": [2, 4, 4]},
    "2": {"rope": "vjepa2"},
    "2.1": {"rope": "rotary", "trained_grid": [0, 32, 32]},
}
CLIPS = [(4, 32, 32), (2, 32, 32), (8, 48, 40)]  # trained, shorter, and longer, larger and not square


@pytest.mark.parametrize("T, H, W", CLIPS)  # noqa: PT006
@pytest.mark.parametrize("version", ["1", "2", "2.1"])
def test_official_files_give_the_official_tokens(version, T, H, W, tmp_path: Path) -> None:
    path, states = files(version, tmp_path)
    clip = clip_of(T, H, W)
    for which in ("target", "encoder"):
        vit = vjepa.tiny(**TINY, **NEEDED[version], weights=str(path), which=which).eval()
        keep = split_of(vit.grid(T, H, W), 5)[0]
        state = states[which]
        with torch.no_grad():
            expected = official.encode(version, state, clip, 2, (2, 4, 4))
            torch.testing.assert_close(vit(clip), expected, **CLOSE)
            expected = official.encode(version, state, clip, 2, (2, 4, 4), keep)
            torch.testing.assert_close(vit(clip, keep), expected, **CLOSE)


def initial_of(path: Path, **settings: Any) -> initial.Start:
    """What --init makes of it."""
    return initial.start_of(JepaConfig(out="x", init=str(path), **settings))


@pytest.mark.parametrize("version", ["1", "2"])
def test_official_files_give_the_official_predictions(version: str, tmp_path: Path) -> None:
    path, states = files(version, tmp_path)
    student = Component(options={"heads": 2})
    start = initial_of(path, student=student, predictor=PredictorConfig(heads=2))
    predictor = start.predictor(encoders.build(start.encoder)).eval()
    assert predictor.anchor is None, "theirs foretells tokens, though ours is anchored by itself"
    grid = Grid(2, 4, 4) if version == "1" else Grid(3, 2, 5)
    keep, rest = split_of(grid, 9)
    context, state = torch.randn(2, 9, 48), states["predictor"]
    if version == "2":
        del state["predictor_pos_embed"]  # left over in its files
    expected = official.predict(state, context, keep, rest, grid, 2, 0)
    with torch.no_grad():
        torch.testing.assert_close(predictor(context, keep, rest, grid), expected, **CLOSE)


def test_what_has_no_place_is_named(tmp_path: Path, caplog) -> None:
    path, _ = files("2.1", tmp_path)
    vjepa.tiny(**TINY, **NEEDED["2.1"], weights=str(path))
    (line,) = caplog.messages
    spare = ["img_mod_embed", "norms_block.0.bias", "norms_block.2.weight", "patch_embed_img.proj.bias"]
    assert all(name in line for name in spare)
    assert "norms_block.3" not in line
    assert "WARNING" in predictor_words(read(str(path)))
    caplog.clear()
    path, _ = files("2", tmp_path)
    vjepa.tiny(**TINY, rope="vjepa2", weights=str(path))
    assert "no place here: pos_embed" in caplog.text


def test_an_encoder_alone_is_read_as_the_model_wants_it(tmp_path: Path) -> None:
    """With V-JEPA 1's table and no predictor nothing tells the versions apart but the options."""
    state = official.encoder("1", official.random_tensor, 2, 48, 192, 8, table_of((2, 4, 4)))
    torch.save(state, tmp_path / "alone.pt")
    save_file(state, tmp_path / "alone.safetensors")
    for name in ("alone.pt", "alone.safetensors"):
        path = str(tmp_path / name)
        for version in ("1", "2"):
            vit = vjepa.tiny(**TINY, **NEEDED[version], weights=path)
            assert vit.describe()["weights"] == f"V-JEPA {version}, the one encoder of {path}"
            expected = official.encode(version, state, clip_of(4, 32, 32), 2, (2, 4, 4))
            torch.testing.assert_close(vit(clip_of(4, 32, 32)), expected, **CLOSE)


def test_an_action_conditioned_predictor_has_no_place(tmp_path: Path) -> None:
    """V-JEPA 2-AC: its encoder loads, its predictor is said to be something else."""
    _, states = files("2", tmp_path)
    acting = {**states["predictor"], "action_encoder.weight": torch.zeros(48, 7)}
    path, _ = files("2", tmp_path, predictor=official.wrapped(acting))
    start = initial_of(path, student=Component(options={"heads": 2, "rope": "vjepa2"}))
    assert start.found.state is None
    assert "conditioned on a robot's actions; the predictor starts anew" in start.words


# Official files, the key and shape lists of the published sizes


FULL = {
    "vitl16": ("1", "large", (8, 14, 14)),
    "vith16": ("1", "huge", (8, 14, 14)),
    "vith16-384": ("1", "huge", (8, 24, 24)),
    "vitl": ("2", "large", None),
    "vith": ("2", "huge", None),
    "vitg": ("2", "giant", None),
    "vjepa2_1_vitb_dist_vitG_384": ("2.1", "base", None),
    "vjepa2_1_vitl_dist_vitG_384": ("2.1", "large", None),
    "vjepa2_1_vitg_384": ("2.1", "giant", None),
    "vjepa2_1_vitG_384": ("2.1", "gigantic", None),
}


@pytest.mark.parametrize("name", FULL)
def test_published_key_and_shape_lists_are_read_in_full(name: str, tmp_path: Path) -> None:
    version, size, grid = FULL[name]
    shape, empty = SIZES[size], official.weightless
    tables = [None, None]
    if grid:
        tables = [quick_table(grid, width) for width in (shape.width, 384)]
    elif version == "2":  # its own table of 64 frames, left over
        tables = [empty(1, 8192, shape.width), empty(1, 8192, 384)]
    state = official.encoder(version, empty, shape.depth, shape.width, shape.hidden, 16, tables[0])
    tokens, out = {"1": (2, 0), "2": (10, 0), "2.1": (8, 1664)}[version]
    pred = official.predictor(empty, 12, shape.width, 384, tokens, tables[1], out)
    held = {"ema_encoder" if "dist" in name else "target_encoder": official.wrapped(state)}
    torch.save({**held, "predictor": official.wrapped(pred)}, tmp_path / f"{name}.pt")

    found = read(str(tmp_path / f"{name}.pt"))
    needed = {"1": {"sincos": "uniform", "trained_grid": list(grid or ())}, "2": {"rope": "vjepa2"}}
    needed["2.1"] = {"rope": "rotary", "trained_grid": [0, 16, 16]}
    assert (found.version, component(found.shape)) == (
        f"V-JEPA {version}",
        (f"vjepa/{size}", needed[version]),
    )
    with torch.device("meta"):
        vit = registry.create("backbone", f"vjepa/{size}", **needed[version])
        ours = {name: value.shape for name, value in vit.state_dict().items()}
        assert {name: value.shape for name, value in found.encoder.items()} == ours
        built = vit.shape()
        assert found.shape == built | {"trained_grid": built["trained_grid"] or [0, 0, 0]}
        if version != "2.1":
            settings = {"heads": 16 if version == "1" else 12, "rope": "vjepa2" if version == "2" else None}
            assert settings.items() <= found.predictor.settings.items()
            ours = Predictor(shape.width, **found.predictor.settings).state_dict()
            assert {n: v.shape for n, v in found.predictor.state.items()} == {
                n: v.shape for n, v in ours.items()
            }
        else:
            assert found.predictor.state is None


def quick_table(grid: tuple[int, int, int], width: int) -> Tensor:
    """official_table for grids of thousands of tokens: one row an axis, spread."""
    t, h, w = grid
    rows = (
        official.official_table((t, 1, 1), width, True)[0],
        official.official_table((1, h, 1), width, True)[0],
    )
    last = official.official_table((1, 1, w), width, True)[0]
    third = -(-width // 6) * 2
    table = torch.empty(t, h, w, width)
    table[..., :third] = rows[0][:, None, None, :third]
    table[..., third : 2 * third] = rows[1][None, :, None, third : 2 * third]
    table[..., 2 * third :] = last[None, None, :, 2 * third :]
    return table.flatten(0, 2)[None]


# What is refused, in one line


def refused(words: str, **options: Any) -> None:
    with pytest.raises(UserError, match=words) as caught:
        vjepa.tiny(**{**TINY, **options})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("version", "options", "words"),
    [
        ("2", {}, r"holds V-JEPA 2 with rope=vjepa2, .* has rope=None.* type vjepa/tiny with .*rope: v"),
        ("2", {"rope": "rotary"}, r"rope=vjepa2, but this model has rope=rotary"),
        ("2", {"rope": "vjepa2", "width": 24}, r"width=48, .*type vjepa/tiny with depth: 2, width: 48"),
        ("2", {"rope": "vjepa2", "mlp_ratio": 2.0}, r"hidden=192, but this model has hidden=96"),
        ("2", {"rope": "vjepa2", "trained_grid": [0, 4, 4]}, r"trained_grid=\[0, 0, 0\]"),
        ("2", {"rope": "vjepa2", "which": "both"}, r"which='both' is not one of target, encoder"),
        ("1", {}, r"trained_grid=\[2, 4, 4\], but this model has trained_grid=None"),
        ("1", {"sincos": "halves", "trained_grid": [2, 4, 4]}, r"sincos=thirds, .* has sincos=halves"),
        ("1", {"rope": "vjepa2"}, r"holds V-JEPA 1 .*rope=None"),
        ("2.1", {"rope": "rotary"}, r"trained_grid=\[0, 32, 32\].*type .*trained_grid: \[0, 32, 32\]"),
        ("2.1", {"rope": "vjepa2", "trained_grid": [0, 32, 32]}, r"rope=rotary, but this model has rope=vj"),
    ],
)  # fmt: skip
def test_a_model_that_does_not_fit_is_told_what_to_type(version, options, words, tmp_path: Path) -> None:
    path, _ = files(version, tmp_path)
    refused(words, weights=str(path), **options)


def test_v_jepa_1_may_be_asked_to_count_instead(tmp_path: Path) -> None:
    path, states = files("1", tmp_path)
    vit = vjepa.tiny(**TINY, trained_grid=[0, 0, 0], weights=str(path)).eval()
    state = states["target"] | {"pos_embed": table_of((4, 6, 6))}
    expected = official.encode("1", state, clip_of(8, 48, 48), 2, (4, 6, 6))
    torch.testing.assert_close(vit(clip_of(8, 48, 48)), expected, **CLOSE)


def changed(state: dict[str, Tensor], drop: str = "", **more: Tensor) -> dict[str, Tensor]:
    return official.wrapped({name: v for name, v in state.items() if name != drop} | more)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: changed(s, "blocks.1.attn.qkv.bias"), r"encoder misses blocks.1.attn.qkv.bias: give a"),
        (lambda s: changed(s, surprise=torch.zeros(1)), r"encoder has no place here for surprise"),
        (lambda s: changed(s, pos_embed=torch.randn(1, 32, 48)), r"pos_embed .* is no sin-cos table"),
        (lambda s: changed(s, pos_embed=table_of((2, 4, 4)) * 0.9), r"pos_embed .* is no sin-cos table"),
        (
            lambda s: changed(s, **{"patch_embed.proj.weight": torch.zeros(48, 3, 8, 8)}),
            r"patches have the weight \[48, 3, 8, 8\], expected \[D, 3, t, p, p\]",
        ),
    ],
)
def test_partial_and_strange_files_are_refused(change, words: str, tmp_path: Path) -> None:
    _, states = files("1", tmp_path)
    path, _ = files("1", tmp_path, target_encoder=change(states["target"]))
    refused(words, weights=str(path), **NEEDED["1"])


def test_many_names_are_cut_to_three(tmp_path: Path) -> None:
    state = official.encoder("2", official.random_tensor, 2, 48, 192, 8)
    torch.save({n: v for n, v in state.items() if not n.startswith("blocks.0")}, tmp_path / "v.pt")
    words = r"misses blocks.0.attn.proj.bias, blocks.0.attn.proj.weight, blocks.0.attn.qkv.bias and 9 more:"
    refused(words, weights=str(tmp_path / "v.pt"), rope="vjepa2")


def test_wrong_sources_are_refused_in_words(tmp_path: Path) -> None:
    refused("there are no weights nowhere.pt: give a .pt or .safetensors file", weights="nowhere.pt")
    refused("holds no config.json", weights=str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "vit"}))
    refused("holds a model of type 'vit', not vjepa2", weights=str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "vjepa2"}))
    refused("holds no model.safetensors: fetch the whole repository", weights=str(tmp_path))
    (tmp_path / "text.pt").write_text("not a checkpoint")
    for text in ("not a checkpoint", "hello", "<html>", "version https://git-lfs", ""):
        (tmp_path / "text.pt").write_text(text)
        refused(r"text.pt is no file of torch.save, or a damaged one", weights=str(tmp_path / "text.pt"))
    (tmp_path / "text.safetensors").write_text("not a checkpoint")
    refused("text.safetensors cannot be read", weights=str(tmp_path / "text.safetensors"))
    torch.save({"predictor": {"a": torch.zeros(1)}}, tmp_path / "rest.pt")
    refused("rest.pt holds predictor, and no encoder", weights=str(tmp_path / "rest.pt"))
    torch.save([1, 2], tmp_path / "list.pt")
    refused("holds a list, not the state of a model", weights=str(tmp_path / "list.pt"))
    torch.save({"encoder": {"a": torch.zeros(1)}}, tmp_path / "online.pt")
    refused(
        "holds encoder, and no target_encoder or ema_encoder: type which: encoder",
        weights=str(tmp_path / "online.pt"),
    )
    refused("position=sincos has no rope", position="sincos", rope="vjepa2")
    refused(r"trained_grid=\[1, 2\]: give the tubelets", trained_grid=[1, 2])


class Runs:
    """Something that only pickle can read."""


def test_a_file_that_needs_pickle_is_refused(tmp_path: Path) -> None:
    path, _ = files("2", tmp_path, args=Runs())
    refused("holds more than tensors and plain values, .* would run its code", weights=str(path))


def test_one_encoder_cannot_be_asked_which(hf, tmp_path: Path) -> None:
    hf().save_pretrained(tmp_path)
    refused("holds one encoder and does not say which", weights=str(tmp_path), rope="vjepa2", which="encoder")


def test_a_config_of_another_mathematics_is_refused(hf, tmp_path: Path) -> None:
    hf(hidden_act="relu").save_pretrained(tmp_path)
    refused("config.json has hidden_act='relu', here it is 'gelu'", weights=str(tmp_path), rope="vjepa2")


def test_offline_names_the_repository_the_cache_and_the_way_out(tmp_path: Path, monkeypatch) -> None:
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    repository = "facebook/vjepa2-vitl-fpc64-256"
    words = rf"^{repository} cannot be had .* cache {tmp_path / 'cache'}: .*weights: PATH"
    refused(words, weights=f"hf-hub:{repository}")


def test_the_hub_is_asked_for_a_folder_at_a_revision(hf, tmp_path: Path, monkeypatch) -> None:
    import huggingface_hub

    asked: list[Any] = []

    def snapshot(repository: str, revision: str | None, allow_patterns: list[str]) -> str:
        asked.append((repository, revision))
        return str(tmp_path)

    hf().save_pretrained(tmp_path)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    vjepa.tiny(**TINY, rope="vjepa2", weights="hf-hub:a/b@v1")
    initial_of(Path("hf-hub:a/b"))
    assert asked == [("a/b", "v1"), ("a/b", None)]


# In a run


def test_an_export_needs_no_weights_file(tmp_path: Path) -> None:
    path, _ = files("2.1", tmp_path)
    options = {**TINY, **NEEDED["2.1"], "weights": str(path), "which": "encoder"}
    vit = registry.create("backbone", "vjepa/tiny", **options).eval()
    record = {"backbone": registry.provenance("backbone", "vjepa/tiny", options)}
    exported = exports.export_backbone(tmp_path / "a.safetensors", vit, record)
    path.unlink()
    clip = clip_of(4, 32, 40)
    with torch.no_grad():
        assert torch.equal(exports.load_backbone(exported).eval()(clip), vit(clip))
    refused("was exported by vjepa-distill: type it in place of the backbone's name", weights=str(exported))


def test_init_names_the_model_and_the_predictor(tmp_path: Path) -> None:
    path, _ = files("1", tmp_path)
    heads = Component(options={"heads": 2, "drop_path": 0.1})
    start = initial_of(path, student=heads, predictor=PredictorConfig(heads=2))
    expected = {**TINY, "drop_path": 0.1, "trained_grid": [2, 4, 4], "weights": str(path)}
    assert start.student == Component("vjepa/tiny", expected)
    assert start.settings == PredictorConfig(width=48, depth=2, heads=2, anchor="none")
    again = initial_of(path, student=start.student, predictor=start.settings)
    assert (again.student, again.settings) == (start.student, start.settings), "as a resumed run has them"
    named = Component("vjepa/tiny", {**TINY, **NEEDED["1"]})
    assert initial_of(path, student=named, predictor=start.settings).student.options["weights"] == str(path)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"predictor": PredictorConfig(heads=2, depth=3)}, r"depth=2, but predictor.depth=3: leave that"),
        ({"predictor": PredictorConfig(heads=2, rope="rotary")}, r"rope=vjepa2, but predictor.rope=rotary"),
        ({}, r"does not tell the attention heads of its predictor: type --predictor.heads N"),
        ({"student": Component(options={"heads": 2, "weights": "b.pt"})}, r"weights b.pt: give one"),
        ({"student": Component()}, r"not tell its number of attention heads: type --student.options.heads"),
    ],
)  # fmt: skip
def test_what_contradicts_the_weights_is_refused(settings: dict, words: str, tmp_path: Path) -> None:
    path, _ = files("2", tmp_path)
    settings = {"student": Component(options={"heads": 2}), **settings}
    with pytest.raises(UserError, match=words) as caught:
        initial_of(path, **settings)
    assert "\n" not in str(caught.value)


def test_continued_pretraining_is_one_command(hf, tmp_path, world_folder, tiny_jepa, capsys) -> None:
    from tests.runs.test_runs import run

    hf().save_pretrained(tmp_path / "hf")
    plain = [o for o in tiny_jepa if not o.startswith(("--student", "--predictor"))]
    still = ["--optimizer.lr", "1e-30", "--optimizer.weight_decay", "0", "--init", tmp_path / "hf"]
    where = ["--data.root", world_folder, "--out", tmp_path / "run"]
    assert run("jepa-train", *plain, *still, *where) == 0
    said = capsys.readouterr().err
    assert "mask token 1 of 10, norms 0" in " ".join(said.split())
    found = read(str(tmp_path / "hf"))
    for name in ("student", "teacher"):
        state = load_file(tmp_path / "run" / f"{name}.safetensors")
        assert state.keys() == found.encoder.keys()
        assert all(torch.equal(state[key], found.encoder[key]) for key in state)
    stage = torch.load(tmp_path / "run/checkpoints/ckpt_final.pt", weights_only=False)["stage"]
    for key, value in found.predictor.state.items():
        assert torch.equal(stage[f"predictor.{key}"], value), key
    assert run("jepa-train", "--out", tmp_path / "run", "--resume") == 0
    assert run("jepa-train", *plain, *still, *where[:3], tmp_path / "b", "--predictor.width", "24") == 2


def test_it_says_what_it_is(tmp_path: Path) -> None:
    path, _ = files("1", tmp_path)
    told = vjepa.tiny(**TINY, **NEEDED["1"], weights=str(path)).describe()
    assert told["weights"] == f"V-JEPA 1, target_encoder of {path}"
    assert told["licence"].startswith("CC BY-NC 4.0")
    assert told["normalisation"] == "mean 0.485 0.456 0.406, std 0.229 0.224 0.225"
    assert vjepa.tiny(**TINY).describe()["weights"] == "random"
