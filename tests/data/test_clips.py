"""A position decides everything about a clip; bad files are replaced by rule; frames are those asked for."""

import math
import shutil

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from vjepa_distill.data.clips import Recipe, VideoClips
from vjepa_distill.data.decoders.pyav import PyAV
from vjepa_distill.data.index import video_id
from vjepa_distill.data.painted import paint_numbers, read_numbers
from vjepa_distill.data.sampling import fps_indices, permutation, uniform_indices
from vjepa_distill.data.scan import build_index
from vjepa_distill.data.transforms import Box, centre_box, random_box, to_clip
from vjepa_distill.data.world import write_video
from vjepa_distill.errors import UserError
from vjepa_distill.protocols import DecodeError

VIDEOS = 7
PLAIN = Recipe(num_frames=4, height=48, width=96, crop="center")


class Refusing(PyAV):
    """PyAV that cannot read some files, and remembers what it opened."""

    def __init__(self, *bad):
        self.bad, self.opened = bad, []

    def read(self, path, indices, info):
        self.opened.append(path)
        if path.endswith(self.bad):
            raise DecodeError("refused by the test")
        return super().read(path, indices, info)


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    """Video v shows the numbers 100 v, 100 v + 1, ...; 10 frames a second, 20 + v frames."""
    root = tmp_path_factory.mktemp("painted")
    (root / "videos").mkdir()
    for v in range(VIDEOS):
        write_video(root / "videos" / f"{v}.mp4", paint_numbers(range(100 * v, 100 * v + 20 + v)), fps=10)
    return build_index(root, decoder=PyAV())


def make(index, recipe=PLAIN, decoder=None, seed=3, **options):
    return VideoClips(index.good, index.root, recipe, decoder or PyAV(), seed, **options)


def numbers(sample):
    return read_numbers(sample["clip"].permute(1, 2, 3, 0).numpy())


@pytest.mark.parametrize(("frames", "count"), [(20, 20), (104, 20), (21, 20), (1475, 84), (7, 2), (5, 5)])
def test_uniform_is_even_and_spans_the_video(frames, count):
    expected = np.floor(np.linspace(0, frames - 1, count) + 0.5 + 1e-9).astype(int).tolist()
    assert uniform_indices(frames, count) == expected


def test_uniform_pads_a_short_video_with_its_last_frame():
    assert uniform_indices(3, 6) == [0, 1, 2, 2, 2, 2]
    assert uniform_indices(1, 3) == [0, 0, 0]
    assert uniform_indices(9, 1) == [4]


@pytest.mark.parametrize("rate", [30, 29.97, 25, 10])
def test_a_video_asked_at_its_own_rate_gives_every_frame(rate):
    times = [i / rate for i in range(300)]
    assert fps_indices(times, 200, rate, times[40]) == list(range(40, 240))


def test_fps_is_the_frame_on_show_at_each_moment():
    times = (2.0 + np.cumsum(np.random.default_rng(1).uniform(0.01, 0.4, 60))).tolist()
    for start in (0.0, 1.234, 9.0):
        moments = [times[0] + start + i / 8 for i in range(32)]
        on_show = [max(k for k, t in enumerate(times) if t <= moment + 1e-4) for moment in moments]
        assert fps_indices(times, 32, 8, start) == on_show


def test_a_slower_video_repeats_frames():
    assert fps_indices([0.0, 0.5, 1.0], 6, 4, 0.0) == [0, 0, 1, 1, 2, 2]


