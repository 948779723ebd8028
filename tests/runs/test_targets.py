"""Runs that foretell other tokens than an EMA teacher's, as a user types them."""

import json
import shutil

import pytest
import torch
import yaml
from safetensors.torch import load_file

from tests.conftest import STUDENT, TINY
from tests.runs.test_runs import refused, run
from vjepa_distill import registry
from vjepa_distill.runs import exports
from vjepa_distill.runs.jepa import jepa_train
from vjepa_distill.settings import PredictorConfig
from vjepa_distill.training import checkpoint

CONV = ["--targets.kind=frozen", "--targets.name=conv/small", "--targets.options.patch=8"]
NARROW = [*CONV, "--targets.options.width=8"]
KINDS = {
    "frozen": ["--targets.kind=frozen"],
    "student": ["--targets.kind=student", "--objectives.sigreg.weight=0.5"],
    "other, anchored": ["--targets.kind=frozen", "--targets.name={taught}"],
    "sharper": [
        "--objectives.context.weight=0.5",
        "--objectives.dynamics.weight=0.5",
        "--teacher_context=prefix",
    ],
}


def exported(path, seed):
    """A conv/small with patch 8, which has these weights wherever it is loaded."""
    torch.manual_seed(seed)
    encoder = registry.create("backbone", "conv/small", patch=8)
    record = {"stage": "supervised", "backbone": registry.provenance("backbone", "conv/small", {"patch": 8})}
    return exports.export_backbone(path, encoder, record)


@pytest.fixture(scope="module")
def taught(tmp_path_factory):
    """The encoder that taught stage 1."""
    return exported(tmp_path_factory.mktemp("teacher") / "teacher.safetensors", seed=0)


@pytest.fixture(scope="module")
def distilled(tmp_path_factory, world_folder, taught):
    """A run of stage 1 from it."""
    out, teacher = tmp_path_factory.mktemp("runs") / "d", ["--teachers.main.name", taught]
    assert run("distill", *TINY, *STUDENT, *teacher, "--data.root", world_folder, "--out", out) == 0
    return out


