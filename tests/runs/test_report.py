"""report: what it gathers from real run folders and real mp4 files, and what it refuses."""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import yaml

import vjepa_distill
from vjepa_distill import UserError, load_backbone, load_forecaster, report
from vjepa_distill.cli import main
from vjepa_distill.cli import run as cli
from vjepa_distill.distributed import Ranks
from vjepa_distill.modules.masks import Blocks
from vjepa_distill.protocols import Batch, Draw, Timeline
from vjepa_distill.runs import few, foresight, scenes, unusual, videos
from vjepa_distill.runs.report import config_of, names
from vjepa_distill.runs.written import rows_of

BEFORE = Path(__file__).parents[1] / "before"
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def runs(world_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """distilled and future: both stages at their smallest, on a copy of the world that may be moved."""
    folder = tmp_path_factory.mktemp("runs")
    shutil.copytree(world_folder, folder / "world")
    small = {"depth": 1, "width": 24, "heads": 2, "patch": 8}
    common: dict[str, Any] = {
        "data": {"root": str(folder / "world"), "num_frames": 8, "size": 32, "heldout": 0.4},
        "optimizer": {"warmup": 1},
        "steps": 2,
        "batch_size": 4,
        "device": "cpu",
        "amp": "fp32",
    }
    first = {"student": {"name": "vjepa/tiny", "options": small}, "out": str(folder / "distilled"), **common}
    teachers = {"main": {"name": "conv/small", "options": {"patch": 8, "width": 8}}}
    vjepa_distill.distill({**first, "teachers": teachers})
    second = {
        "spans": {"now": 2, "soon": 2, "eventually": 4},
        "predictor": {"width": 24, "depth": 1, "heads": 2},
    }
    vjepa_distill.jepa_train(
        {**second, "init": str(folder / "distilled"), "out": str(folder / "future"), **common}
    )
    return folder


@pytest.fixture
def future(runs: Path, tmp_path: Path) -> Path:
    """A copy of a run of jepa-train that a test may spoil."""
    return Path(shutil.copytree(runs / "future", tmp_path / "future"))


def heldout_files(run: Path) -> list[str]:
    config = config_of(run)
    held = videos.of_run(config, Ranks()).heldout
    assert isinstance(held, videos.HeldOut)
    return [entry.path for entry in held.clips.entries]


def shown(run: Path, count: int = 32, **other: Any) -> scenes.Clips:
    clips, why = scenes.clips_of(run, config_of(run), other.get("root"), count, CPU)
    assert clips, why
    return clips


def test_the_command_prints_the_path_of_a_small_page_made_in_time(runs, capsys):
    before = time.perf_counter()
    assert cli(["report", str(runs / "future"), "--device=cpu"]) == 0
    assert time.perf_counter() - before < 20
    path = Path(capsys.readouterr().out.strip())
    assert path == runs / "future" / "report.html"
    text = path.read_text()
    assert path.stat().st_size < 2**20
    for name in heldout_files(runs / "future"):
        assert text.count(f"<figcaption>{name}</figcaption>") == 1
    assert "vjepa-distill evaluate" in text


def test_clips_are_those_held_out_and_frames_those_of_the_files(runs):
    clips = shown(runs / "future")
    assert list(clips.names) == heldout_files(runs / "future")
    config = config_of(runs / "future")
    found = videos.of_run(config, Ranks())
    assert isinstance(found.heldout, videos.HeldOut)
    for batch_row, name in enumerate(clips.names):
        clip = found.heldout.clips[batch_row]
        assert clip["path"] == name
        due = clip["clip"][:, ::2].permute(1, 2, 3, 0).numpy()  # tubelets of two frames
        assert np.array_equal(clips.frames[batch_row], due)


def test_tokens_are_the_exported_encoders(runs):
    clips = shown(runs / "future")
    encoder: Any = load_backbone(runs / "future")
    found = videos.of_run(config_of(runs / "future"), Ranks())
    assert isinstance(found.heldout, videos.HeldOut)
    clip = found.heldout.clips[1]["clip"][None].float() / 255
    with torch.no_grad():
        due = encoder.eval()(clip).unflatten(1, encoder.grid(8, 32, 32))
    assert clips.tokens is not None
    assert np.allclose(clips.tokens[1], due[0].numpy(), atol=1e-5)


def test_masks_are_those_of_the_runs_held_out_scores(runs):
    clips = shown(runs / "future")
    assert [tuple(part) for part in clips.segments] == [("NOW", 1), ("SOON", 1), ("EVENTUALLY", 2)]
    short, long, now = clips.masks
    config = config_of(runs / "future")
    grid = load_backbone(runs / "future").grid(8, 32, 32)
    draw = Draw(config.seed, torch.arange(len(clips.names)))
    for mask, view in ((short, Blocks(8, 0.15)), (long, Blocks(2, 0.7))):
        rest = view.split(grid, draw).rest
        assert mask.hidden.sum() == rest.numel()
        assert all(mask.hidden.reshape(len(rest), -1)[row][rest[row]].all() for row in range(len(rest)))
    assert not now.hidden[:, 0].any()
    assert now.hidden[:, 1:].all()
    assert "soon" in now.words
    assert "now" in short.words


def test_distillation_hides_nothing_and_says_so(runs):
    clips = shown(runs / "distilled")
    assert clips.masks == []
    assert clips.notes == ["Nothing was hidden: the student sees every token."]
    assert clips.tokens is not None


def test_several_runs_make_one_page_in_the_first_ones_folder(runs):
    path = report([runs / "future", runs / "distilled", runs / "future"], clips=1, device="cpu")
    assert path == runs / "future" / "report.html"
    text = path.read_text()
    assert "2 runs side by side" in text
    assert text.count('class="film"') == 2 + 3
    assert "has learned" in text or "did NOT learn" in text or "speaks the teacher" in text


def test_names_are_as_long_as_they_must_be():
    assert names([Path("runs/a")]) == ["a"]
    assert names([Path("x/a"), Path("y/a"), Path("y/b")]) == ["x/a", "y/a", "y/b"]


def test_without_the_videos_there_is_a_page_that_says_so(future, runs, tmp_path):
    moved = tmp_path / "moved"
    config = yaml.safe_load((future / "config.yaml").read_text())
    config["data"] |= {"root": str(tmp_path / "gone"), "source": "world"}
    (future / "config.yaml").write_text(yaml.safe_dump(config))
    text = report(future, device="cpu").read_text()
    assert "<img" not in text
    assert f"there is no folder {tmp_path / 'gone'}" in text
    assert "--data.root DIR" in text
    assert not (tmp_path / "gone").exists()
    (tmp_path / "gone").mkdir()
    assert "<img" not in report(future, device="cpu").read_text()
    assert not any((tmp_path / "gone").iterdir())  # no new world was painted there
    shutil.copytree(runs / "world", moved)
    assert report(future, root=moved, device="cpu").read_text().count("<img") > 3


def test_a_root_that_was_typed_must_hold_the_videos(future, tmp_path, capsys):
    with pytest.raises(UserError, match="there is no folder"):
        report(future, root=tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError):
        report(future, root=tmp_path / "empty")
    with pytest.raises(SystemExit) as end:
        main(["report", str(future), "--data.root", str(tmp_path / "nowhere")])
    assert end.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_clips_may_be_fewer_or_none(runs):
    assert len(shown(runs / "future", 2).names) == 2
    assert "--clips 0" in report(runs / "future", clips=0, device="cpu").read_text()


def test_a_run_that_is_not_finished_shows_frames_and_says_why_no_tokens(future):
    (future / "student.safetensors").unlink()
    (future / "metrics.jsonl").write_text('{"step": 1, "now": 0.5}\n{"step": 2, "no')
    assert [row["step"] for row in rows_of(future)] == [1]
    clips = shown(future)
    assert clips.tokens is None
    assert any("a run exports at its end" in note for note in clips.notes)
    assert "Step 1 of 2" in report(future, device="cpu").read_text()


def test_the_best_step_is_named_where_it_was_kept(future):
    scores = [{"step": step, "heldout/score": score} for step, score in ((1, 0.7), (2, 0.25), (3, None))]
    (future / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in scores))
    (future / "best").mkdir(exist_ok=True)
    assert f"1, score 0.700: {future / 'best'}" in report(future, clips=0).read_text()
    shutil.rmtree(future / "best")
    assert "<dt>best step" not in report(future, clips=0).read_text()