def test_every_epoch_shows_every_video_once_in_another_order(index):
    clips = make(index)
    epochs = [[clips[e * VIDEOS + k]["path"] for k in range(VIDEOS)] for e in range(3)]
    assert all(sorted(epoch) == [f"videos/{v}.mp4" for v in range(VIDEOS)] for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3
    assert epochs[0] != [make(index, seed=4)[k]["path"] for k in range(VIDEOS)]


def test_the_order_is_the_one_written_down(index):
    clips = make(index)
    for position in (0, 5, 17, 1000):
        epoch, k = divmod(position, VIDEOS)
        assert clips[position]["path"] == f"videos/{permutation(3, epoch, VIDEOS)[k]}.mp4"


def test_unshuffled_is_the_order_of_the_files(index):
    clips = make(index, shuffle=False)
    assert [clips[k]["path"] for k in range(VIDEOS)] == [f"videos/{v}.mp4" for v in range(VIDEOS)]


def test_frames_are_those_of_the_recipe(index):
    clips = make(index, shuffle=False)
    for v in range(VIDEOS):
        assert numbers(clips[v]) == [100 * v + i for i in uniform_indices(20 + v, 4)]


def test_a_position_gives_the_same_pixels_whatever_came_before(index):
    recipe = Recipe(4, 32, 32)
    one, other = make(index, recipe), make(index, recipe)
    backwards = {p: other[p]["clip"] for p in reversed(range(20))}
    assert all(torch.equal(one[p]["clip"], backwards[p]) for p in range(20))


def test_no_crop_comes_twice(index):
    clips = make(index, Recipe(4, 32, 32, scale=(0.4, 0.9)))
    crops = {p: clips[p] for p in range(20 * VIDEOS)}
    assert len({(one["path"], one["clip"].numpy().tobytes()) for one in crops.values()}) == len(crops)


def test_a_long_video_gives_several_samples_by_fps(index):
    recipe = Recipe(
        4, 48, 96, sampling="fps", fps=5, crop="center"
    )  # clips of 0.8 s from videos of 2.0 to 2.6 s
    clips = make(index, recipe, shuffle=False)
    per_video = [int((20 + v) / 10 / 0.8 + 1e-6) for v in range(VIDEOS)]
    assert clips.num_samples == sum(per_video)
    assert [numbers(clips[k]) for k in range(2)] == [[0, 2, 4, 6], [8, 10, 12, 14]]


def test_by_fps_the_start_is_drawn_anew(index):
    clips = make(index, Recipe(4, 48, 96, sampling="fps", fps=5, scale=(1, 1), aspect=(1, 1), flip=0))
    shown = [numbers(clips[p]) for p in range(60)]
    assert all(row[i + 1] - row[i] == 2 for row in shown for i in range(3))  # never runs past the end
    assert len({row[0] % 100 for row in shown}) > 8


def test_a_bad_file_is_replaced_by_the_next_of_its_permutation(index):
    decoder = Refusing("/2.mp4", "/5.mp4")
    clips = make(index, decoder=decoder)
    for position in range(4 * VIDEOS):
        epoch, k = divmod(position, VIDEOS)
        order = permutation(3, epoch, VIDEOS)
        while order[k] in (2, 5):
            k = (k + 1) % VIDEOS
        assert clips[position]["path"] == f"videos/{order[k]}.mp4"
    assert clips.quarantine.reasons == {f"videos/{v}.mp4": "refused by the test" for v in (2, 5)}


def test_a_file_in_quarantine_is_not_opened_again(index):
    decoder = Refusing("/2.mp4")
    clips = make(index, decoder=decoder)
    for position in range(5 * VIDEOS):
        clips[position]
    assert sum(path.endswith("/2.mp4") for path in decoder.opened) == 1


def test_when_nothing_can_be_read_it_says_why(index):
    with pytest.raises(
        UserError, match=r"not one of 7 videos can be read: videos/0.mp4 .refused by the test"
    ):
        make(index, decoder=Refusing(".mp4"))[0]


def test_a_clip_carries_the_number_of_its_video(index, tmp_path):
    clips = make(index, shuffle=False)
    assert [clips[v]["video"] for v in range(VIDEOS)] == [video_id(f"videos/{v}.mp4") for v in range(VIDEOS)]
    shutil.copytree(index.root, tmp_path, dirs_exist_ok=True)
    (tmp_path / "again.mp4").symlink_to("videos/2.mp4")
    linked = build_index(tmp_path, ["again.mp4"], decoder=PyAV())
    assert make(linked)[0]["video"] == linked.entries[0].video == video_id("videos/2.mp4")


def test_crop_and_flip_are_one_for_all_frames():
    still = np.repeat(np.random.default_rng(0).integers(0, 256, (1, 60, 80, 3), np.uint8), 5, 0)
    for flip in (False, True):
        clip = to_clip(still, Box(3, 7, 40, 50), 32, 32, flip)
        assert clip.shape == (3, 5, 32, 32)
        assert all(torch.equal(clip[:, 0], clip[:, t]) for t in range(5))


def test_resize_is_the_float_reference_within_rounding():
    frames = np.random.default_rng(0).integers(0, 256, (2, 90, 160, 3), np.uint8)
    part = torch.from_numpy(frames[:, 10:80, 20:140]).permute(0, 3, 1, 2).float()
    reference = F.interpolate(part, size=(32, 48), mode="bilinear", antialias=True).permute(1, 0, 2, 3)
    plain = to_clip(frames, Box(10, 20, 70, 120), 32, 48, False)
    assert plain.dtype == torch.uint8
    assert (plain - reference).abs().max() <= 1.01
    assert torch.equal(to_clip(frames, Box(10, 20, 70, 120), 32, 48, True), plain.flip(-1))


def test_rotated_pictures_are_taken():
    frames = np.random.default_rng(0).integers(0, 256, (2, 40, 60, 3), np.uint8)
    turned = np.rot90(frames, 1, axes=(1, 2))
    assert torch.equal(
        to_clip(turned, Box(0, 0, 60, 40), 60, 40, False), torch.from_numpy(turned.copy()).permute(3, 0, 1, 2)
    )


@pytest.mark.parametrize(("height", "width"), [(180, 320), (320, 180), (97, 101), (1, 3), (2, 500)])
@pytest.mark.parametrize("shape", [0.5, 1.0, 1.714])
def test_random_boxes_lie_inside_and_keep_to_scale_and_aspect(height, width, shape):
    draw = np.random.default_rng(0)
    shares = []
    for _ in range(500):
        top, left, h, w = random_box(height, width, shape, (0.3, 0.9), (0.75, 4 / 3), draw)
        assert h >= 1 <= w
        assert 0 <= top <= height - h
        assert 0 <= left <= width - w
        # the largest box of its own aspect, to whole pixels
        low, high = ((w - 0.5) / (h + 0.5), (w + 0.5) / (h - 0.5))
        if min(h, w) > 20:
            assert low <= shape * 4 / 3
            assert high >= shape * 0.75
            whole = min(height * height * w / h, width * width * h / w)
            shares.append(h * w / whole)
    if shares:
        assert 0.28 < min(shares) < 0.35
        assert 0.85 < max(shares) < 0.92


def test_every_place_of_a_box_is_as_likely():
    draw = np.random.default_rng(0)
    boxes = [random_box(12, 8, 1.0, (0.25, 0.25), (1, 1), draw) for _ in range(4500)]
    assert {(box.height, box.width) for box in boxes} == {(4, 4)}
    tops, lefts = (np.bincount([box[side] for box in boxes]) for side in (0, 1))
    assert (len(tops), len(lefts)) == (9, 5)
    assert abs(tops / 500 - 1).max() < 0.15
    assert abs(lefts / 900 - 1).max() < 0.15


@pytest.mark.parametrize(
    ("size", "aspect"), [((180, 320), 1.0), ((320, 180), 1.0), ((100, 100), 2.0), ((7, 7), 1.0)]
)
def test_the_centre_box_is_the_largest_and_central(size, aspect):
    top, left, h, w = centre_box(*size, aspect)
    assert h == size[0] or w == size[1]
    assert math.isclose(w / h, aspect, rel_tol=0.02)
    assert abs(2 * top + h - size[0]) <= 1
    assert abs(2 * left + w - size[1]) <= 1
