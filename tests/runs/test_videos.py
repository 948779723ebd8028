"""What a run says of its videos, and that how they are typed decides nothing."""

import json
import shutil
from pathlib import Path

import pytest
import yaml
from safetensors.torch import load_file

from vjepa_distill.cli import main
from vjepa_distill.data.clips import Recipe
from vjepa_distill.data.decoders.pyav import PyAV
from vjepa_distill.runs.encode import encode
from vjepa_distill.runs.videos import cache_file, crop_words
from vjepa_distill.settings import Data


def run(*arguments) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    return ended.value.code or 0


@pytest.fixture
def linked(tmp_path, world_folder, monkeypatch):
    """The toy world in the home folder, one of its videos under a second name; the user is elsewhere."""
    shutil.copytree(world_folder, tmp_path / "home" / "world")
    (tmp_path / "home" / "world" / "videos" / "second.mp4").symlink_to("000001.mp4")
    (tmp_path / "here").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "home" / "world"


def test_the_first_lines_tell_duplicates_and_crops(linked, tiny_distill):
    assert run("distill", *tiny_distill, "--steps=2", "--data.root=~/world", "--out=run") == 0
    said = " ".join(Path("run/train.log").read_text().split())
    assert "1 listed twice and left out: videos/second.mp4 (the same as videos/000001.mp4)" in said
    assert "12 videos" not in said.split("1 listed twice")[1]
    assert (
        "training crops: 50% to 100% of the largest box of their shape, objects 0.87 to 1.63 times as large "
        "as in held-out clips, stretched by at most about 1.33"
    ) in said
    assert yaml.safe_load(Path("run/config.yaml").read_text())["format"] == 2


def test_a_run_is_gone_on_with_from_a_root_typed_otherwise(linked, tiny_distill):
    """The same order of the same videos, held-out ones too, and bit for bit the same weights."""
    assert run("distill", *tiny_distill, "--steps=4", "--data.root=../home/world", "--out=whole") == 0
    shutil.copytree("whole", "half")
    for file in ("student.safetensors", "checkpoints/ckpt_final.pt"):
        Path("half", file).unlink()
    assert run("distill", "--out", "half", "--resume", "--data.root", linked) == 0
    assert "steps 2 to 4" in Path("half/train.log").read_text()
    one, two = (load_file(f"{name}/student.safetensors") for name in ("whole", "half"))
    assert all((one[name] == two[name]).all() for name in one)
    rows = [Path(name, "metrics.jsonl").read_text().splitlines() for name in ("whole", "half")]
    one, two = ([row for row in map(json.loads, found) if "heldout/r2" in row] for found in rows)
    assert [row["heldout/r2"] for row in one] == [row["heldout/r2"] for row in two] != []


def test_rows_of_encode_are_named_within_the_root(linked, caplog):
    names = []
    for way in ("~/world", "../home/world", str(linked)):
        data = {"root": way, "num_frames": 8, "size": 32}
        made = encode("conv/small", f"{len(names)}.safetensors", data, options={"patch": 8})
        names.append((made["files"], made["index"]))
    assert names == [([f"videos/{number:06d}.mp4" for number in range(12)], names[0][1])] * 3
    assert "videos/second.mp4 (the same as videos/000001.mp4)" in " ".join(caplog.text.split())


def test_the_cache_is_one_however_the_root_is_typed(linked):
    files = {cache_file(Data(root=way), PyAV()) for way in ("~/world", "../home/world", str(linked))}
    assert len(files) == 1
    assert cache_file(Data(root=str(linked)), PyAV(), format=1) not in files


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"scale": (0.7, 1.0)}, "70% to 100% of the largest box of their shape, objects 0.87 to 1.38 times"),
        ({"scale": (0.25, 0.25)}, "objects 1.73 to 2.31 times"),
        ({"aspect": (0.5, 1.0)}, "at most about 2.00, on average by 0.71"),
        ({"aspect": (1, 1)}, "objects 1.00 to 1.41 times as large"),
        ({"crop": "center"}, "cut as held-out ones"),
    ],
)
def test_the_crop_is_told_in_numbers(changes, said):
    assert said in crop_words(Recipe(4, 32, 32, **changes))