def test_a_run_that_kept_no_video_out_says_whose_clips_these_are(future):
    config = yaml.safe_load((future / "config.yaml").read_text())
    config["data"]["heldout"] = 0.0
    (future / "config.yaml").write_text(yaml.safe_dump(config))
    clips = shown(future, 3)
    assert len(clips.names) == 3
    assert scenes.NOT_KEPT in clips.notes


@pytest.mark.parametrize("stage", ["distill", "jepa"])
def test_runs_of_earlier_versions_have_a_page(stage, tmp_path, monkeypatch):
    shutil.copytree(BEFORE, tmp_path / "before")
    monkeypatch.chdir(tmp_path / "before")
    assert report(stage, device="cpu").read_text().count("<img") > 1


def test_what_is_no_run_is_refused_in_one_line(runs, future, tmp_path):
    for wrong, words in (
        (tmp_path / "none", "there is no run folder"),
        (runs / "world", "holds no config.yaml"),
    ):
        with pytest.raises(UserError, match=words):
            report([future, wrong])
    with pytest.raises(UserError, match="type --out"):
        report(future, future / "config.yaml")
    with pytest.raises(UserError, match="type --out"):
        report(future, tmp_path)
    with pytest.raises(UserError, match="--clips 99"):
        report(future, clips=99)
    with pytest.raises(UserError, match="no run given"):
        report([])
    (future / "config.yaml").write_text("- a list")
    with pytest.raises(UserError, match="holds no settings"):
        report(future)
    (future / "config.yaml").write_text("a: [")
    with pytest.raises(UserError, match="cannot be read"):
        report(future)


