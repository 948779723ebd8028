"""Difficult files from the test suites of other projects: each reads exactly, or is bad with a reason."""

from pathlib import Path

import av
import numpy as np
import pytest

from vjepa_distill.data.decoders.pyav import PyAV
from vjepa_distill.data.scan import build_index
from vjepa_distill.protocols import DecodeError

HARD = Path(__file__).parents[3] / "shared" / "data" / "hard"
CLIPS = Path(__file__).parents[3] / "shared" / "data" / "droid" / "clips"
needs_hard = pytest.mark.skipif(not HARD.exists(), reason="the folder of difficult videos is not here")
needs_clips = pytest.mark.skipif(not CLIPS.exists(), reason="the robot clips are not here")

BEST_STREAM = {"torchcodec/nasa_13013.mp4": 390}
"""Two video streams: the table counts the first (325); FFmpeg and decord take the larger picture."""


def table():
    """(file, frames) with frames = 0 where PyAV fails or shows nothing."""
    if not HARD.exists():
        return []
    rows = [line.split("|") for line in (HARD / "TABLE.md").read_text().splitlines()[2:]]
    counted = {row[1].strip(): row[7].strip() for row in rows}
    plain = {file: 0 if "ERR" in count else int(count) for file, count in counted.items()}
    return sorted({**plain, **BEST_STREAM}.items())


@needs_hard
@pytest.mark.parametrize(("file", "frames"), table())
def test_every_hard_file_reads_exactly_or_is_bad_with_a_reason(file, frames):
    decoder, path = PyAV(), str(HARD / file)
    if not frames:
        with pytest.raises(DecodeError, match=r"\w{4}"):
            decoder.scan(path)
        return
    info = decoder.scan(path)
    assert info.frames == len(info.times) == frames
    asked = sorted(np.random.default_rng(0).integers(0, frames, 6).tolist())
    assert np.array_equal(decoder.read(path, asked, info), plainly(path, asked, info))


def plainly(path, asked, info):
    """The reference: decode everything in order, PyAV's own conversion, turn."""
    with av.open(path) as container:
        stream = container.streams.best("video")
        shown = {
            i: frame.to_ndarray(format="rgb24")
            for i, frame in enumerate(container.decode(stream))
            if i in asked
        }
    return np.rot90(np.stack([shown[i] for i in asked]), info.rotation // 90, axes=(1, 2))


@needs_hard
def test_the_index_of_the_hard_folder_names_every_bad_file():
    files = dict(table())
    index = build_index(HARD, ["*/*.*"], decoder=PyAV(), workers=2)
    assert {entry.path for entry in index.good} == {file for file, frames in files.items() if frames}
    assert {entry.path for entry in index.bad} == {file for file, frames in files.items() if not frames}
    assert all(entry.why for entry in index.bad)


@needs_hard
@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_rotated_files_come_upright(degrees):
    """decord's four recordings of one scene: upright, all four are landscape or portrait as tagged."""
    path = str(HARD / "decord" / f"video_{degrees}.mov")
    decord = pytest.importorskip("decord", reason="decord is the second opinion, and is not here")
    info = PyAV().scan(path)
    ours, theirs = PyAV().read(path, [0], info), decord.VideoReader(path)[0].asnumpy()[None]
    assert ours.shape == theirs.shape
    assert np.abs(ours.astype(int) - theirs).mean() < 3


@needs_clips
def test_robot_clips_are_exact_by_seek():
    for path in sorted(CLIPS.glob("*.mp4"))[::60]:
        info = PyAV().scan(str(path))
        asked = [0, info.frames // 3, info.frames // 2, info.frames - 1]
        assert np.array_equal(PyAV().read(str(path), asked, info), plainly(str(path), asked, info))
