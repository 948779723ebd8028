"""Plots: where numbers come to lie, what axes show, and that nothing of a stranger's is markup."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from vjepa_distill.pages.numbers import short, ticks
from vjepa_distill.pages.plots import HEIGHT, LEFT, REST, RIGHT, TOP, WIDTH, Chart, Line, draw, limits


def shapes(chart: Chart, kind: str) -> list[ElementTree.Element]:
    """Elements of the plot, which is well-formed."""
    return [one for one in ElementTree.fromstring(str(draw(chart))).iter() if one.tag == kind]


def places(element: ElementTree.Element) -> list[tuple[float, float]]:
    return [tuple(map(float, pair.split(","))) for pair in element.attrib["points"].split()]  # type: ignore[misc]


def test_a_line_goes_from_edge_to_edge_and_up_where_numbers_grow():
    chart = Chart("t", "", [Line("a", [(0, 1.0), (50, 2.0), (100, 3.0)])])
    [line] = shapes(chart, "polyline")
    (x0, y0), (x1, y1), (x2, y2) = places(line)
    assert (x0, x1, x2) == (LEFT, (LEFT + WIDTH - RIGHT) / 2, WIDTH - RIGHT)
    assert TOP < y2 < y1 < y0 < HEIGHT
    assert y0 - y1 == pytest.approx(y1 - y2, abs=0.02)


def test_the_numbers_at_the_axis_lie_at_their_height():
    chart = Chart("t", "", [Line("a", [(0, 0.0), (1, 4.0)])])
    (_, low), (_, high) = places(shapes(chart, "polyline")[0])
    told = {
        one.text: float(one.attrib["y"]) - 4 for one in shapes(chart, "text") if one.attrib["class"] == "end"
    }
    assert told["0"] == pytest.approx(low, abs=0.02)
    assert told["4"] == pytest.approx(high, abs=0.02)
    assert told["2"] == pytest.approx((low + high) / 2, abs=0.02)


def test_a_floor_that_stands_still_goes_all_the_way_and_does_not_move_the_axis():
    line = Line("a", [(10, 1.0), (20, 2.0)])
    floor, moving = shapes(Chart("t", "", [Line("f", [(0, 0.5)], "floor", REST), line]), "polyline")
    assert [x for x, _ in places(floor)] == [LEFT, WIDTH - RIGHT] == [x for x, _ in places(moving)]
    assert len({y for _, y in places(floor)}) == 1


def test_an_interval_is_drawn_between_its_ends():
    chart = Chart("t", "", [Line("a", [(0, 1.0), (1, 1.0)], band=[(0.5, 1.5), (0.0, 2.0)])])
    [band], [line] = shapes(chart, "polygon"), shapes(chart, "polyline")
    (_, high0), (_, high1), (_, low1), (_, low0) = places(band)
    middle = places(line)[0][1]
    assert high1 < high0 < middle < low0 < low1
    assert middle - high0 == pytest.approx((low1 - middle) / 2, abs=0.02)


def test_a_start_far_off_does_not_press_the_rest_together():
    line = Line("a", [(0, -1000.0), *((n, float(n % 2)) for n in range(1, 40))])
    low, high = limits([line])
    assert -5 < low < 0
    assert 1 < high < 6


def test_what_is_near_is_shown_whole():
    values = [(n, 1 / n) for n in range(1, 40)]
    low, high = limits([Line("a", values[4:])])
    assert low < values[-1][1]
    assert high > values[4][1]


def test_noise_looks_small_where_the_axis_begins_at_zero():
    line = Line("a", [(0, 166.0), (1, 168.0), (2, 167.0)])
    spans = []
    for from_zero in (True, False):
        [drawn] = shapes(Chart("t", "", [line], from_zero=from_zero), "polyline")
        heights = [y for _, y in places(drawn)]
        spans.append(max(heights) - min(heights))
    assert spans[0] < 3 < 100 < spans[1]


def test_no_line_at_all_and_one_point_are_plots_too():
    assert shapes(Chart("t", "", [Line("a", [(3, 1.0)]), Line("b", [])]), "circle")


@pytest.mark.parametrize(
    ("low", "high", "due"),
    [(0, 1, [0, 0.5, 1]), (-0.2, 0.9, [0, 0.5]), (0, 100, [0, 50, 100]), (3, 3, [3])],
)
def test_ticks_are_round_and_inside(low, high, due):
    assert ticks(low, high, 2) == due


def test_whole_numbers_have_no_ticks_between_them():
    assert ticks(1, 2, 5, 1.0) == [1, 2]


@pytest.mark.parametrize(
    ("value", "text"), [(0.61749, "0.6175"), (1200.0, "1200"), (3e-4, "3e-04"), (-0.5, "−0.5"), (0.0, "0")]
)
def test_numbers_are_short(value, text):
    assert short(value) == text


def test_a_strangers_words_are_words():
    evil = '"><script>alert(1)</script>&'
    text = str(draw(Chart(evil, evil, [Line(evil, [(0, 1.0), (1, 2.0)])], evil)))
    assert "<script" not in text
    [root] = [ElementTree.fromstring(text)]
    assert root.attrib["aria-label"].startswith(evil)
    assert evil in [one.text for one in root.iter()]


def test_the_plot_says_in_words_what_it_shows():
    chart = Chart("Skill", "", [Line("held out", [(0, -1.0), (9, 0.25)]), Line("rival", [(0, 0.0)], "floor")])
    said = re.search('aria-label="([^"]+)"', str(draw(chart)))
    assert said
    assert said[1] == "Skill, by step. held out: from −1 at 0 to 0.25 at 9; rival: 0."
