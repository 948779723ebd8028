"""A whole video in stretches: every frame in its turn, whichever way it is cut."""

import pytest
import torch

from vjepa_distill.data.clips import Recipe, VideoClips
from vjepa_distill.data.decoders.pyav import PyAV
from vjepa_distill.data.painted import paint_numbers, read_numbers
from vjepa_distill.data.scan import build_index
from vjepa_distill.data.stretches import sampled, starts, stretches
from vjepa_distill.data.world import write_video

FRAMES, FPS = 75, 25


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    """One video whose frames carry their numbers: three seconds."""
    root = tmp_path_factory.mktemp("numbers")
    (root / "videos").mkdir()
    write_video(root / "videos" / "a.mp4", paint_numbers(range(FRAMES)), FPS)
    return build_index(root, decoder=PyAV())


def recipe(frames, sampling="fps", fps=12.5):
    return Recipe(frames, 48, 96, sampling, fps if sampling == "fps" else None, crop="center")


def numbers(clip):
    return read_numbers(clip.permute(1, 2, 3, 0).numpy())


@pytest.mark.parametrize(("length", "overlap", "step"), [(12, 4, 2), (8, 6, 2), (100, 4, 4), (37, 0, 1)])
def test_every_frame_comes_in_its_turn(index, length, overlap, step):
    parts = list(stretches(index.good[0], index.root, recipe(8), PyAV(), length, overlap, step))
    whole = len(sampled(index.good[0], recipe(8))[0]) // step * step
    fresh = [n for k, part in enumerate(parts) for n in numbers(part.clip)[overlap if k else 0 :]]
    assert fresh == [2 * n for n in range(whole)]
    for part in parts:
        assert part.clip.shape[1] <= length
        assert part.clip.shape[1] % step == 0
        assert part.seconds == pytest.approx([n / FPS for n in numbers(part.clip)])
        assert numbers(part.clip)[0] == 2 * part.first


def test_uniform_is_the_one_clip_that_training_sees(index):
    (part,) = stretches(index.good[0], index.root, recipe(10, "uniform"), PyAV(), 100, 4, 2)
    clips = VideoClips(index.good, index.root, recipe(10, "uniform"), PyAV(), seed=0, shuffle=False)
    assert torch.equal(part.clip, clips[0]["clip"])
    assert part.seconds == pytest.approx([n / FPS for n in numbers(part.clip)])


def test_starts_lie_side_by_side_or_are_halves(index):
    entry = index.good[0]
    found = [numbers(clip) for clip in starts(entry, index.root, recipe(8), PyAV())]
    assert [clip[0] for clip in found] == [0, 19, 39, 59]  # four of 0.64 s spread over three seconds
    assert len(starts(entry, index.root, recipe(8), PyAV(), most=2)) == 2
    assert starts(entry, index.root, recipe(30), PyAV()) is None
    halves = [numbers(clip) for clip in starts(entry, index.root, recipe(10, "uniform"), PyAV())]
    assert [(clip[0], clip[-1]) for clip in halves] == [(0, 36), (18, 54), (38, 74)]
    assert starts(entry, index.root, recipe(40, "uniform"), PyAV()) is None
