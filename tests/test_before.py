"""What commit 24a6b2d wrote is read with equal values and gone on with: ``tests/before`` holds one of each.

It was made there on a CPU, in fp32, with one thread: six videos of the toy world, an index of them, a run of
distill and one of jepa-train from it (four steps each, the checkpoint after two kept), the features of the
distilled student, and its tokens in the teacher's space.
"""

import hashlib
import json
import os
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

import vjepa_distill
from vjepa_distill.cli import main
from vjepa_distill.data.decoders.pyav import PyAV
from vjepa_distill.data.index import Index
from vjepa_distill.data.scan import build_index
from vjepa_distill.distributed import Ranks
from vjepa_distill.errors import UserError
from vjepa_distill.measures.table import read_features
from vjepa_distill.runs import exports, folder, videos
from vjepa_distill.settings import Data, DistillConfig, JepaConfig, older
from vjepa_distill.settings.plain import settings
from vjepa_distill.training import checkpoint

BEFORE = Path(__file__).parent / "before"
STUDENT = {"name": "vjepa/tiny", "options": {"depth": 1, "width": 8, "heads": 2, "patch": 4}}
CLOSE = {"rtol": 1e-4, "atol": 1e-5}  # another processor adds in another order; here they are equal


@pytest.fixture
def before(tmp_path, monkeypatch) -> Path:
    """A copy to write in; the paths of the runs are relative to it."""
    shutil.copytree(BEFORE, tmp_path / "before")
    monkeypatch.chdir(tmp_path / "before")
    return tmp_path / "before"


def go_on(run: Path, command) -> None:
    """Continue a run with the settings of its own folder."""
    command({**yaml.safe_load((run / "config.yaml").read_text()), "resume": True})


def rows(run: Path) -> list[dict]:
    return [json.loads(row) for row in (run / "metrics.jsonl").read_text().splitlines()]


def test_its_files_are_small():
    assert sum(path.stat().st_size for path in BEFORE.rglob("*") if path.is_file()) <= 300 * 1024


@pytest.mark.parametrize("run", ["distill", "jepa"])
def test_its_checkpoints_load(run):
    path = checkpoint.latest(BEFORE / run)
    state, raw = checkpoint.load(path), torch.load(path, weights_only=True)
    assert (path.name, state["step"], state["format"], state["world"]) == ("ckpt_2.pt", 2, 1, 1)
    assert state.keys() == raw.keys()
    assert all(torch.equal(state["stage"][name], value) for name, value in raw["stage"].items())


@pytest.mark.parametrize(("run", "which"), [("distill", "student"), ("jepa", "student"), ("jepa", "teacher")])
def test_its_exports_load(run, which):
    raw = load_file(BEFORE / run / f"{which}.safetensors")
    encoder = exports.load_backbone(BEFORE / run, which)
    assert encoder.state_dict().keys() == raw.keys()
    assert all(torch.equal(value, raw[name]) for name, value in encoder.state_dict().items())
    record = exports.read_record(BEFORE / run / f"{which}.safetensors")
    assert (record["stage"], record["steps"]) == (run, 4)
    assert {key: record["backbone"][key] for key in STUDENT} == STUDENT
    assert exports.clip_of(BEFORE / run)["size"] == [16, 16]


def test_its_index_loads(before):
    index = Index.load(BEFORE / "index.json")
    raw = json.loads((BEFORE / "index.json").read_text())
    assert [entry.path for entry in index.good] == [entry["path"] for entry in raw["entries"]]
    assert {entry.info.times for entry in index.good} == {tuple(n / 10 for n in range(8))}
    assert index.digest() == json.loads((BEFORE / "features.json").read_text())["index"]
    scanned = build_index(before / "world", decoder=PyAV())
    assert [entry.info for entry in scanned.entries] == [entry.info for entry in index.entries]


def test_its_features_load(before):
    found, raw = read_features(BEFORE / "features.safetensors"), load_file(BEFORE / "features.safetensors")
    assert torch.equal(torch.from_numpy(found.vectors), raw["features"])
    assert [file for file, _ in found.index] == [f"videos/00000{n}.mp4" for n in range(6)]
    for name, how in {"features": {}, "tokens": {"space": "teacher", "pool": "none"}}.items():
        again = vjepa_distill.encode("distill", before / f"{name}2.safetensors", {"root": "world"}, **how)
        again = json.loads(json.dumps(again))
        made = {key: again[key] for key in ("files", "clip", "space", "pool", "index", "weights")}
        record = json.loads((before / f"{name}.json").read_text())
        assert made == {key: record[key] for key in made}
        here, there = (load_file(before / f"{file}.safetensors") for file in (f"{name}2", name))
        torch.testing.assert_close(here["features"], there["features"], **CLOSE)


@pytest.mark.parametrize("run", ["distill", "jepa"])
def test_its_runs_are_gone_on_with(before, run):
    written = {path.name: load_file(path) for path in (before / run).glob("*.safetensors")}
    measured = rows(before / run)
    for name in written:
        (before / run / name).unlink()
    go_on(before / run, {"distill": vjepa_distill.distill, "jepa": vjepa_distill.jepa_train}[run])
    for name, tensors in written.items():
        torch.testing.assert_close(load_file(before / run / name), tensors, **CLOSE)
    # timed; or measured in another way since: against what NOW alone, or what other clips could know
    skills = {f"{part}{name}/skill" for part in ("", "heldout/") for name in ("now", "soon")}
    other = {"s/step", "wait", *skills}
    for now, then in zip(rows(before / run), measured, strict=True):
        wanted = {k: v for k, v in then.items() if k not in other}
        assert {k: now[k] for k in wanted} == pytest.approx(wanted, rel=1e-3, abs=1e-4)