def test_an_evaluation_is_shown_and_a_newer_or_broken_one_refused(future):
    told = {"format": 1, "time": {"speed": {"chance": 0.5, "mean": {"this": {"score": 0.87654, "low": 0.8}}}}}
    (future / "evaluation.json").write_text(json.dumps(told))
    assert "0.877" in report(future, clips=0).read_text()
    (future / "evaluation.json").write_text(json.dumps({**told, "format": 2}))
    with pytest.raises(UserError, match="upgrade"):
        report(future, clips=0)
    (future / "evaluation.json").write_text("{")
    with pytest.raises(UserError, match="make it anew"):
        report(future, clips=0)


class Oracle:
    """A forecaster that knows: tokens of a pixel each, SOON off by a tenth, EVENTUALLY right or shifted."""

    def __init__(self, shift: int = 0) -> None:
        self.shift, self.asked = shift, 0
        self.kinds = F.one_hot(torch.arange(8)).float()

    def targets(self, clip: torch.Tensor) -> torch.Tensor:
        """[1, 4, 1, 1, 8]: the first pixel's value says which token it is, its tubelet is added."""
        kind = self.kinds[int(clip[0, 0, 0, 0, 0] * 255)]
        return torch.stack([kind + step for step in range(4)])[None, :, None, None]

    def forecast(self, now: torch.Tensor) -> SimpleNamespace:
        assert now.shape[2] == 2
        target = self.targets(now)
        number = (int(now[0, 0, 0, 0, 0] * 255) + self.shift) % 8
        return SimpleNamespace(tokens=target[:, 1:3] + 0.1, outcome=self.kinds[number][None] + 3)

    def rivals(self, now: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"persistence": self.targets(now)[:, :1].repeat(1, 2, 1, 1, 1)}


def batch_of(numbers: list[int]) -> Batch:
    clip = torch.stack([torch.full((3, 8, 4, 4), number / 255) for number in numbers])
    rows = torch.tensor(numbers)
    return Batch(clip, rows, rows, {"path": [f"{number}.mp4" for number in numbers]})


def test_soons_error_is_what_it_is_and_so_is_its_rivals():
    seen = foresight.foresee(Oracle(), Timeline(1, 2, 1), batch_of([0, 3]), [batch_of([5])])
    assert seen.error.shape == (2, 2, 1, 1)
    assert np.allclose(seen.error, 0.1)
    assert np.allclose(seen.rival[:, :, 0, 0], [[1, 2], [1, 2]])


def test_eventually_finds_the_right_future_or_says_where_it_is():
    more = [batch_of([5]), batch_of([6])]
    right = foresight.foresee(Oracle(), Timeline(1, 2, 1), batch_of([0, 3]), more)
    assert right.candidates == 4
    for search, name in zip(right.searches, ("0.mp4", "3.mp4"), strict=True):
        assert (search.place, search.found[0].name, search.found[0].right) == (1, name, True)
        assert search.found[0].cosine == pytest.approx(1)
        assert [one.right for one in search.found[1:]] == [False, False]
    wrong = foresight.foresee(Oracle(shift=5), Timeline(1, 2, 1), batch_of([0, 3]), more)
    assert (wrong.searches[0].found[0].name, wrong.searches[0].found[0].right) == ("5.mp4", False)
    assert wrong.searches[0].place > 1


