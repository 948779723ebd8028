"""The toy world: labels are true, the same seed is the same world, cheap statistics give nothing away."""

import csv
import math
from dataclasses import replace

import numpy as np
import pytest

from vjepa_distill.data.decoders.pyav import PyAV
from vjepa_distill.data.world import SHAPES, WALLS, _distance, paint, tell, write_world

FRAMES, SIZE = 20, 64


def stories(count=400):
    return [tell(np.random.default_rng((5, n)), FRAMES, SIZE) for n in range(count)]


def read(root):
    with open(root / "labels.csv", newline="", encoding="utf-8") as table:
        return list(csv.DictReader(table))


def test_files_and_labels_belong_together(tmp_path):
    steps = []
    write_world(tmp_path, 5, seed=1, progress=lambda done, total: steps.append((done, total)))
    rows = read(tmp_path)
    assert [row["file"] for row in rows] == [f"videos/{n:06d}.mp4" for n in range(5)]
    assert steps[-1] == (5, 5)
    for n, row in enumerate(rows):
        info = PyAV().scan(str(tmp_path / row["file"]))
        assert (info.frames, info.width, info.height, info.codec) == (FRAMES, SIZE, SIZE, "h264")
        story = tell(np.random.default_rng((1, n)), FRAMES, SIZE)
        assert (row["shape"], row["outcome"]) == (story.shape, story.outcome)
        assert [float(row[key]) for key in ("x", "y", "vx", "vy")] == pytest.approx(
            [story.x, story.y, story.vx, story.vy], abs=1e-3
        )


def test_the_same_seed_is_the_same_world(tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_world(tmp_path / name, 2, seed=seed)
    film = {name: (tmp_path / name / "videos" / "000001.mp4").read_bytes() for name in "abc"}
    assert film["a"] == film["b"] != film["c"]
    assert read(tmp_path / "a") == read(tmp_path / "b")


def test_the_picture_shows_the_label():
    """The same draw with a shape of no size is the ground: what differs is the shape, in its place."""
    for n, story in enumerate(stories(40)):
        film = paint(story, np.random.default_rng(n), FRAMES, SIZE).astype(float)
        ground = paint(replace(story, radius=0.0), np.random.default_rng(n), FRAMES, SIZE)
        for frame in (0, 7, FRAMES - 1):
            down, across = np.nonzero(np.abs(film[frame] - ground[frame]).sum(-1) > 20)
            x, y = story.at(frame)
            assert math.hypot(across.mean() + 0.5 - x, down.mean() + 0.5 - y) < 1.5
            assert len(down) == pytest.approx(math.pi * story.radius**2, rel=0.35)


def test_the_outcome_comes_late_and_is_where_the_shape_stays():
    for story in stories():
        assert FRAMES / 2 < story.arrival < FRAMES - 1
        x, y = story.at(FRAMES - 1)
        edge = {"left": x, "right": SIZE - x, "top": y, "bottom": SIZE - y}
        assert min(edge, key=edge.get) == story.outcome
        assert edge[story.outcome] == pytest.approx(story.radius)
        assert story.at(int(story.arrival) + 1) == pytest.approx(story.at(10**6))


def test_the_outcome_needs_both_start_and_direction():
    told = stories(2000)
    truth = np.array([WALLS.index(story.outcome) for story in told])
    by_direction = [
        max(reach, key=reach.get)
        for reach in ({"left": -s.vx, "right": s.vx, "top": -s.vy, "bottom": s.vy} for s in told)
    ]
    by_start = [
        min(edge, key=edge.get)
        for edge in ({"left": s.x, "right": SIZE - s.x, "top": s.y, "bottom": SIZE - s.y} for s in told)
    ]
    direction = np.mean([WALLS.index(guess) == t for guess, t in zip(by_direction, truth, strict=True)])
    start = np.mean([WALLS.index(guess) == t for guess, t in zip(by_start, truth, strict=True)])
    assert direction < 0.85
    assert start < 0.6


def test_all_labels_are_about_equally_common():
    told = stories(2000)
    for names, values in ((SHAPES, [s.shape for s in told]), (WALLS, [s.outcome for s in told])):
        shares = [values.count(name) / len(values) for name in names]
        assert max(shares) < 0.3, dict(zip(names, shares, strict=True))


def test_shapes_cover_the_same_area():
    fine = (np.arange(1280) + 0.5) / 20
    across, down = np.meshgrid(fine, fine)
    for story in stories(30):
        area = (_distance(story, across - 32, down - 32) < 0).sum() / 20**2
        assert area == pytest.approx(math.pi * story.radius**2, rel=0.01), story.shape


def test_mean_colour_does_not_tell_the_shape():
    neighbours = pytest.importorskip("sklearn.neighbors")
    told = stories(300)
    films = [paint(story, np.random.default_rng(n), 2, SIZE) for n, story in enumerate(told)]
    colours = np.stack([np.concatenate([film.mean((0, 1, 2)), film.std((0, 1, 2))]) for film in films])
    shapes = np.array([story.shape for story in told])
    guess = neighbours.KNeighborsClassifier(5).fit(colours[:200], shapes[:200]).predict(colours[200:])
    assert np.mean(guess == shapes[200:]) < 0.40