@pytest.mark.parametrize(("run", "kind"), [("distill", DistillConfig), ("jepa", JepaConfig)])
def test_its_format_is_kept_by_a_configuration_of_today(before, run, kind):
    """Its crops and held-out videos are drawn as they were, though a new run has another format."""
    stored = older.completed(yaml.safe_load((before / run / "config.yaml").read_text()))
    del stored["format"]
    config = kind(**stored, resume=True)
    assert config.format > 1
    written = load_file(before / run / "student.safetensors")
    {"distill": vjepa_distill.distill, "jepa": vjepa_distill.jepa_train}[run](config)
    assert yaml.safe_load((before / run / "config.yaml").read_text())["format"] == 1
    torch.testing.assert_close(load_file(before / run / "student.safetensors"), written, **CLOSE)
    assert "settings of format 1" in " ".join((before / run / "train.log").read_text().split())


def test_a_newer_format_is_not_gone_on_with(before):
    stored = yaml.safe_load((before / "jepa" / "config.yaml").read_text())
    (before / "jepa" / "config.yaml").write_text(yaml.safe_dump({**stored, "format": 99}))
    del stored["format"]
    with pytest.raises(UserError, match="has format 99, this version reads up to 2: upgrade"):
        vjepa_distill.jepa_train(JepaConfig(**stored, resume=True))


@pytest.mark.parametrize("typed", ["world", "./jepa/../world", "../before/world", "link"])
def test_its_videos_are_listed_and_held_out_as_they_were(before, typed):
    """As its version did: a root with dots made paths absolute, and a link was another video."""
    (before / "link").symlink_to("world")
    (before / "world" / "videos" / "again.mp4").symlink_to("000003.mp4")
    root = Path(os.path.normpath(before / typed))
    names = sorted(f"videos/{name}.mp4" for name in [*(f"00000{n}" for n in range(6)), "again"])
    names = [f"{root}/{name}" for name in names] if ".." in typed else names
    stored = yaml.safe_load((before / "distill" / "config.yaml").read_text())
    stored["data"].update(root=typed, index=str(before / "another.json"))
    of_run = videos.of_run(settings(DistillConfig, stored, "config"), Ranks(0, 1, 0))
    index = of_run.index
    assert [entry.path for entry in index.good] == names
    assert {path.resolve() for path in (Path(index.root) / name for name in names)} == {
        (before / "world" / "videos" / f"00000{n}.mp4").resolve() for n in range(6)
    }
    first = {name: int(hashlib.sha256(name.encode()).hexdigest()[:16], 16) >> 1 for name in names}
    assert [entry.video for entry in index.good] == list(first.values())
    held = sorted(names, key=lambda name: first[name])[: sum(x < 0.3 * 2**63 for x in first.values()) or 1]
    assert [entry.path for entry in of_run.heldout.clips.entries] == sorted(held)
    assert of_run.loader.clips.recipe.crop == "format 1"
    today = videos.index_of(Data(root=typed), PyAV())
    assert [entry.path for entry in today.good] == [f"videos/00000{n}.mp4" for n in range(6)]


def test_every_key_that_its_configurations_lack_has_a_value_for_them():
    for run, kind in {"distill": DistillConfig, "jepa": JepaConfig}.items():
        stored = yaml.safe_load((BEFORE / run / "config.yaml").read_text())
        now = folder.plain(settings(kind, stored, "config"))
        assert now == older.completed(stored)
        assert now.keys() == stored.keys() | {key for key, _ in older.lacking(stored) if "." not in key}


@pytest.mark.parametrize("way", ["typed", "called"])
def test_a_key_that_it_lacks_is_gone_on_with_as_it_was(before, monkeypatch, way):
    """As if collapse.warn had been added today with the default 3, where runs used to warn at the seventh."""
    stored = yaml.safe_load((before / "jepa" / "config.yaml").read_text())
    del stored["collapse"]["warn"]
    (before / "jepa" / "config.yaml").write_text(yaml.safe_dump(stored))
    monkeypatch.setitem(older.BEHAVED, "collapse.warn", 7)
    if way == "called":
        go_on(before / "jepa", vjepa_distill.jepa_train)
    else:
        with pytest.raises(SystemExit) as ended:
            main(["jepa-train", "--out", "jepa", "--resume"])
        assert ended.value.code == 0
    assert yaml.safe_load((before / "jepa" / "config.yaml").read_text())["collapse"]["warn"] == 7
    assert JepaConfig(out="x").collapse.warn == 3


def test_a_key_under_names_of_the_users_own_is_filled_in_under_each(monkeypatch):
    monkeypatch.setattr(older, "BEHAVED", {"teachers.*.weight": 0.5, "head.bias": True, "no.such.group": 1})
    stored = {"format": 1, "teachers": {"a": {}, "b": {"weight": 2}}, "head": {}}
    assert older.completed(stored) == {
        "format": 1,
        "teachers": {"a": {"weight": 0.5}, "b": {"weight": 2}},
        "head": {"bias": True},
    }
    assert older.completed({"teachers": {"a": {}}}) == {"teachers": {"a": {}}}
