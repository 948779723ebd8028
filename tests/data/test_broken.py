"""Broken physics: a twin is its sound video up to the break, and then shows just what its label says."""

import csv

import numpy as np
import pytest

from vjepa_distill.data.broken import BREAKS, films, write_broken
from vjepa_distill.data.decoders.pyav import PyAV
from vjepa_distill.data.world import tell

FRAMES, SIZE = 20, 64


def shape_in(film, ground):
    """The shape's mean place and colour in every frame; NaN where there is none."""
    found = []
    for picture in film.astype(float):
        away = np.abs(picture - ground).sum(-1) > 60
        down, across = np.nonzero(away)
        there = len(down) > 10
        place = (across.mean() + 0.5, down.mean() + 0.5) if there else (np.nan, np.nan)
        found.append([*place, *(np.median(picture[away], axis=0) if there else [np.nan] * 3)])
    return np.array(found)


@pytest.mark.parametrize("kind", BREAKS)
@pytest.mark.parametrize("number", range(8))
def test_a_twin_breaks_as_and_when_its_label_says(kind, number):
    film, twin, frame, _ = films(3, number, kind, FRAMES, SIZE)
    gone = films(3, number, "vanish", FRAMES, SIZE)[1][-1]
    story = tell(np.random.default_rng((3, number)), FRAMES, SIZE)
    assert np.array_equal(film[:frame], twin[:frame])
    assert not np.array_equal(film[frame], twin[frame])
    assert 0.3 * FRAMES <= frame < story.arrival  # something was seen, and no wall was met
    sound, broken = shape_in(film, gone.astype(float)), shape_in(twin, gone.astype(float))
    step = np.hypot(*(broken[frame] - broken[frame - 1])[:2])
    usual = np.hypot(story.vx, story.vy)
    if kind == "jump":
        assert step > SIZE / 4 - 2 * usual - 1
        assert np.abs(broken[frame, 2:] - sound[frame, 2:]).max() < 3
    elif kind == "stop":
        assert np.abs(broken[frame:, :2] - broken[frame - 1, :2]).max() < 0.5
    elif kind == "vanish":
        assert np.isnan(broken[frame:]).all()
    else:
        assert np.abs(broken[frame:, :2] - sound[frame:, :2]).max() < 0.5
        assert np.abs(broken[frame, 2:] - sound[frame, 2:]) == pytest.approx(0.225 * 255, abs=2)


def test_files_and_labels_belong_together(tmp_path):
    write_broken(tmp_path, 5, seed=1, frames=FRAMES, size=32)
    with open(tmp_path / "labels.csv", newline="") as table:
        rows = list(csv.DictReader(table))
    assert [row["break"] for row in rows[1::2]] == [*BREAKS, "jump"]
    assert {row["break"] for row in rows[::2]} == {"none"}
    for number, (sound, broken) in enumerate(zip(rows[::2], rows[1::2], strict=True)):
        assert sound["pair"] == broken["pair"] == str(number)
        assert float(broken["second"]) * 10 == films(1, number, broken["break"], FRAMES, 32)[2]
        for row in (sound, broken):
            assert PyAV().scan(str(tmp_path / row["file"])).frames == FRAMES
