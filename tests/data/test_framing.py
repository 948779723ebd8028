"""Circles stay circles: what a crop does to a drawn circle, measured in the clip that comes out."""

import math

import numpy as np
import pytest

from vjepa_distill.data import format1
from vjepa_distill.data.clips import Recipe, VideoClips
from vjepa_distill.data.index import Entry
from vjepa_distill.protocols import VideoInfo

SIZES = [(64, 128), (112, 192), (224, 224), (128, 64)]
SOURCES = [(180, 320), (160, 320), (320, 180), (240, 240), (181, 333)]
SHAPES = [(size, source) for size in SIZES for source in SOURCES]
ASPECT = (0.75, 4 / 3)
SCALE = (0.5, 1.0)


class Circles:
    """A decoder whose picture is a grid of soft discs, far enough apart to be told from each other."""

    name, version = "circles", "1"
    pitch, radius = 24.0, 7.0

    def __init__(self, height, width):
        down, across = np.mgrid[:height, :width] + 0.5
        dy, dx = (((at / self.pitch) % 1 - 0.5) * self.pitch for at in (down, across))
        cover = np.clip(self.radius + 0.5 - np.hypot(dx, dy), 0, 1)
        self.picture = np.repeat(np.round(255 * cover)[None, ..., None], 3, -1).astype(np.uint8)

    def scan(self, path):
        raise NotImplementedError

    def read(self, path, indices, info):
        return np.repeat(self.picture, len(indices), 0)


def clips(size, source, **recipe):
    """Clips of the real path: frames as decoded, box, resizing."""
    info = VideoInfo(1, 10.0, source[1], source[0], 0, "none", (0.0,))
    recipe = Recipe(1, *size, **{"scale": SCALE, "aspect": ASPECT, **recipe})
    return VideoClips([Entry("a.mp4", 1, 1, info, "")], "/", recipe, Circles(*source), seed=0)


def circle(clip):
    """(width, height) of a whole disc of a clip: their ratio by its second moments, the size by its area."""
    picture = clip[0, 0].numpy() / 255.0
    for top, left, part in _islands(picture):
        whole = top > 0 and left > 0 and top + part.shape[0] < picture.shape[0]
        if whole and left + part.shape[1] < picture.shape[1]:
            ratio, diameter = _spread(part.sum(0)) / _spread(part.sum(1)), math.sqrt(part.sum() * 4 / math.pi)
            return diameter * math.sqrt(ratio), diameter / math.sqrt(ratio)
    raise AssertionError("no whole disc is in the clip")


def _islands(picture):
    """The rectangles between the empty rows and columns of the grid."""
    rows, columns = (_runs(picture.max(axis) > 0.02) for axis in (1, 0))
    for top, bottom in rows:
        for left, right in columns:
            yield top, left, picture[top:bottom, left:right]


def _runs(filled):
    edges = np.flatnonzero(np.diff(np.concatenate([[0], filled.astype(int), [0]])))
    return list(zip(edges[::2], edges[1::2], strict=True))


def _spread(profile):
    """The standard deviation."""
    at = np.arange(len(profile))
    mean = (profile * at).sum() / profile.sum()
    return math.sqrt((profile * (at - mean) ** 2).sum() / profile.sum())


def measured(size, source, draws=300, **recipe):
    """[draws, 2]: widths and heights of circles in training clips."""
    shown = clips(size, source, flip=0.5, **recipe)
    return np.array([circle(shown[position]["clip"]) for position in range(draws)])


@pytest.mark.parametrize(("size", "source"), SHAPES)
def test_a_circle_stays_one_on_average_at_any_size_and_source(size, source):
    wide, high = measured(size, source).T
    stretch = np.log(wide / high)
    # log-uniform in [-0.288, 0.288]: 0.0096 is one standard error of 300 draws
    assert abs(stretch.mean()) < 0.035, math.exp(stretch.mean())
    assert -math.log(4 / 3) - 0.08 < stretch.min() < -0.2
    assert 0.2 < stretch.max() < math.log(4 / 3) + 0.08
    assert abs(stretch.std() - 2 * math.log(4 / 3) / math.sqrt(12)) < 0.03


@pytest.mark.parametrize(("size", "source"), SHAPES)
def test_held_out_views_do_not_distort(size, source):
    shown = clips(size, source, crop="center")
    wide, high = circle(shown[0]["clip"])
    assert wide / high == pytest.approx(1, abs=0.02)
    assert wide == pytest.approx(scale_of(size, source) * 2 * Circles.radius, rel=0.03)


def scale_of(size, source):
    """How much a held-out view enlarges the picture: as little as fills the clip."""
    return max(size[0] / source[0], size[1] / source[1])


@pytest.mark.parametrize(("size", "source"), SHAPES)
def test_training_and_held_out_views_agree_in_scale(size, source):
    """Undistorted, objects are 1 to sqrt(1 / least share) times as large; the share is uniform between."""
    held = circle(clips(size, source, crop="center")[0]["clip"])
    larger = np.sqrt(np.prod(measured(size, source, aspect=(1, 1)), 1) / np.prod(held))
    assert larger.min() > 0.97
    assert larger.max() < math.sqrt(2) * 1.03
    assert (1 / larger**2).mean() == pytest.approx(0.75, abs=0.04)
    whole = measured(size, source, draws=5, aspect=(1, 1), scale=(1, 1))
    np.testing.assert_allclose(whole, np.tile(held, (5, 1)), rtol=0.03)


@pytest.mark.parametrize(("size", "source"), SHAPES)
def test_stretching_leaves_the_scale_where_it_was(size, source):
    """The stretch comes on top: at most its root either way, on average nothing or a little larger."""
    held = circle(clips(size, source, crop="center")[0]["clip"])
    larger = np.sqrt(np.prod(measured(size, source, scale=(1, 1)), 1) / np.prod(held))
    assert larger.min() > math.sqrt(0.75) * 0.97
    assert larger.max() < math.sqrt(4 / 3) * 1.03
    assert 0.97 < np.exp(np.log(larger).mean()) < 1.1


def test_the_crop_of_format_1_did_distort():
    """What was wrong, and is kept for runs that began so: 1.53 at [64, 128] from 2:1 pictures."""
    wide, high = measured((64, 128), (160, 320), crop="format 1").T
    assert np.exp(np.log(wide / high).mean()) == pytest.approx(1.53, abs=0.06)
    boxes = [format1.random_box(180, 320, SCALE, ASPECT, np.random.default_rng(n)) for n in range(200)]
    stretch = [box.height / box.width * 192 / 112 for box in boxes]
    assert min(stretch) > 1.27


def test_the_crop_of_format_1_never_changes():
    draw = np.random.default_rng(0)
    boxes = [tuple(format1.random_box(180, 320, SCALE, ASPECT, draw)) for _ in range(3)]
    assert boxes == [(0, 40, 180, 240), (9, 67, 170, 193), (0, 6, 170, 211)]
