"""The subcommands as functions of the same names: `from vjepa_distill import …` and nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import nn

import vjepa_distill
from vjepa_distill import (
    Component,
    Data,
    DistillConfig,
    JepaConfig,
    Optimizer,
    PredictorConfig,
    Spans,
    Term,
    UserError,
    create_backbone,
    distill,
    encode,
    jepa_train,
    load_backbone,
)
from vjepa_distill.cli import run

SMALL = {"depth": 2, "width": 24, "heads": 2, "patch": 8}


@pytest.fixture(scope="module")
def runs(world_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both stages, by function."""
    folder = tmp_path_factory.mktemp("runs")
    common: dict[str, Any] = {
        "data": Data(root=str(world_folder), num_frames=8, size=32, heldout=0.2),
        "optimizer": Optimizer(warmup=1),
        "steps": 2,
        "batch_size": 4,
        "device": "cpu",
    }
    taught = distill(
        DistillConfig(
            student=Component("vjepa/tiny", SMALL),
            teachers={"main": Component("conv/small", {"patch": 8, "width": 8})},
            out=str(folder / "distilled"),
            **common,
        )
    )
    assert taught == folder / "distilled"
    predictor, spans = PredictorConfig(width=24, depth=1, heads=2), Spans(2, 2, 4)
    jepa_train(
        JepaConfig(init=str(taught), out=str(folder / "future"), spans=spans, predictor=predictor, **common)
    )
    return folder


def test_every_name_of_the_front_door_opens() -> None:
    for name in vjepa_distill.__all__:
        assert getattr(vjepa_distill, name) is not None
    assert set(vjepa_distill._LAZY) <= set(vjepa_distill.__all__)


def test_encode_by_function_is_encode_by_command(runs: Path, world_folder: Path, tmp_path: Path) -> None:
    """The run's own clip settings hold in both."""
    by_function = encode(runs / "future", tmp_path / "f.safetensors", {"root": str(world_folder)})
    command = ["encode", "--from", str(runs / "future"), "--data.root", str(world_folder)]
    assert run([*command, "--out", str(tmp_path / "c.safetensors")]) == 0
    one, two = (safetensors.torch.load_file(tmp_path / f"{n}.safetensors")["features"] for n in "fc")
    assert one.shape == (12, 24)
    assert torch.equal(one, two)
    by_command = json.loads((tmp_path / "c.json").read_text())
    assert json.loads(json.dumps(by_function)) == by_command
    assert by_function["clip"]["num_frames"] == 8


def test_a_module_of_ones_own_is_encoded(runs: Path, world_folder: Path, tmp_path: Path) -> None:
    encoder: Any = load_backbone(runs / "future")
    encode(encoder, tmp_path / "m.safetensors", {"root": str(world_folder), "num_frames": 8, "size": 32})
    encode(runs / "future", tmp_path / "r.safetensors", {"root": str(world_folder)})
    one, two = (safetensors.torch.load_file(tmp_path / f"{n}.safetensors")["features"] for n in "mr")
    assert torch.equal(one, two)


def test_a_loaded_backbone_is_a_module_that_learns(runs: Path) -> None:
    encoder: Any = load_backbone(runs / "future")
    assert isinstance(encoder, nn.Module)
    model = nn.Sequential(encoder, nn.Flatten(), nn.LazyLinear(2))
    clip, label = torch.rand(4, 3, 8, 32, 32), torch.tensor([0, 1, 0, 1])
    model(clip)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    losses = []
    for _ in range(8):
        loss = nn.functional.cross_entropy(model(clip), label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


def test_a_configuration_of_dictionaries_is_that_of_classes() -> None:
    given = {
        "out": "x",
        "student": {"name": "vjepa/tiny", "options": SMALL},
        "data": {"num_frames": 8, "size": [32, 48]},
        "objectives": {"match": {"weight": 2}},
    }
    teacher = {"name": "conv/small"}
    assert DistillConfig(**given, teachers={"main": teacher}) == DistillConfig(
        out="x",
        student=Component("vjepa/tiny", SMALL),
        teachers={"main": Component("conv/small")},
        data=Data(num_frames=8, size=[32, 48]),
        objectives={"match": Term(2)},
    )
    assert DistillConfig(out=Path("x"), teachers={"main": teacher}).out == "x"
    spans = {"now": 2, "soon": 2, "eventually": 4}
    assert JepaConfig(out="x", data={"num_frames": 8}, spans=spans).spans == Spans(2, 2, 4)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"steps": "ten"}, "steps='ten' is no int"),
        ({"stpes": 10}, "config has no setting 'stpes'. Did you mean steps?"),
        ({"optimizer": {"lr": "fast"}}, "optimizer.lr='fast' is no float"),
        ({"optimizer": "adam"}, r"optimizer='adam' is no Optimizer: give Optimizer\(lr=...\)"),
        ({"student": "vjepa/tiny"}, r"student='vjepa/tiny' is no Component: give Component\(name=...\)"),
        ({"teachers": "conv/small"}, r"teachers='conv/small': give a dictionary, as {'a name': Component"),
        ({"teachers": {"main": "conv/small"}}, "teachers.main='conv/small' is no Component"),
        ({"data": {"size": [32, "a"]}}, r"data.size=\[32, 'a'\] is no int or list\[int\]"),
    ],
)
def test_a_wrong_configuration_in_one_line(given: dict[str, Any], words: str) -> None:
    sound = {"out": "x", "teachers": {"main": {"name": "conv/small"}}}
    with pytest.raises(UserError, match=words):
        distill({**sound, **given})


def test_what_is_no_backbone_is_told_from_what_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^there is no backbone 'vjepa/tny'\. Did you mean vjepa/tiny"):
        load_backbone("vjepa/tny")
    (tmp_path / "v2.pt").touch()
    with pytest.raises(UserError, match=r"v2\.pt is no \.safetensors that a run exported; .* weights: FILE"):
        load_backbone(tmp_path / "v2.pt")


def test_create_backbone_is_create() -> None:
    assert create_backbone("vjepa/tiny", **SMALL).embed_dim == 24
    with pytest.raises(UserError, match="has no option 'dept'"):
        create_backbone("vjepa/tiny", dept=2)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"data": {"root": "r", "sise": 3}}, "data has no setting 'sise'. Did you mean size?"),
        ({"data": {"root": "r", "num_frames": "8"}}, "data.num_frames='8' is no int"),
        ({"data": 3}, r"data=3 is no Data: give Data\(source=...\), or a dictionary"),
        (
            {"source": "runs/nowhere"},
            "there is no run folder or exported file runs/nowhere, and there is no ",
        ),
        ({"source": None}, "source=None: give a run folder, an exported file, or a registered name"),
        ({"which": "techer"}, "which='techer' is not one of student, teacher"),
        ({"out": "features"}, r"type --out features\.safetensors"),
        ({"source": nn.Identity(), "space": "teacher"}, "a module was given"),
    ],
)
def test_bad_input_in_one_line(given: dict[str, Any], words: str, tmp_path: Path) -> None:
    sound = {
        "source": "conv/small",
        "out": str(tmp_path / "f.safetensors"),
        "data": {"root": str(tmp_path), "size": 32},
    }
    with pytest.raises(UserError, match=words) as caught:
        encode(**{**sound, **given})
    assert "\n" not in str(caught.value)