@pytest.fixture
def from_it(tiny_jepa, distilled, world_folder):
    """The options of a stage 2 that goes on from there."""
    options = [option for option in tiny_jepa if not option.startswith("--student")]
    return [*options, "--data.root", world_folder, "--init", distilled, "--eval_every=2"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_stopped_run_goes_on_exactly_for_every_kind_of_targets(kind, tmp_path, from_it, taught):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    chosen = [option.format(taught=taught) for option in KINDS[kind]]
    assert run("jepa-train", *from_it, *chosen, "--out", whole) == 0
    shutil.copytree(whole, cut)
    (cut / "checkpoints" / "ckpt_final.pt").unlink()
    assert checkpoint.latest(cut).name == "ckpt_2.pt"
    assert run("jepa-train", "--out", cut, "--resume") == 0
    ends = [checkpoint.load(r / "checkpoints" / "ckpt_final.pt")["stage"] for r in (whole, cut)]
    assert ends[0].keys() == ends[1].keys()
    for name, value in ends[0].items():
        assert torch.equal(value, ends[1][name]), name
    assert any("anchor" in name for name in ends[0])
    assert not any(name.startswith("teacher.") for name in ends[0]) or kind != "student"


def test_frozen_targets_are_the_run_that_was_started_from(tmp_path, from_it, distilled):
    out = tmp_path / "j"
    assert run("jepa-train", *from_it, "--targets.kind=frozen", "--out", out) == 0
    start, teacher = load_file(distilled / "student.safetensors"), load_file(out / "teacher.safetensors")
    assert all(torch.equal(teacher[name], value) for name, value in start.items())
    student = load_file(out / "student.safetensors")
    assert any(not torch.equal(student[name], value) for name, value in start.items())


def test_masked_latents_of_a_pretrained_encoder_are_learned_directly(
    tmp_path, world_folder, tiny_jepa, capsys
):
    """No run to start from, so no head into that space: no anchor, and the log says so."""
    out = tmp_path / "j"
    assert run("jepa-train", *tiny_jepa, *NARROW, "--data.root", world_folder, "--out", out) == 0
    said = " ".join(capsys.readouterr().err.split())  # as it was before it was folded
    assert "targets: conv/small" in said
    assert "WARNING: conv/small has random weights" in said
    assert "predictor.anchor none: --init names no run that distilled the tokens of conv/small" in said
    state = checkpoint.load(out / "checkpoints" / "ckpt_final.pt")["stage"]
    assert state["predictor.out.weight"].shape == (32, 24)
    assert state["objectives.eventually.queue"].shape[1] == 32
    assert float(state["standardisers.targets.scale"].std()) > 0, "statistics were estimated"
    assert yaml.safe_load((out / "config.yaml").read_text())["predictor"]["anchor"] == "none"
    assert not (out / "teacher.safetensors").exists()
    rows = [json.loads(row) for row in (out / "metrics.jsonl").read_text().splitlines()]
    assert all("soon/skill/1" in row for row in rows), "notes of single tubelets are for programs"
    assert "soon/skill/1" not in said + (out / "train.log").read_text()
    assert "soon/skill" in (out / "train.log").read_text()


def test_the_anchor_goes_through_the_head_that_was_distilled_for_these_targets(
    tmp_path, from_it, distilled, taught, capsys
):
    same = ["--targets.kind=frozen", f"--targets.name={taught}"]
    assert run("jepa-train", *from_it, *same, "--out", tmp_path / "j") == 0
    assert f"through the head that {distilled} distilled" in " ".join(capsys.readouterr().err.split())
    state = checkpoint.load(tmp_path / "j" / "checkpoints" / "ckpt_final.pt")["stage"]
    assert "predictor.anchor.gain" in state
    for name, value in load_file(distilled / "head.safetensors").items():
        assert torch.equal(state[f"head.{name}"], value)
    assert run("jepa-train", *from_it, *NARROW, "--out", tmp_path / "k") == 0
    assert "predictor.anchor none" in capsys.readouterr().err, "of another width: not these targets"
    head, other = distilled / "head.safetensors", exported(tmp_path / "other.safetensors", seed=1)
    weights = exports.read_record(head)["teacher"]["weights"]
    assert weights == exports.fingerprint(exports.load_backbone(taught))
    differ = ["--targets.kind=frozen", f"--targets.name={other}", "--out", tmp_path / "l"]
    assert run("jepa-train", *from_it, *differ) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert f"predictor.anchor none: {distilled} distilled other weights than those of {other}" in said
    assert yaml.safe_load((tmp_path / "l" / "config.yaml").read_text())["predictor"]["anchor"] == "none"
    state = checkpoint.load(tmp_path / "l" / "checkpoints" / "ckpt_final.pt")["stage"]
    assert not [name for name in state if "anchor" in name or name.startswith("head.")]


def test_a_run_from_python_goes_on_with_the_same_settings(tmp_path, world_folder, tiny_jepa, capsys):
    """The anchor that could not be had is settled before the folder's settings are compared."""
    options = [*tiny_jepa, *NARROW, "--data.root", world_folder, "--out", tmp_path / "j"]
    assert run("jepa-train", *options) == 0
    stored = yaml.safe_load((tmp_path / "j" / "config.yaml").read_text())
    stored["predictor"]["anchor"] = "kernel"
    stored.pop("format", None)
    assert jepa_train({**stored, "resume": True}) == tmp_path / "j"


GIVEN = ["jepa-train", "--out=x", "--data.root=nowhere", "--student.name=vjepa/tiny"]
REFUSED = {
    "another encoder that follows": (
        ["--targets.name=conv/small"],
        "targets.name=conv/small is another encoder, which holds still: type --targets.kind frozen",
    ),
    "options of nobody": (
        ["--targets.kind=frozen", "--targets.options.patch=8"],
        "targets.options={'patch': 8} without targets.name: type --targets.name NAME",
    ),
    "no batches": (["--targets.statistics_batches=0"], "targets.statistics_batches=0"),
    "random weights that hold still": (
        ["--targets.kind=frozen"],
        "targets.kind=frozen foretells the student as it starts, which has random weights: type --init RUN",
    ),
    "an unknown encoder": (["--targets.kind=frozen", "--targets.name=conv/smal"], "Did you mean conv/small"),
    "an unknown option": ([*CONV, "--targets.options.ptach=8"], "ptach"),
    "an unknown kind": (["--targets.kind=frosen"], "frosen"),
    "an unknown scale": (["--targets.standardise=chanel"], "chanel"),
    "an unknown anchor": (["--predictor.anchor=kernal"], "kernal"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_bad_settings_are_one_line_before_any_data_is_read(what, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    given, words = REFUSED[what]
    assert words in refused(capsys, *GIVEN, *given)
    assert not list(tmp_path.iterdir())


def last_line(capsys, *arguments):
    assert run(*arguments) == 2
    return capsys.readouterr().err.strip().splitlines()[-1]


def test_targets_that_cannot_be_shown_now_are_refused_before_the_run(
    tmp_path, world_folder, tiny_jepa, capsys
):
    """NOW is 2 frames, and this encoder takes 4 at once: SOON's rival could not be made."""
    slow = [*CONV, "--targets.options.tubelet=4"]
    line = last_line(
        capsys, "jepa-train", *tiny_jepa, *slow, "--data.root", world_folder, "--out", tmp_path / "x"
    )
    assert "targets.name conv/small: the teacher does not take clips of 2 frames of 32 x 32" in line
    assert "--spans" in line
    assert not (tmp_path / "x").exists()


def test_targets_that_break_the_contract_are_refused_before_the_run(
    tmp_path, world_folder, tiny_jepa, capsys
):
    sound = "from vjepa_distill.backbones.vjepa import VideoViT\nclass Short(VideoViT):\n"
    sound += "    def __init__(self): super().__init__(1, 24, 2, tubelet=(2, 8, 8))\n"
    (tmp_path / "e.py").write_text(
        sound + "    forward = lambda self, *a: VideoViT.forward(self, *a)[:, 1:]\n"
    )
    given = ["--targets.kind=frozen", f"--targets.name={tmp_path}/e.py:Short"]
    line = last_line(
        capsys, "jepa-train", *tiny_jepa, *given, "--data.root", world_folder, "--out", tmp_path / "x"
    )
    assert "Short gives (1, 63, 24) where (1, 64, 24) is due" in line


def test_an_objective_of_one_width_is_refused_targets_of_another(tmp_path, world_folder, tiny_jepa, capsys):
    given = [*NARROW, "--objectives.match.weight=1"]
    line = last_line(
        capsys, "jepa-train", *tiny_jepa, *given, "--data.root", world_folder, "--out", tmp_path / "x"
    )
    assert (
        "objective 'match' takes no target_dim, so its targets are 24 wide as the student, and not 32" in line
    )
    assert "--objectives.match.weight 0" in line


def test_student_targets_without_sigreg_are_warned_of(tmp_path, world_folder, tiny_jepa, capsys):
    given = [*tiny_jepa, "--targets.kind=student", "--data.root", world_folder, "--out", tmp_path / "x"]
    assert run("jepa-train", *given) == 0
    assert "WARNING: targets.kind student without the objective sigreg collapses" in capsys.readouterr().err


def test_ours_is_anchored_and_the_scaffold_is_not(capsys):
    assert PredictorConfig().anchor == "kernel"
    configuration = ["--data.source=world", "--data.root=x", "--out=y", "--print_config"]
    for recipe, anchor in {"scaffold": "none", "jepa_small": "anomaly"}.items():
        assert run("jepa-train", "--config", recipe, *configuration) == 0
        assert yaml.safe_load(capsys.readouterr().out)["predictor"]["anchor"] == anchor
