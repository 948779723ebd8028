"""The index knows every file, remembers it while unchanged, survives a deadly scan, refuses with words."""

import json
import os
import shutil
import time
from fractions import Fraction

import numpy as np
import pytest

from vjepa_distill.data.decoders.pyav import PyAV
from vjepa_distill.data.index import Index, video_id
from vjepa_distill.data.painted import paint_numbers
from vjepa_distill.data.scan import build_index
from vjepa_distill.data.times import pack, unpack
from vjepa_distill.data.world import write_video
from vjepa_distill.errors import UserError


class Scripted(PyAV):
    """PyAV, but some names hang, kill their process, or are forbidden."""

    def __init__(self, forbidden=()):
        self.forbidden = forbidden

    def scan(self, path):
        name = os.path.basename(path)
        if "hangs" in name:
            time.sleep(600)
        if "kills" in name:
            os._exit(9)
        assert name not in self.forbidden, f"{name} was scanned again"
        return super().scan(path)


@pytest.fixture
def root(tmp_path):
    (tmp_path / "videos").mkdir()
    for i in range(6):
        write_video(tmp_path / "videos" / f"{i}.mp4", paint_numbers(range(4 + i)), fps=10)
    return tmp_path


def names(entries):
    return [entry.path for entry in entries]


def test_good_and_bad_are_told_apart(root):
    (root / "videos" / "x.mp4").write_bytes(b"not a video")
    index = build_index(root, decoder=PyAV())
    assert names(index.good) == [f"videos/{i}.mp4" for i in range(6)]
    assert [entry.info.frames for entry in index.good] == [4, 5, 6, 7, 8, 9]
    assert [(entry.path, entry.why) for entry in index.bad] == [
        ("videos/x.mp4", "Invalid data found when processing input")
    ]


def test_globs_lists_and_absolute_paths(root, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "far.mp4"
    write_video(elsewhere, paint_numbers(range(3)), fps=10)
    os.makedirs(root / "deep" / "er")
    os.rename(root / "videos" / "5.mp4", root / "deep" / "er" / "take [5].mp4")
    index = build_index(
        root, ["deep/er/take [5].mp4", "**/0.mp4", "videos/[01].mp4", str(elsewhere)], decoder=PyAV()
    )
    assert sorted(names(index.good)) == sorted(
        ["deep/er/take [5].mp4", "videos/0.mp4", "videos/1.mp4", elsewhere.as_posix()]
    )


def test_a_scan_that_hangs_or_kills_costs_one_file_each(root):
    for name in ("hangs", "kills"):
        shutil.copy(root / "videos" / "0.mp4", root / "videos" / f"{name}.mp4")
    began = time.monotonic()
    index = build_index(root, decoder=Scripted(), workers=2, timeout=0.7)
    assert time.monotonic() - began < 10
    assert len(index.good) == 6
    why = {entry.path: entry.why for entry in index.bad}
    assert "no answer within 0.7 s" in why["videos/hangs.mp4"]
    assert "ended with code 9" in why["videos/kills.mp4"]


def test_only_what_changed_is_scanned_again(root):
    cache = root / "index.json"
    first = build_index(root, decoder=PyAV(), cache=cache)
    same = build_index(root, decoder=Scripted([f"{i}.mp4" for i in range(6)]), cache=cache)
    assert same == first
    assert same.digest() == first.digest()
    write_video(root / "videos" / "2.mp4", paint_numbers(range(20)), fps=10)
    os.remove(root / "videos" / "4.mp4")
    changed = build_index(root, decoder=Scripted([f"{i}.mp4" for i in (0, 1, 3, 5)]), cache=cache)
    assert [entry.info.frames for entry in changed.good] == [4, 5, 20, 7, 9]
    assert changed.digest() != first.digest()


def test_another_decoder_scans_for_itself(root):
    cache = root / "index.json"
    build_index(root, decoder=PyAV(), cache=cache)
    other = Scripted(["0.mp4"])
    other.version = "another"
    with pytest.raises(AssertionError, match="scanned again"):
        build_index(root, decoder=other, cache=cache)


def test_progress_counts_to_the_end(root):
    cache, steps = root / "index.json", []
    build_index(root, decoder=PyAV(), cache=cache)
    write_video(root / "videos" / "9.mp4", paint_numbers(range(4)), fps=10)
    build_index(root, decoder=PyAV(), cache=cache, progress=lambda done, total: steps.append((done, total)))
    assert steps == [(7, 7)]


def test_nothing_to_read_says_what_to_type(tmp_path):
    with pytest.raises(UserError, match=r"no file matches.*--data.source world"):
        build_index(tmp_path, ["*.mp4"], decoder=PyAV())
    with pytest.raises(UserError, match="there is no such folder"):
        build_index(tmp_path / "gone", ["*.mp4"], decoder=PyAV())
    for i in range(4):
        (tmp_path / f"{i}.mp4").write_bytes(b"zero")
    with pytest.raises(
        UserError, match=r"4 files match and none is readable: 0.mp4 \(Invalid.*and 1 more.*source world"
    ):
        build_index(tmp_path, ["*.mp4"], decoder=PyAV())


def test_split_is_stable_and_complete(root):
    index = build_index(root, decoder=PyAV())
    train, held = index.split(0.4)
    assert sorted(names(train) + names(held)) == names(index.good)
    fewer = Index(index.root, [entry for entry in index.entries if entry.path != names(train)[0]])
    assert names(fewer.split(0.4)[1]) == names(held)
    assert index.split(0.0)[1] == []
    assert len(index.split(1e-9)[1]) == 1  # a fraction was asked for: at least one video to measure on
    assert len(index.split(1 - 1e-9)[0]) == 1


def test_save_and_load_give_the_same_index(root):
    index = build_index(root, decoder=PyAV())
    index.save(root / "kept.json")
    assert Index.load(root / "kept.json") == index


def test_newer_and_broken_files_are_refused_with_words(root):
    index = build_index(root, decoder=PyAV())
    index.save(root / "kept.json")
    record = json.loads((root / "kept.json").read_text())
    (root / "kept.json").write_text(json.dumps({**record, "format": 2}))
    with pytest.raises(UserError, match=r"format 2, this version reads up to 1: upgrade"):
        Index.load(root / "kept.json")
    (root / "kept.json").write_text("{")
    with pytest.raises(UserError, match="delete it"):
        Index.load(root / "kept.json")


def test_video_id_never_changes():
    assert video_id("videos/000000.mp4") == 4022916010067802768
    assert all(0 <= video_id(str(i)) < 2**63 for i in range(100))


@pytest.mark.parametrize(
    "base", [Fraction(1, 15360), Fraction(1001, 30000), Fraction(1, 90000), Fraction(1, 10**7)]
)
def test_packed_times_come_back_exactly(base):
    uneven = np.cumsum(np.random.default_rng(0).choice([1, 1, 1, 1, 512, 1024], 2000)) + 10**6
    even = np.arange(5000) * 512
    for ticks in (uneven, even, even[:1], even[:2], even[:0]):
        times = tuple(float(int(tick) * base) for tick in ticks)
        assert unpack(json.loads(json.dumps(pack(times)))) == times
    assert len(pack([float(int(tick) * base) for tick in even])) == 1
    assert unpack(pack([0.1 + 0.2, 1e-17, 12345.678901234567])) == (0.1 + 0.2, 1e-17, 12345.678901234567)