def test_the_far_frames_are_of_the_far_future():
    clip = torch.arange(8).view(1, 8, 1, 1).expand(3, 8, 4, 4) / 255
    one = Batch(clip[None], torch.zeros(1), torch.zeros(1), {"path": ["a"]})
    [search] = foresight.search(torch.ones(1, 2), torch.ones(1, 2), [one], 0.5)
    assert search.found[0].frames[:, 0, 0, 0].tolist() == [4, 6, 7]


def test_the_predictors_pictures_are_on_the_page_where_there_is_one(future):
    text = report(future, device="cpu").read_text()
    assert "What EVENTUALLY retrieves" in text
    assert text.count("SOON’s error</p>") == len(heldout_files(future))
    assert text.count('class="ring"') == min(len(heldout_files(future)), unusual.SHOWN)
    (future / "predictor.safetensors").unlink()
    text = report(future, device="cpu").read_text()
    assert "What EVENTUALLY retrieves" not in text
    assert "Where it was surprised" not in text
    assert f"jepa-train --out {future} --resume" in text


def test_the_curves_are_those_of_the_command_and_the_highest_peaks_come_first(runs):
    clips = shown(runs / "future")
    files = heldout_files(runs / "future")
    rows = vjepa_distill.surprise(runs / "future", {"root": str(runs / "world")}, device="cpu")["rows"]
    curves = {file: [row for row in rows if row["file"] == file] for file in files}
    order = sorted(files, key=lambda file: -max(row["surprise"] for row in curves[file]))
    assert [one.name for one in clips.watched] == order[: unusual.SHOWN]
    assert clips.among == len(files)
    for one in clips.watched:
        assert np.isnan(one.surprise[0])  # NOW is a tubelet
        due = curves[one.name]
        assert one.surprise[1:] == pytest.approx([row["surprise"] for row in due], abs=1e-5)
        assert one.seconds[1:] == pytest.approx([row["second"] for row in due], abs=1e-3)
        assert not one.cut
        number = files.index(one.name)
        assert np.array_equal(one.frames, clips.frames[number])
    assert len(shown(runs / "future", 2).watched) == 2


def test_a_long_video_is_looked_at_from_its_start_and_a_short_or_broken_one_left_out(runs, monkeypatch):
    config = config_of(runs / "future")
    clips, _ = scenes.clips_held_out(config, None)
    model = load_forecaster(runs / "future")
    monkeypatch.setattr(unusual, "MOMENTS", 2)
    clips.recipe = replace(clips.recipe, sampling="fps", fps=8.0)
    one = unusual.watched(model, clips, clips.entries[0])
    assert one
    assert (len(one.frames), one.cut) == (3, True)
    assert one.seconds == [0, 0.25, 0.5]
    info = clips.entries[0].info
    assert info
    for frames in (1, 2, 3):  # a forecast needs two tubelets of two
        clips.recipe = replace(clips.recipe, fps=(frames + 0.5) / (info.frames / info.fps))
        assert unusual.watched(model, clips, clips.entries[0]) is None
    clips.recipe = replace(clips.recipe, fps=4.5 / (info.frames / info.fps))
    assert unusual.watched(model, clips, clips.entries[0])
    clips.recipe, clips.root = replace(clips.recipe, fps=8.0), "/nowhere"
    assert unusual.most_surprising(model, clips, 3) == ([], 0)


def test_a_comparison_is_shown_and_a_newer_or_broken_one_refused(future):
    pairs = [{"run": "runs/b", "against": "runs/a", "score": 0.04321, "low": 0.01, "high": 0.09}]
    rows = [{"what": "time/order/change", "base": 0.5, "pairs": pairs}]
    told = {"format": 1, "runs": ["runs/a", "runs/b"], "evaluations": [], "differences": rows}
    (future / "comparison.json").write_text(json.dumps(told))
    assert "+0.043" in report(future, clips=0).read_text()
    for wrong, words in (({**told, "format": 2}, "upgrade"), ({"format": 1}, "make it anew")):
        (future / "comparison.json").write_text(json.dumps(wrong))
        with pytest.raises(UserError, match=words):
            report(future, clips=0)


def test_positions_are_spread_and_none_comes_twice():
    assert few.spread(10, 3) == [0, 4, 9]
    assert few.spread(2, 6) == [0, 1]
    assert few.spread(1, 6) == [0]
