"""Surprise of whole videos: the command, the function and the module agree, and planted breaks are found."""

import csv
import math
from pathlib import Path

import numpy as np
import pytest

from vjepa_distill import UserError, load_forecaster, surprise
from vjepa_distill.cli import run
from vjepa_distill.data.broken import write_broken
from vjepa_distill.data.clips import Recipe, VideoClips
from vjepa_distill.data.decoders.pyav import PyAV
from vjepa_distill.data.scan import build_index
from vjepa_distill.data.world import paint, tell, write_video
from vjepa_distill.measures.detection import by_kind
from vjepa_distill.runs import distill, jepa
from vjepa_distill.runs import surprise as whole
from vjepa_distill.runs.surprise import peaks

STUDENT = {"name": "vjepa/tiny", "options": {"depth": 2, "width": 24, "heads": 2, "patch": 8}}


def trained(out: Path, root: Path, **more) -> Path:
    return jepa.jepa_train(
        {
            "student": STUDENT,
            "data": {"root": str(root), "num_frames": 8, "size": 32, **more.pop("data", {})},
            "spans": {"now": 2, "soon": 2, "eventually": 4},
            "predictor": {"width": 24, "depth": 1, "heads": 2},
            "optimizer": {"warmup": 1},
            "steps": 2,
            "batch_size": 4,
            "device": "cpu",
            "amp": "fp32",
            "out": str(out),
            **more,
        }
    )


@pytest.fixture(scope="module")
def uniform(world_folder, tmp_path_factory) -> Path:
    return trained(tmp_path_factory.mktemp("uniform") / "run", world_folder)


@pytest.fixture(scope="module")
def by_fps(world_folder, tmp_path_factory) -> Path:
    return trained(
        tmp_path_factory.mktemp("fps") / "run",
        world_folder,
        data={"sampling": "fps", "fps": 10.0, "heldout": 0},
    )


