"""The page in a real browser: no error, no request, all pictures there, light and dark, wide and narrow."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.pages import facts
from tests.pages.browser import Page, browser, find
from vjepa_distill.pages import page

PATH = find()
pytestmark = pytest.mark.skipif(PATH is None, reason="no Chromium here: apt-get install chromium")
PICTURES = "[...document.images].map(i => [i.naturalWidth, i.getBoundingClientRect().width, i.alt])"
WIDER = "document.documentElement.scrollWidth - window.innerWidth"
MIDDLES = """[...document.querySelectorAll('.watched')].map(e => {
    const [ring, dot] = ['.ring', '.peak'].map(name => e.querySelector(name).getBoundingClientRect());
    return [(ring.left + ring.right) / 2, (dot.left + dot.right) / 2, ring.width]})"""
SMALL = """[...document.querySelectorAll('body *')].filter(e => e.checkVisibility() &&
    !e.closest('.scroll, pre, svg') && e.getBoundingClientRect().right > window.innerWidth + 1).length"""


@pytest.fixture(scope="module")
def tab() -> Iterator[Page]:
    assert PATH
    with browser(PATH) as tab:
        yield tab


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs with everything, under names that are long and wild."""
    path = tmp_path_factory.mktemp("page") / "report with spaces é.html"
    runs = [facts.run("future"), facts.run("<b>a_run_of_a_very_long_name_that_has_no_place_to_break", 0.1)]
    path.write_text(page(runs, "1"), encoding="utf-8")
    return path


@pytest.fixture(autouse=True)
def _fresh(tab: Page) -> None:
    tab.requests.clear()
    tab.faults.clear()


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [1200, 390])
def test_it_opens_without_error_or_request_and_shows_every_picture(tab, file, width, dark):
    tab.open(file, width, dark)
    shown = tab.evaluate(PICTURES)
    assert len(shown) == 2 * (2 * 4 + 3 + 1 + 1)
    assert all(natural > 0 and there > 20 and words for natural, there, words in shown)
    assert tab.faults == []
    assert {url.split(":")[0] for url in tab.requests} == {"file", "data"}
    assert [url for url in tab.requests if url.startswith("file")] == [file.as_uri()]


@pytest.mark.parametrize("width", [1200, 390])
def test_a_frame_and_its_part_of_the_curve_lie_under_each_other_however_wide(tab, tmp_path, width):
    file = tmp_path / "report.html"
    watched = [facts.watched(peak, moments) for peak, moments in ((7, 9), (5, 9), (2, 3), (17, 40))]
    shown = replace(facts.clips(), watched=watched)
    file.write_text(page([facts.run(clips=shown)], "1"), encoding="utf-8")
    tab.open(file, width)
    *one_each, many = tab.evaluate(MIDDLES)
    for ring, dot, across in one_each:
        assert dot == pytest.approx(ring, abs=0.01 * across)
    assert len(one_each) == 3
    assert many[1] == pytest.approx(many[0], abs=many[2] / 2)
    assert all(dot > 0 for _, dot, _ in [*one_each, many])


@pytest.mark.parametrize("width", [1200, 390, 320])
def test_the_page_itself_never_scrolls_sideways(tab, file, width):
    tab.open(file, width)
    tab.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert tab.evaluate(WIDER) <= 0
    assert tab.evaluate(SMALL) == 0


def test_light_and_dark_are_two_pages_and_both_can_be_read(tab, file):
    shots = []
    for dark in (False, True):
        tab.open(file, 800, dark)
        shots.append(tab.picture())
        assert contrast(tab, "body", "color", "body") > 7
        assert contrast(tab, "figcaption span", "color", ".chart") > 4.5
        assert contrast(tab, ".plot .main", "stroke", ".chart") > 3
        assert contrast(tab, ".tiles .bad strong, .tiles .good strong", "color", ".tiles li") > 4.5
    assert shots[0] != shots[1]


def test_the_browser_would_see_what_is_wrong(tab, tmp_path):
    """What these tests look for is found where it is."""
    bad = tmp_path / "bad.html"
    bad.write_text(
        "<img src='http://127.0.0.1:9/x.png'><p style='width:2000px'>wide</p><script>nothing.at.all</script>"
    )
    tab.open(bad, 390)
    assert tab.faults
    assert "http://127.0.0.1:9/x.png" in tab.requests
    assert tab.evaluate(PICTURES)[0][0] == 0
    assert tab.evaluate(SMALL) > 0


def test_its_policy_forbids_a_request_that_came_in_all_the_same(tab, file, tmp_path):
    bad = tmp_path / "bad.html"
    bad.write_text(
        file.read_text().replace("<main>", "<main><img src='http://127.0.0.1:9/x.png'><script>1</script>")
    )
    tab.open(bad)
    assert any("Content Security Policy" in fault for fault in tab.faults)
    assert tab.evaluate(PICTURES)[0][0] == 0


def contrast(tab: Page, text: str, what: str, ground: str) -> float:
    """WCAG's contrast of the first such element's colour with what lies behind it."""
    colours = [
        tab.evaluate(f"getComputedStyle(document.querySelector({name!r}))[{style!r}]")
        for name, style in ((text, what), (ground, "backgroundColor"))
    ]
    light, dark = sorted((luminance(colour) for colour in colours), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(colour: str) -> float:
    channels = [int(word) / 255 for word in colour[colour.index("(") + 1 : -1].split(",")[:3]]
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
