"""The best held-out step: kept, exported, loaded like any run, and the same after a resume."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from vjepa_distill.cli import main
from vjepa_distill.runs import exports
from vjepa_distill.stages.distill import Distill
from vjepa_distill.training import checkpoint

EVERY = ["--eval_every=1", "--log_every=1", "--save_every=1", "--keep=0", "--amp=fp32"]


def run(*arguments) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(a) for a in arguments])
    return ended.value.code or 0


def rows(folder):
    return [json.loads(row) for row in (folder / "metrics.jsonl").read_text().splitlines()]


def said(folder: Path) -> str:
    return " ".join((folder / "train.log").read_text().split())


def best_at(monkeypatch, stage, step):
    """Runs of this stage find one step better than all others, whatever they learn."""
    monkeypatch.setattr(stage, "last_step", -1, raising=False)
    monkeypatch.setattr(stage, "after_step", _counting(stage.after_step))
    monkeypatch.setattr(stage, "score", lambda self, scores: 1.0 if self.last_step + 1 == step else 0.5)


def _counting(after_step):
    def count(self, step):
        after_step(self, step)
        self.last_step = step

    return count


def equal(one, two) -> bool:
    return one.keys() == two.keys() and all(torch.equal(value, two[name]) for name, value in one.items())


@pytest.fixture
def distilling(world_folder, tiny_distill):
    return [*tiny_distill, *EVERY, f"--data.root={world_folder}"]


def test_the_best_step_is_kept_exported_and_used_like_a_run(
    distilling, tiny_jepa, world_folder, tmp_path, monkeypatch
):
    best_at(monkeypatch, Distill, 2)
    first = tmp_path / "d"
    assert run("distill", *distilling, "--keep=1", "--out", first) == 0
    kept, last = (checkpoint.load(first / "checkpoints" / f"ckpt_{name}.pt") for name in ("best", "final"))
    assert (kept["step"], kept["sound"], kept["standing"]["best"]) == (2, True, {"step": 2, "score": 1.0})
    assert last["standing"] == {
        "best": {"step": 2, "score": 1.0},
        "last": {"step": 4, "score": 0.5},
        "first_rank": None,
    }
    assert not checkpoint.path_for(first, 2).exists(), "retention took the numbered one"
    student = {
        name.removeprefix("student."): value
        for name, value in kept["stage"].items()
        if name.startswith("student.")
    }
    assert equal(load_file(first / "best" / "student.safetensors"), student)
    assert not equal(load_file(first / "student.safetensors"), student)
    names = {"student.safetensors", "head.safetensors", "statistics.safetensors"}
    assert {path.name for path in (first / "best").iterdir()} == names
    record = exports.read_record(first / "best" / "student.safetensors")
    assert (record["steps"], record["score"]) == (2, 1.0)
    assert f"best: step 2, score 1; the last, step 4, has 0.5: {first}/best" in said(first).replace("- ", "-")

    loaded = exports.load_backbone(first / "best")
    assert equal(loaded.state_dict(), student)
    assert exports.load_head(first / "best")(torch.randn(1, 3, 24)).shape[-1] > 0
    out = tmp_path / "f.safetensors"
    assert run("encode", "--from", first / "best", "--data.root", world_folder, "--out", out) == 0
    still = ["--optimizer.lr", "1e-30", "--optimizer.weight_decay", "0", "--data.root", world_folder]
    spans = [o for o in tiny_jepa if not o.startswith("--student")]
    assert run("jepa-train", *spans, *still, "--init", first / "best", "--out", tmp_path / "j") == 0
    assert equal(load_file(tmp_path / "j" / "student.safetensors"), student)


def test_a_finished_run_writes_its_best_anew_and_still_resumes_from_its_last(
    distilling, tmp_path, monkeypatch
):
    best_at(monkeypatch, Distill, 2)
    assert run("distill", *distilling, "--out", tmp_path / "d") == 0
    files = {path: path.read_bytes() for path in (tmp_path / "d").rglob("*.safetensors")}
    for path in files:
        path.unlink()
    assert run("distill", "--out", tmp_path / "d", "--resume") == 0
    assert {path: path.read_bytes() for path in (tmp_path / "d").rglob("*.safetensors")} == files
    assert said(tmp_path / "d").count("best: step 2, score 1; the last, step 4, has 0.5") == 2


@pytest.mark.parametrize("cut", [1, 3])
def test_a_resume_before_or_after_the_best_ends_with_the_same_best(cut, distilling, tmp_path):
    """The scores are the run's own here."""
    for name in ("whole", "cut"):
        assert run("distill", *distilling, "--out", tmp_path / name) == 0
    for path in (tmp_path / "cut" / "checkpoints").glob("*.pt"):
        if path.name not in (f"ckpt_{cut}.pt", "ckpt_best.pt"):
            path.unlink()
    assert checkpoint.latest(tmp_path / "cut") == checkpoint.path_for(tmp_path / "cut", cut)
    assert run("distill", "--out", tmp_path / "cut", "--resume") == 0
    for name in ("best", "final"):
        whole, again = (
            checkpoint.load(tmp_path / folder / "checkpoints" / f"ckpt_{name}.pt")
            for folder in ("whole", "cut")
        )
        assert equal(whole["stage"], again["stage"])
        assert whole["standing"] == again["standing"]
        assert whole["trouble"] == again["trouble"]
    found = [row["heldout/score"] for row in rows(tmp_path / "whole")]
    assert found == [row["heldout/cosine"] for row in rows(tmp_path / "whole")]
    assert whole["standing"]["best"] == {"step": found.index(max(found)) + 1, "score": max(found)}
    assert found == [row["heldout/score"] for row in rows(tmp_path / "cut")]


