"""The strip of frames with the curve under it: the peak is where its frame is, and is told in words."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from tests.pages import facts
from tests.pages.test_page import Reader
from vjepa_distill.pages import page
from vjepa_distill.pages.pictures import GAP
from vjepa_distill.pages.strips import FRAMES, Strip, frames_shown, place, strip, strips


def dot(made: Strip) -> tuple[float, float]:
    """Where the peak's dot is, as a share of the strip, and its height."""
    [given] = [given for tag, given in Reader(made.curve).elements if "peak" in (given.get("class") or "")]
    whole = float(box(made)[2])
    return float(given["cx"] or 0) / whole, float(given["cy"] or 0)


def box(made: Strip) -> list[str]:
    found = re.search('viewBox="([^"]+)"', made.curve)
    assert found
    return found[1].split()


def tiles(made: Strip) -> list[int]:
    """The value of each frame in the strip's picture, and that they are where they should be."""
    data = base64.b64decode(made.picture.source.partition(",")[2])
    pixels = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(float)
    step = (made.picture.width + GAP) / len(made.seconds)
    return [
        round(pixels[8:-8, int(at * step) + 12 : int(at * step) + 36].mean())
        for at in range(len(made.seconds))
    ]


@pytest.mark.parametrize("peak", [2, 5, 8])
def test_with_a_frame_for_each_moment_the_peak_is_under_the_middle_of_its_frame(peak):
    made = strip(facts.watched(peak, 9))
    across, _ = dot(made)
    assert made.peak == peak
    assert 100 * across == pytest.approx(made.left + made.width / 2, abs=0.02)
    left = peak * (48 + GAP)  # frames are 48 pixels wide, with a gap between two
    assert across * made.picture.width == pytest.approx(left + 24, abs=0.1)
    assert made.seconds[made.peak] == f"{peak / 2:.1f}"


@pytest.mark.parametrize("moments", [11, 13, 40])
def test_of_many_moments_each_frame_shows_its_own_part_of_time_and_the_peak_is_among_them(moments):
    for peak in range(moments):
        shown = frames_shown(moments, peak)
        assert len(shown) == FRAMES
        assert peak in shown
        assert shown == sorted(set(shown))
        for column, moment in enumerate(shown):  # its middle lies over its own frame
            assert column <= (moment + 0.5) / moments * FRAMES <= column + 1
    made = strip(facts.watched(7, moments))
    across, _ = dot(made)
    assert made.left <= 100 * across <= made.left + made.width
    assert abs(tiles(made)[made.peak] - 9 * 7) <= 2


def test_the_pictures_are_those_of_the_seconds_beneath():
    made = strip(facts.watched(9, 13))
    due = [round(9 * 2 * float(second)) for second in made.seconds]
    assert tiles(made) == pytest.approx(due, abs=3)


def test_the_peak_is_the_highest_point_and_1_lies_where_1_is():
    one = facts.watched(4, 9)
    made = strip(one)
    _, top = dot(made)
    lines = [given for tag, given in Reader(made.curve).elements if tag == "line"]
    zero, usual = [float(given["y1"] or 0) for given in lines[:2]]
    assert "floor" in (lines[1]["class"] or "")
    assert (zero - top) / (zero - usual) == pytest.approx(3.14159, abs=0.01)
    [line] = [given["points"] for tag, given in Reader(made.curve).elements if tag == "polyline"]
    points = [tuple(map(float, pair.split(","))) for pair in (line or "").split()]
    assert len(points) == 9 - 2
    assert min(y for _, y in points) == top
    due = [
        place(at, 9, float(box(made)[2]), GAP / made.picture.width * float(box(made)[2]))
        for at in range(2, 9)
    ]
    assert [x for x, _ in points] == pytest.approx(due, abs=0.01)


def test_words_say_where_the_peak_is():
    made = strip(facts.watched(5, 9))
    said = re.search('aria-label="([^"]+)"', made.curve)
    assert said
    assert "peaks at 2.5 s, under frame 6 of 9, with 3.14" in said[1]
    assert "1 of 7 moments lie above 1" in said[1]
    assert "no forecast before 1.0 s" in said[1]
    assert made.words == "surprise peaks at 2.5 s, with 3.14"
    assert "number 6 is the peak" in made.picture.words
    assert strip(facts.watched(5, 9, cut=True)).words.endswith("in its first 4.0 s")


def test_a_calm_video_has_its_line_of_1_and_a_gap_is_not_bridged():
    calm = replace(facts.watched(5, 9), surprise=np.array([np.nan, -0.5, -0.25, np.nan, -0.1, *[-0.3] * 4]))
    made = strip(calm)
    assert made.peak == 4
    assert made.curve.count("<polyline") == 2
    lines = [given for tag, given in Reader(made.curve).elements if tag == "line"]
    assert 0 < float(lines[1]["y1"] or 0) < float(lines[0]["y1"] or 0) < float(box(made)[3])


def test_without_a_forecast_there_is_no_strip_and_no_section():
    nothing = replace(facts.watched(5, 9), surprise=np.full(9, np.nan))
    assert strips([nothing]) == []
    text = page([facts.run()], "1")
    assert "Where it was surprised" in text
    assert "Of 5 videos, the one whose" in text
    for shown in (facts.clips(foresight=False), replace(facts.clips(), watched=[nothing]), None):
        assert "Where it was surprised" not in page([facts.run(clips=shown)], "1")
