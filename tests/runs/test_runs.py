"""Whole runs as a user types them: distill, jepa-train --init, resume bit for bit, signals, refusals."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from vjepa_distill.cli import main
from vjepa_distill.runs import exports
from vjepa_distill.training import checkpoint


def run(*arguments) -> int:
    """The command line in this process; its exit code."""
    with pytest.raises(SystemExit) as ended:
        main([str(a) for a in arguments])
    return ended.value.code or 0


def refused(capsys, *arguments) -> str:
    """The one line that bad input gets."""
    assert run(*arguments) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    return lines[0]


def same(one: Path, two: Path, name: str) -> None:
    a, b = load_file(one / name), load_file(two / name)
    assert a.keys() == b.keys()
    assert all(torch.equal(a[key], b[key]) for key in a)


def test_distill_then_jepa_then_both_load(tmp_path, world_folder, tiny_distill, tiny_jepa):
    first, second = tmp_path / "d", tmp_path / "j"
    assert run("distill", *tiny_distill, "--data.root", world_folder, "--out", first) == 0
    spans = [o for o in tiny_jepa if not o.startswith("--student")]
    assert run("jepa-train", *spans, "--data.root", world_folder, "--out", second, "--init", first) == 0
    student = exports.load_backbone(first)
    clip = torch.rand(1, 3, 8, 32, 32)
    assert student(clip).shape == (1, student.grid(8, 32, 32).length, 24)
    assert exports.load_backbone(second, "teacher")(clip).shape == student(clip).shape
    settings = yaml.safe_load((second / "config.yaml").read_text())
    assert settings["student"] == {
        "name": "vjepa/tiny",
        "options": {"depth": 2, "width": 24, "heads": 2, "patch": 8},
    }
    rows = [json.loads(row) for row in (second / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [2, 4]
    for name in ("now/skill", "soon/skill", "eventually/retrieval", "eventually/chance", "rank", "std"):
        assert all(name in row for row in rows), name
    assert list((second / "tensorboard").glob("events*"))


MISBEHAVING = {
    "class NoKeep(Sound): forward = lambda self, clip: clip": "NoKeep does not run: TypeError",
    "class Two(Sound): forward = lambda self, *a: (1, 2)": "Two gives tuple where (1, 4, 24) is due",
    "class One(Sound): forward = lambda self, *a: VideoViT.forward(self, *a).mean(1)": "gives (1, 24) where",
    "class Odd(Sound): grid = lambda self, *size: (1, 2, 3)": "its grid gives a tuple, not a vjepa_d",
    "class Stops(Sound): forward = lambda self, *a: 1 / 0": "ZeroDivisionError: division by zero (e.py:",
    "class Bare(Sound): __init__ = lambda self: 1 / 0": "cannot be built: ZeroDivisionError",
    "class Plain: pass": "makes a Plain: expected a torch.nn.Module with an integer embed_dim",
}


@pytest.mark.parametrize("code", MISBEHAVING)
@pytest.mark.parametrize("stage", ["distill", "jepa-train"])
def test_an_encoder_that_breaks_the_contract_is_refused_before_the_run(
    stage, code, tmp_path, world_folder, tiny_distill, tiny_jepa, capsys
):
    """In one line with its name and where to look, and the folder is free for the next try."""
    sound = "from vjepa_distill.backbones.vjepa import VideoViT\nclass Sound(VideoViT):\n"
    sound += "    def __init__(self): super().__init__(1, 24, 2, tubelet=(2, 8, 8))\n"
    (tmp_path / "e.py").write_text(f"{sound}{code}\n")
    name = f"{tmp_path}/e.py:{code.split()[1].partition('(')[0].rstrip(':')}"
    tiny = tiny_distill if stage == "distill" else tiny_jepa
    given = [*(o for o in tiny if not o.startswith("--student")), "--student.name", name]
    assert run(stage, *given, "--data.root", world_folder, "--out", tmp_path / "run") == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("vjepa-distill: error: ")
    assert MISBEHAVING[code] in line
    assert not (tmp_path / "run").exists()


def test_a_random_teacher_is_told_how_it_takes_weights():
    from vjepa_distill.runs.distill import weights_for
    from vjepa_distill.settings import Component

    timm, torchvision, conv = (
        weights_for("main", Component(name)) for name in ("timm/test_vit", "torchvision/s3d", "conv/small")
    )
    assert "--teachers.main.options.pretrained true or --teachers.main.options.weights FILE or" in timm
    assert "pretrained" not in torchvision
    assert "--teachers.main.options.weights FILE" in torchvision
    assert conv == "a run folder as --teachers.main.name"


def test_a_teacher_with_random_weights_is_called_one(tmp_path, world_folder, tiny_distill, capsys):
    run("distill", *tiny_distill, "--data.root", world_folder, "--out", tmp_path / "d")
    assert "WARNING: the teacher has random weights" in capsys.readouterr().err
    named = [*tiny_distill, "--teachers.main.name", tmp_path / "d", "--teachers.main.options", "{}"]
    run("distill", *named, "--data.root", world_folder, "--out", tmp_path / "e")
    assert "WARNING" not in capsys.readouterr().err, "the student of a run is a trained teacher"


def test_init_starts_from_the_distilled_student_itself(tmp_path, world_folder, tiny_distill, tiny_jepa):
    first, second = tmp_path / "d", tmp_path / "j"
    run("distill", *tiny_distill, "--data.root", world_folder, "--out", first)
    spans = [o for o in tiny_jepa if not o.startswith("--student")]
    still = ["--optimizer.lr", "1e-30", "--optimizer.weight_decay", "0"]
    run("jepa-train", *spans, *still, "--data.root", world_folder, "--out", second, "--init", first)
    same(first, second, "student.safetensors")


def test_the_exported_head_speaks_in_the_teachers_own_units(tmp_path, world_folder, tiny_distill):
    """Folding is exact: the exported head equals the trained one, then the standardisation undone."""
    run(
        "distill",
        *tiny_distill,
        "--standardise",
        "phi-s",
        "--data.root",
        world_folder,
        "--out",
        tmp_path / "d",
    )
    state = checkpoint.load(tmp_path / "d" / "checkpoints" / "ckpt_final.pt")["stage"]
    head, tokens = exports.load_head(tmp_path / "d"), torch.randn(5, 24)
    norm = [state[f"heads.main.layers.0.{part}"] for part in ("weight", "bias")]
    x = torch.nn.functional.layer_norm(tokens, (24,), *norm)
    x = torch.nn.functional.gelu(
        x @ state["heads.main.layers.1.weight"].T + state["heads.main.layers.1.bias"]
    )
    x = x @ state["heads.main.layers.3.weight"].T + state["heads.main.layers.3.bias"]
    x = x / state["standardisers.main.scale"] @ state["standardisers.main.rotation"].T
    expected = x + state["standardisers.main.mean"]
    assert (head(tokens) - expected).abs().max() < 1e-5 * expected.abs().max(), "fp32 rounding and no more"


@pytest.mark.parametrize("stage", ["distill", "jepa-train"])
def test_resume_equals_the_uninterrupted_run_bit_for_bit(
    stage, tmp_path, world_folder, tiny_distill, tiny_jepa
):
    chosen = tiny_distill if stage == "distill" else [*tiny_jepa, "--student.options.drop_path=0.2"]
    options = [*chosen, "--data.root", world_folder]
    assert run(stage, *options, "--out", tmp_path / "whole") == 0
    assert run(stage, *options, "--out", tmp_path / "cut") == 0
    (tmp_path / "cut" / "checkpoints" / "ckpt_final.pt").unlink()
    assert checkpoint.latest(tmp_path / "cut").name == "ckpt_2.pt"
    assert run(stage, "--out", tmp_path / "cut", "--resume") == 0
    same(tmp_path / "whole", tmp_path / "cut", "student.safetensors")
    ends = [checkpoint.load(tmp_path / r / "checkpoints" / "ckpt_final.pt") for r in ("whole", "cut")]
    for name, value in ends[0]["stage"].items():
        assert torch.equal(value, ends[1]["stage"][name]), name
    steps = [json.loads(row)["step"] for row in (tmp_path / "cut" / "metrics.jsonl").read_text().splitlines()]
    assert steps == [2, 4]


def test_a_run_starts_the_same_from_its_own_config(tmp_path, world_folder, tiny_jepa):
    run("jepa-train", *tiny_jepa, "--data.root", world_folder, "--out", tmp_path / "a")
    assert run("jepa-train", "--config", tmp_path / "a" / "config.yaml", "--out", tmp_path / "b") == 0
    same(tmp_path / "a", tmp_path / "b", "student.safetensors")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_at_the_step_and_says_how_to_go_on(number, tmp_path, world_folder, tiny_jepa):
    options = [*tiny_jepa, "--steps=2000", "--save_every=0", f"--data.root={world_folder}", "--out=run"]
    command = [sys.executable, "-m", "vjepa_distill", "jepa-train", *options]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True, env=os.environ)
    until = time.monotonic() + 90
    while (
        not (tmp_path / "run" / "metrics.jsonl").exists()
        or not (tmp_path / "run" / "metrics.jsonl").read_text()
    ):
        assert time.monotonic() < until, "no step was made"
        time.sleep(0.2)
    process.send_signal(number)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 130, said
    assert "go on with: vjepa-distill jepa-train --out run --resume" in said
    (saved,) = (tmp_path / "run" / "checkpoints").glob("ckpt_*.pt")
    assert checkpoint.load(saved)["step"] > 0


def test_a_folder_in_use_is_refused_and_kept(tmp_path, world_folder, tiny_distill, capsys):
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "thesis.txt").write_text("years of work")
    options = [*tiny_distill, "--data.root", world_folder, "--out", tmp_path / "x"]
    assert "--resume" in refused(capsys, "distill", *options)
    assert "no run of ours" in refused(capsys, "distill", *options, "--overwrite")
    assert (tmp_path / "x" / "thesis.txt").read_text() == "years of work"


def test_a_refused_start_leaves_nothing_and_overwrites_nothing(tmp_path, world_folder, tiny_distill, capsys):
    good = [*tiny_distill, "--data.root", world_folder, "--out", tmp_path / "x"]
    assert "no such folder" in refused(capsys, "distill", *good, "--data.root", tmp_path / "nowhere")
    assert run("distill", *good, "--objectives.match.options.distance", "foo") == 2
    assert not (tmp_path / "x").exists(), "the corrected command can use the same folder"
    assert run("distill", *good) == 0
    before = {path: path.read_bytes() for path in (tmp_path / "x").rglob("*") if path.is_file()}
    assert run("distill", *good, "--overwrite", "--data.root", tmp_path / "nowhere") == 2
    assert run("distill", *good, "--overwrite", "--objectives.match.options.distance", "foo") == 2
    assert {path: path.read_bytes() for path in (tmp_path / "x").rglob("*") if path.is_file()} == before
    assert run("distill", *good, "--overwrite") == 0


@pytest.mark.parametrize("way", ["init", "best", "targets", "teacher", "root"])
def test_what_a_run_reads_is_not_emptied_for_it(way, tmp_path, world_folder, tiny_distill, tiny_jepa, capsys):
    out = tmp_path / "x"
    root = shutil.copytree(world_folder, out / "world") if way == "root" else world_folder
    good = [*tiny_distill, "--data.root", root]
    if way == "root":
        (out / "config.yaml").write_text("steps: 1")
    else:
        assert run("distill", *good, "--out", out) == 0
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    future = [*[word for word in tiny_jepa if not word.startswith("--student")], "--data.root", root]
    words = {
        "init": ["jepa-train", *future, "--init", out],
        "best": ["jepa-train", *future, "--init", out / "student.safetensors"],
        "targets": ["jepa-train", *tiny_jepa, "--data.root", root, "--targets.kind=frozen"],
        "teacher": ["distill", *good, "--teachers.main.name", out, "--teachers.main.options={}"],
        "root": ["distill", *good],
    }[way]
    words += ["--targets.name", out] if way == "targets" else []
    capsys.readouterr()
    line = refused(capsys, *words, "--out", out, "--overwrite")
    assert f"--overwrite: {out} holds what this run is to read" in line
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("below", ["", "/x"])
def test_a_file_in_the_place_of_the_folder_is_refused(below, tmp_path, world_folder, tiny_distill, capsys):
    (tmp_path / "file").write_text("mine")
    options = [*tiny_distill, "--data.root", world_folder, f"--out={tmp_path / 'file'}{below}"]
    for more in ([], ["--overwrite"], ["--resume"]):
        assert f"{tmp_path / 'file'} is a file; give a folder" in refused(capsys, "distill", *options, *more)
    assert (tmp_path / "file").read_text() == "mine"


def test_a_run_of_a_single_step_needs_no_other_options(tmp_path, world_folder, tiny_distill):
    options = [o for o in tiny_distill if not o.startswith("--optimizer.warmup")]
    assert run("distill", *options, "--steps", "1", "--data.root", world_folder, "--out", tmp_path / "x") == 0


def test_resume_with_other_settings_is_refused_by_name(tmp_path, world_folder, tiny_distill, capsys):
    options = [*tiny_distill, "--data.root", world_folder, "--out", tmp_path / "x"]
    run("distill", *options)
    capsys.readouterr()
    assert "optimizer was" in refused(capsys, "distill", *options, "--resume", "--optimizer.lr", "1e-2")


def test_no_videos_is_said_before_any_model_is_built(tmp_path, tiny_distill, capsys, monkeypatch):
    monkeypatch.setattr(exports, "load_backbone", lambda *_, **__: pytest.fail("a model was built"))
    line = refused(
        capsys, "distill", *tiny_distill, "--data.root", tmp_path / "nowhere", "--out", tmp_path / "x"
    )
    assert "--data.source world" in line


def test_unknown_names_and_options_are_refused_before_any_data_is_read(tmp_path, tiny_distill, capsys):
    options = [*tiny_distill, "--data.root", tmp_path / "nowhere", "--out", tmp_path / "x"]
    assert "vjepa/tiny" in refused(capsys, "distill", *options, "--student.name", "vjepa/tinny")
    assert "depht" in refused(capsys, "distill", *options, "--student.options.depht", "3")
    assert "shraed" in refused(capsys, "distill", *options, "--objectives.match.options.shraed", "1")
    assert not (tmp_path / "x").exists()


def test_a_loss_that_is_not_finite_stops_before_the_update(tmp_path, world_folder, tiny_distill, capsys):
    options = [*tiny_distill, "--steps=6", "--optimizer.clip=null", "--optimizer.lr=1e25", "--amp=fp32"]
    assert run("distill", *options, "--data.root", world_folder, "--out", tmp_path / "x") == 1
    said = capsys.readouterr().err
    assert "not finite" in said
    assert "match" in said
    for path in (tmp_path / "x" / "checkpoints").glob("*.pt"):
        assert all(
            torch.isfinite(v).all() for v in checkpoint.load(path)["stage"].values() if v.is_floating_point()
        )
