"""evaluate on real mp4 files: encoders of whose knowledge of time all is known, runs, and what is refused."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from vjepa_distill import Data, Grid, UserError, evaluate, load_backbone
from vjepa_distill.cli import main, run
from vjepa_distill.data.clips import VideoClips
from vjepa_distill.data.world import write_video
from vjepa_distill.runs import videos
from vjepa_distill.runs.forecaster import load_forecaster
from vjepa_distill.runs.place import Place

CLIP = {"num_frames": 8, "size": 32}
TESTS = ("direction", "speed", "order", "shuffled")


class Cells(nn.Module):
    """Frames in pairs, pictures in quarters; what a pair says of itself is `tokens`'."""

    embed_dim = 8

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Linear(12, 8)

    def grid(self, T: int, H: int, W: int) -> Grid:
        return Grid(T // 2, 2, 2)

    def quarters(self, clip: Tensor) -> Tensor:
        """[B, 3, T, H, W] -> [B, T / 2, 12], the colours of the quarters of each pair of frames."""
        small = nn.functional.adaptive_avg_pool3d(clip, (clip.shape[2] // 2, 2, 2))
        return small.permute(0, 2, 1, 3, 4).flatten(2)

    def forward(self, clip: Tensor, keep: Tensor | None = None) -> Tensor:
        return self.mix(self.quarters(clip)).repeat_interleave(4, dim=1)


class Average(Cells):
    """Every token is the mean over time: nothing is left of it."""

    def forward(self, clip: Tensor, keep: Tensor | None = None) -> Tensor:
        still = self.mix(self.quarters(clip).mean(dim=1, keepdim=True))
        return still.repeat(1, clip.shape[2] // 2 * 4, 1)


class Clock(Cells):
    """Brightness is the frame's number in the videos below; a token tells it, and it times its own place."""

    def forward(self, clip: Tensor, keep: Tensor | None = None) -> Tensor:
        time = self.quarters(clip).mean(dim=2)
        place = torch.arange(time.shape[1]) / time.shape[1]
        told = torch.stack([time, time * place, *[torch.zeros_like(time)] * 6], dim=2)
        return told.repeat_interleave(4, dim=1)


@pytest.fixture(scope="module")
def brightening(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Videos that go from dark to bright, each from another darkness, for two seconds."""
    root = tmp_path_factory.mktemp("brightening")
    (root / "videos").mkdir()
    draw = np.random.default_rng(0)
    for number in range(24):
        film = np.zeros((24, 32, 32, 3)) + 20 + 8 * np.arange(24)[:, None, None, None]
        film = film + draw.uniform(-15, 15, 3) + draw.normal(0, 2, (32, 32, 1))
        write_video(root / f"videos/{number:02d}.mp4", film.clip(0, 255).astype(np.uint8), 12)
    return root


def scores(record: dict[str, Any], feature: str, name: str = "this") -> list[float]:
    return [record["time"][test][feature][name]["score"] for test in TESTS]


@pytest.mark.parametrize("amp", ["fp32", "bf16"])
def test_an_encoder_that_averages_time_away_is_exactly_at_chance(world_folder: Path, amp: Any) -> None:
    torch.manual_seed(0)
    record = evaluate(Average(), {"root": str(world_folder), **CLIP}, amp=amp, device="cpu")
    for feature in ("mean", "change"):
        assert [scores(record, feature)[at] for at in (0, 2, 3)] == [0.5] * 3
    found = record["time"]["direction"]["mean"]["this"]
    assert (found["low"], found["high"], found["chance"]) == (0.5, 0.5, 0.5)
    assert record["time"]["speed"]["change"]["this"]["score"] == 0.5


def test_one_that_is_handed_the_frame_number_knows_all(brightening: Path) -> None:
    record = evaluate(Clock(), {"root": str(brightening), **CLIP}, amp="fp32", device="cpu", random=Average())
    assert [scores(record, "mean")[at] for at in (0, 2, 3)] == [1, 1, 1]
    assert scores(record, "change")[:3] == [1, 1, 1]
    assert scores(record, "mean", "random")[0] == 0.5
    assert record["time"]["order"]["mean"]["this"]["low"] == 1


def test_what_does_not_mix_frames_knows_only_how_they_change(brightening: Path) -> None:
    """A mean over tokens has no order; the change has, and it swaps its sign with the world's."""
    torch.manual_seed(0)
    record = evaluate(Cells(), {"root": str(brightening), **CLIP}, amp="fp32", device="cpu")
    assert record["time"]["direction"]["mean"]["this"]["score"] == 0.5
    assert record["time"]["direction"]["change"]["this"]["score"] == 1
    assert record["stage"] is None
    assert "random" not in record["health"]
    assert len(record["health"]["this"]["positions"]) == 4
    assert record["health"]["this"]["dead"] == 0


@pytest.fixture(scope="module")
def runs(world_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both stages at their smallest."""
    folder = tmp_path_factory.mktemp("runs")
    common = [
        f"--data.root={world_folder}", "--data.num_frames=8", "--data.size=32", "--data.heldout=0.2",
        "--batch_size=4", "--steps=2", "--eval_every=0", "--optimizer.warmup=1", "--device=cpu",
    ]  # fmt: skip
    small = "{depth: 2, width: 24, heads: 2, patch: 8}"
    teacher = ["--teachers.main.name=conv/small", "--teachers.main.options.patch=8"]
    student = ["--student.name=vjepa/tiny", f"--student.options={small}"]
    assert run(["distill", *common, *student, *teacher, f"--out={folder / 'distilled'}"]) == 0
    spans = ["--spans.now=2", "--spans.soon=2", "--spans.eventually=4"]
    predictor = ["--predictor.width=24", "--predictor.depth=1", "--predictor.heads=2"]
    start = f"--init={folder / 'distilled'}"
    assert run(["jepa-train", *common, *spans, *predictor, start, f"--out={folder / 'future'}"]) == 0
    return folder


def test_a_run_is_told_beside_its_start_and_random_weights(
    runs: Path, world_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["evaluate", str(runs / "future"), "--data.root", str(world_folder), "--device", "cpu"]
    assert run([*command, "--amp", "fp32"]) == 0
    said = capsys.readouterr().out
    assert max(map(len, said.splitlines())) <= 80
    for words in ("direction", "speed", "order", "shuffled", "random weights", "started from", "token rank"):
        assert words in said
    assert re.search(r"direction +0\.50 +\d\.\d{3} \[", said)
    assert "SOON, persistence" in said
    assert re.search(r"SOON \+1 tubelet +0\.00 +-?\d+\.\d{3} \[", said)
    assert "EVENTUALLY videos" in said
    record = json.loads((runs / "future" / "evaluation.json").read_text())
    assert (record["format"], record["stage"]) == (1, "jepa")
    assert record["backbone"]["name"] == "vjepa/tiny"
    assert record["clip"] == {"num_frames": 8, "height": 32, "width": 32, "sampling": "uniform", "fps": None}
    assert (record["data"]["videos"], record["labels"]) == (12, None)
    assert record["horizon"]["steps"] == [1]
    assert record["horizon"]["all"]["persistence"]["score"] < 1
    assert record["eventually"]["videos"]["chance"] == pytest.approx(1 / 12)
    assert set(record["health"]) == set(record["time"]["order"]["mean"]) == {"this", "random", "start"}
    assert [row["layer"] for row in record["drift"]] == ["1", "last"]
    assert all(0 < row["cosine"]["score"] < 1 and 0 < row["cka"] < 1 for row in record["drift"])
    by_function = evaluate(runs / "future", {"root": str(world_folder)}, amp="fp32", device="cpu")
    assert {**by_function, "seconds": 0} == {**record, "source": by_function["source"], "seconds": 0}


def test_skill_is_that_of_the_forecaster_on_every_video(
    runs: Path, world_folder: Path, tmp_path: Path
) -> None:
    """Counted here clip by clip from what `encode` would see of each video."""
    record = evaluate(runs / "future", {"root": str(world_folder)}, amp="fp32", device="cpu", out=tmp_path)
    forecaster = load_forecaster(runs / "future")
    data = Data(root=str(world_folder), num_frames=8, size=32)
    decoder = videos.decoder_of(data)
    index = videos.index_of(data, decoder)
    clips = VideoClips(index.good, index.root, videos.recipe_of(data, train=False), decoder, 0, shuffle=False)
    error, floor = 0.0, 0.0
    for row in range(12):
        clip = clips[row]["clip"][None].float() / 255
        now = clip[:, :, : forecaster.now_frames]
        target = forecaster.targets(clip)[:, 1:2]
        error += (forecaster.forecast(now).tokens - target).abs().mean().item()
        floor += (forecaster.rivals(now)["persistence"] - target).abs().mean().item()
    assert record["horizon"]["all"]["persistence"]["score"] == pytest.approx(1 - error / floor, abs=1e-5)
    bare = evaluate(runs / "distilled", {"root": str(world_folder)}, device="cpu", out=tmp_path)
    assert (bare["horizon"], bare["eventually"]) == (None, None)
    with pytest.raises(UserError, match="foretells clips of 8 frames"):
        evaluate(runs / "future", {"root": str(world_folder), "num_frames": 12}, device="cpu", out=tmp_path)


def test_a_run_is_no_distance_from_itself(runs: Path, world_folder: Path, tmp_path: Path) -> None:
    here = {"root": str(world_folder)}
    record = evaluate(runs / "future", here, start=runs / "future", device="cpu", out=tmp_path)
    for row in record["drift"]:
        assert row["cosine"]["score"] == pytest.approx(1, abs=1e-6)
        assert row["cka"] == pytest.approx(1)
    assert (tmp_path / "evaluation.json").exists()
    assert scores(record, "mean") == scores(record, "mean", "start")


def test_labels_are_read_at_once_and_from_the_first_seconds(
    runs: Path, world_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vjepa_distill.measures.evaluation.attentive.STEPS", 5)
    record = evaluate(
        runs / "distilled",
        {"root": str(world_folder)},
        labels=world_folder / "labels.csv",
        columns=["shape", "vx"],
        seconds=[0.25, 60],
        device="cpu",
        amp="fp32",
        out=tmp_path,
    )
    shape, speed = record["labels"]["shape"], record["labels"]["vx"]
    assert (shape["kind"], set(shape["probes"])) == ("text", {"knn", "linear", "attentive"})
    assert (speed["kind"], set(speed["probes"])) == ("number", {"knn", "ridge", "attentive"})
    early, whole = shape["anticipation"]
    assert (early["seconds"], whole["seconds"]) == (0.25, 60)
    assert whole["probes"]["linear"] == shape["probes"]["linear"]
    assert speed["anticipation"][0]["probes"]["ridge"] != speed["probes"]["ridge"]
    assert "in 60 s: 12 of 12 videos are over before, and are read whole" in record["notes"]
    from vjepa_distill.measures.evaluation.words import render

    assert render(record)


def test_runs_side_by_side(
    runs: Path, world_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [str(runs / name) for name in ("future", "distilled")]
    command = ["evaluate", names[0], "--data.root", str(world_folder), "--device", "cpu"]
    assert run([*command, "--compare", names[1], "--out", str(tmp_path)]) == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 80
    found = json.loads((tmp_path / "comparison.json").read_text())
    assert found["runs"] == names
    first, second = (record["time"] for record in found["evaluations"])
    by_name = {row["what"]: row["pairs"] for row in found["differences"]}
    (pair,) = by_name["time/speed/mean"]
    assert (pair["run"], pair["against"]) == (names[1], names[0])
    apart = second["speed"]["mean"]["this"]["score"] - first["speed"]["mean"]["this"]["score"]
    assert pair["score"] == pytest.approx(apart)
    assert pair["low"] <= pair["score"] <= pair["high"]


def test_a_run_beside_its_copy_differs_by_nothing_and_all_is_named_as_in_the_other_table(
    runs: Path, world_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(runs / "future", tmp_path / "copy")
    command = ["evaluate", str(runs / "future"), "--data.root", str(world_folder), "--device", "cpu"]
    assert run([*command, "--compare", str(tmp_path / "copy"), "--out", str(tmp_path)]) == 0
    told = capsys.readouterr().out.partition("differences of")
    for name in ("direction, change", "speed", "SOON, persistence", "SOON +1 tubelet", "EVENTUALLY videos"):
        assert f"\n{name} " in told[0]
        assert f"\n{name} " in told[2]
    found = json.loads((tmp_path / "comparison.json").read_text())["differences"]
    assert {row["what"] for row in found} >= {"horizon/persistence/1", "eventually/videos"}
    ends = {(pair["score"], pair["low"], pair["high"]) for row in found for pair in row["pairs"]}
    assert ends == {(0.0, 0.0, 0.0)}


def test_a_registered_name_and_a_missing_start(runs: Path, world_folder: Path, tmp_path: Path) -> None:
    options = {"depth": 1, "width": 24, "heads": 2, "patch": 8}
    here = {"root": str(world_folder), **CLIP}
    record = evaluate("vjepa/tiny", here, options=options, out=tmp_path, device="cpu")
    assert set(record["health"]) == {"this", "random"}
    assert (record["stage"], record["drift"], record["backbone"]["options"]) == (None, None, options)
    alone = tmp_path / "alone"
    alone.mkdir()
    for name in ("student.safetensors", "config.yaml"):
        text = (runs / "future" / name).read_bytes()
        (alone / name).write_bytes(text.replace(str(runs).encode(), b"/gone"))
    record = evaluate(alone, here, device="cpu")
    assert record["drift"] is None
    assert any("--start RUN" in note for note in record["notes"])


@pytest.mark.parametrize(
    ("table", "words", "told"),
    [
        ("file,shape\nother/0.mp4,disc\n", [], "the videos are named like videos/"),
        ("file,shape\n{file},disc\n", ["--column", "shape"], "column shape cannot be read: all 1 videos"),
        ("", ["--compare", "gone"], "there is no run folder or exported file gone"),
        ("", ["--compare", "{other}"], "foretells clips of 4 frames, and here they have 8"),
        ("", ["--out", "{file}"], "is a file: give a folder, in which evaluation.json is written"),
    ],
)
def test_what_cannot_be_is_said_before_any_video_is_read(
    table: str,
    words: list[str],
    told: str,
    runs: Path,
    world_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def collect(*given: Any, **more: Any) -> None:
        raise AssertionError("read")

    monkeypatch.setattr("vjepa_distill.measures.evaluation.collect.collect", collect)
    if table:
        first = min((world_folder / "videos").glob("*.mp4")).name
        (tmp_path / "labels.csv").write_text(table.format(file=f"videos/{first}"))
        words = [*words, "--labels", str(tmp_path / "labels.csv")]
    shutil.copytree(runs / "future", tmp_path / "other")
    predictor = tmp_path / "other" / "predictor.safetensors"
    predictor.write_bytes(predictor.read_bytes().replace(b'num_frames\\": 8', b'num_frames\\": 4'))
    (tmp_path / "file").touch()
    words = [word.format(other=tmp_path / "other", file=tmp_path / "file") for word in words]
    command = ["evaluate", str(runs / "future"), "--data.root", str(world_folder), "--device", "cpu"]
    with pytest.raises(SystemExit) as end:
        main([*command, "--out", str(tmp_path), *words])
    assert end.value.code == 2
    assert told in " ".join(capsys.readouterr().err.split())


def test_a_measure_of_the_future_sees_every_clip_and_its_entries_are_kept(
    world_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Sees:
        def __init__(self) -> None:
            self.files: list[str] = []

        def add(self, clip: Tensor, files: list[str]) -> None:
            assert (clip.dtype, clip.shape[1:]) == (torch.uint8, (3, 8, 32, 32))
            self.files += files

        def entries(self, files: list[str], groups: np.ndarray) -> Any:
            assert files == self.files
            return {"horizon": {"steps": [1], "all": {}}, "eventually": None}, {}

    def future_of(source: Any, place: Place) -> Any:
        return Sees()

    monkeypatch.setattr("vjepa_distill.runs.record.future_of", future_of)
    record = evaluate(Cells(), {"root": str(world_folder), **CLIP}, device="cpu")
    assert record["horizon"] == {"steps": [1], "all": {}}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["nowhere"], "there is no run folder or exported file nowhere"),
        (["vjepa/tiny", "--exclude", "lab"], "exclude lab of which table? Give it by --labels"),
        (["vjepa/tiny", "--column", "shape"], "columns shape of which table?"),
        (["vjepa/tiny", "--seconds", "soon"], "--seconds soon: give numbers"),
        (["vjepa/tiny", "--seconds", "nan"], "seconds=nan: give numbers above 0"),
        (["vjepa/tiny", "--batch_size", "0"], "batch_size=0: give a number from 1"),
        (["vjepa/tiny", "--compare", "vjepa/tiny"], "each named once"),
        (["vjepa/tiny", "--data.num_frames", "7"], "7"),
    ],
)
def test_bad_words_end_in_one_line(
    words: list[str], told: str, world_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main(["evaluate", *words, "--data.root", str(world_folder), "--data.size=32", "--device", "cpu"])
    said = capsys.readouterr().err
    assert end.value.code == 2
    assert told in " ".join(said.split())
    assert "Traceback" not in said


def test_a_column_that_cannot_be_read_is_refused_and_an_unasked_one_left_out(
    runs: Path, world_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vjepa_distill.measures.evaluation.attentive.STEPS", 2)
    table = tmp_path / "labels.csv"
    rows = [f"videos/{number:06d}.mp4,{number % 2},same" for number in range(12)]
    table.write_text("\n".join(["file,parity,kind", *rows]))
    given: dict[str, Any] = {"labels": table, "seconds": [], "device": "cpu", "out": tmp_path}
    here = {"root": str(world_folder)}
    with pytest.raises(UserError, match="column kind cannot be read: all 12 videos have same"):
        evaluate(runs / "distilled", here, columns=["kind"], **given)
    record = evaluate(runs / "distilled", here, **given)
    assert set(record["labels"]) == {"parity"}
    assert "column kind left out: all 12 videos have same" in record["notes"]
    rows = [f"videos/{number:06d}.mp4,{number * 1.5},inf,word{number}" for number in range(12)]
    rows[0] = "videos/000000.mp4,nan,1,word0"
    table.write_text("\n".join(["file,far,endless,own", *rows]))
    record = evaluate(runs / "distilled", here, **given)
    assert {name: (one["kind"], one["videos"]) for name, one in record["labels"].items()} == {
        "far": ("number", 11)
    }
    assert any("column endless left out: holds inf" in note for note in record["notes"])
    assert "column own left out: 12 different values among 12 videos" in record["notes"]
    assert "far: 11 of 12 videos have it" in record["notes"]


def test_the_students_average_is_another_encoder(runs: Path, world_folder: Path, tmp_path: Path) -> None:
    found = [
        evaluate(runs / "future", {"root": str(world_folder)}, which=which, device="cpu", out=tmp_path)
        for which in ("student", "teacher")
    ]
    assert found[0]["health"]["this"] != found[1]["health"]["this"]
    assert found[0]["health"]["start"] == found[1]["health"]["start"]
    assert isinstance(load_backbone(runs / "future", "teacher"), nn.Module)