def written(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as table:
        return list(csv.DictReader(table))


def test_the_command_the_function_and_the_module_agree(uniform, world_folder, tmp_path, capsys):
    out = tmp_path / "surprise.csv"
    words = ["surprise", "--from", str(uniform), "--data.root", str(world_folder), "--out", str(out)]
    assert run([*words, "--top", "3"]) == 0
    said = capsys.readouterr().out
    assert max(map(len, said.splitlines())) <= 80
    rows = surprise(uniform, {"root": str(world_folder)})["rows"]
    assert [row["file"] for row in rows] == [f"videos/{n:06d}.mp4" for n in range(12) for _ in range(3)]
    for row, cell in zip(rows, written(out), strict=True):
        assert (row["file"], f"{row['second']:.3f}") == (cell["file"], cell["second"])
        assert float(cell["surprise"]) == pytest.approx(row["surprise"], abs=1e-4)
    top = max(rows, key=lambda row: row["surprise"])
    assert f"{top['file']} " in said
    assert f"{top['surprise']:.2f}" in said
    index = build_index(world_folder, decoder=PyAV())
    clips = VideoClips(index.good, index.root, Recipe(8, 32, 32, crop="center"), PyAV(), 0, shuffle=False)
    model = load_forecaster(uniform)
    for number in (0, 7):
        due = model.surprise(clips[number]["clip"][None].float() / 255)[0, 1:].tolist()
        assert [row["surprise"] for row in rows[3 * number : 3 * number + 3]] == pytest.approx(due, abs=1e-4)
    # twelve frames of ten a second, of which eight are seen
    assert [row["second"] for row in rows[:3]] == [0.3, 0.6, 0.9]


def test_a_long_video_is_slid_over_from_end_to_end(by_fps, tmp_path, monkeypatch):
    """Five seconds for a run whose clips are 0.8 s long, in one stretch and in many: the same."""
    draw = np.random.default_rng(0)
    (tmp_path / "videos").mkdir()
    write_video(tmp_path / "videos" / "long.mp4", paint(tell(draw, 50, 32), draw, 50, 32), 10)
    write_video(tmp_path / "videos" / "short.mp4", paint(tell(draw, 3, 32), draw, 3, 32), 10)
    found = surprise(by_fps, {"root": str(tmp_path)}, tmp_path / "a.csv")
    assert [row["second"] for row in found["rows"]] == pytest.approx([0.2 * n for n in range(1, 25)])
    assert found["bad"] == {
        "videos/short.mp4": "too short: 3 frames at the run's rate, and a forecast needs 4"
    }
    monkeypatch.setattr(whole, "TUBELETS", 3)
    parts = surprise(by_fps, {"root": str(tmp_path)})["rows"]
    assert [row["second"] for row in parts] == [row["second"] for row in found["rows"]]
    values = ([row["surprise"] for row in rows] for rows in (parts, found["rows"]))
    assert next(values) == pytest.approx(next(values), abs=1e-4)


def test_a_run_that_held_nothing_out_says_so(by_fps):
    from vjepa_distill.runs.exports import read_record

    assert read_record(by_fps / "predictor.safetensors")["usual"]["videos"] == "training"


def test_other_clips_than_the_runs_are_refused(uniform, world_folder, tmp_path):
    with pytest.raises(UserError, match=r"foretells clips of 8 frames, and here they have 12"):
        surprise(uniform, {"root": str(world_folder), "num_frames": 12})
    with pytest.raises(UserError, match=r"one CSV file is written; type --out .*surprise\.csv"):
        surprise(uniform, {"root": str(world_folder)}, world_folder)
    with pytest.raises(UserError, match=r"--horizon 2: the run foretells 1 to 1"):
        surprise(uniform, {"root": str(world_folder)}, horizon=2)
    with pytest.raises(UserError, match="is no run folder"):
        surprise("vjepa/tiny", {"root": str(world_folder), "num_frames": 8, "size": 32})


def test_peaks_are_told_once():
    rows = [{"file": "a", "surprise": value} for value in (1, 5, 6, 4, 0, 3)]
    rows += [{"file": "b", "surprise": value} for value in (5.5, 2)]
    assert [row["surprise"] for row in peaks(rows, 3, apart=2)] == [6, 5.5, 3]
    assert [row["surprise"] for row in peaks(rows, 9, apart=0)] == [6, 5.5, 5, 4, 3, 2, 1, 0]


@pytest.mark.slow
def test_broken_physics_is_told_from_sound_and_found(tmp_path):
    """Stages 1 and 2, very short, and then videos that neither saw. A still shape is no alarm, yet (docs)."""
    world, broken = tmp_path / "world", tmp_path / "broken"
    data = {"source": "world", "root": str(world), "world_videos": 60, "num_frames": 16, "size": 32}
    common = {"data": data, "batch_size": 8, "device": "cpu", "amp": "fp32"}
    taught = distill.distill(
        {
            **common,
            "student": STUDENT,
            "teachers": {"main": {"name": "conv/small", "options": {"patch": 8}}},
            "steps": 60,
            "out": str(tmp_path / "distilled"),
        }
    )
    model = trained(
        tmp_path / "run",
        world,
        **{**common, "student": {}, "init": str(taught), "steps": 40},
        spans={"now": 4, "soon": 4, "eventually": 8},
        teacher_context="prefix",
    )
    write_broken(broken, 80, seed=9, frames=16, size=32)
    rows = surprise(model, {"root": str(broken)})["rows"]
    files = {row["file"] for row in rows}
    curves = {file: np.array([row["surprise"] for row in rows if row["file"] == file]) for file in files}
    times = {file: np.array([row["second"] for row in rows if row["file"] == file]) for file in files}
    table = written(broken / "labels.csv")
    for row in table:  # the tubelet in which it happens
        row["second"] = row["second"] and f"{math.floor(float(row['second']) / 0.2 + 1e-6) * 0.2:.3f}"
    found = by_kind(curves, times, table, within=0.2)
    for kind in ("jump", "vanish"):
        assert found[kind]["auroc"]["low"] > 0.5, (kind, found[kind])
        assert found[kind]["found"]["low"] > found[kind]["found"]["chance"], (kind, found[kind])