def test_a_best_whose_file_is_gone_is_looked_for_anew(distilling, tmp_path, monkeypatch):
    best_at(monkeypatch, Distill, 2)
    assert run("distill", *distilling, "--out", tmp_path / "d") == 0
    checkpoint.best_of(tmp_path / "d").unlink()
    checkpoint.path_for(tmp_path / "d").unlink()
    checkpoint.path_for(tmp_path / "d", 4).unlink(missing_ok=True)
    assert run("distill", "--out", tmp_path / "d", "--resume") == 0
    assert "best: step 4, score 0.5, the last one" in said(tmp_path / "d")


def test_without_held_out_videos_there_is_no_best_and_the_log_says_so(distilling, tmp_path):
    assert run("distill", *distilling, "--data.heldout=0", "--out", tmp_path / "d") == 0
    assert "no best is kept: no held-out videos" in said(tmp_path / "d")
    assert not (tmp_path / "d" / "best").exists()
    assert not checkpoint.best_of(tmp_path / "d").exists()


def test_stage_2_writes_its_score_and_what_it_is_made_of(tiny_jepa, world_folder, tmp_path):
    options = [*tiny_jepa, *EVERY, f"--data.root={world_folder}"]
    assert run("jepa-train", *options, "--out", tmp_path / "j") == 0
    told = rows(tmp_path / "j")
    for row in told:
        chance = row["heldout/eventually/chance"]
        parts = [
            max(-1, row["heldout/now/skill"]),
            max(-1, row["heldout/soon/skill"]),
            (row["heldout/eventually/retrieval"] - chance) / (1 - chance),
            min(1, row["heldout/rank"] / told[0]["heldout/rank"]),
            2 * row["heldout/direction"] - 1,
        ]
        assert row["heldout/score"] == pytest.approx(sum(parts) / 5)
    assert {path.name for path in (tmp_path / "j" / "best").iterdir()} == {
        "student.safetensors",
        "teacher.safetensors",
        "predictor.safetensors",
        "outcome.safetensors",
    }
    options = [option for option in options if not option.startswith("--student")]
    still = ["--init", tmp_path / "j", "--targets.kind=frozen"]
    assert run("jepa-train", *options, *still, "--out", tmp_path / "f") == 0
    for row in rows(tmp_path / "f"):
        weighted = row["heldout/now"] + row["heldout/soon"] + 0.25 * row["heldout/eventually"]
        assert row["heldout/score"] == pytest.approx(-weighted)
