"""The page as a text: complete, in order, escaped, and with nothing to fetch."""

from __future__ import annotations

import re
from html.parser import HTMLParser

from tests.pages import facts
from vjepa_distill.pages import page
from vjepa_distill.pages.contents import RunFacts
from vjepa_distill.pages.curves import MOST, health, learning, machine, points
from vjepa_distill.pages.evaluated import anticipation, horizon
from vjepa_distill.pages.plots import LEFT, RIGHT, WIDTH, draw
from vjepa_distill.pages.tables import estimate, tables
from vjepa_distill.pages.verdict import sentence, tiles

EVIL = "<img src=x onerror=alert(1)>\"'&{{ 7 * 7 }}"


class Reader(HTMLParser):
    """Every element of a page with its attributes, and whether all were closed in order."""

    VOID = ("meta", "link", "img")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_parts_come_in_order_and_all_are_there():
    text = page([facts.run()], "1.2")
    order = [text.index(f'id="{name}"') for name in ("runs", "curves", "horizon", "tables", "pictures")]
    assert order == sorted(order)
    assert text.count("<img ") == 2 * 4 + 3 + 1 + 1
    assert text.count("a note") == 1
    Reader(text)


def test_every_picture_and_plot_has_words_and_nothing_is_fetched():
    for tag, given in Reader(page([facts.run("a"), facts.run("b", 0.1)], "1")).elements:
        assert tag not in ("script", "iframe", "object", "embed", "form")
        assert not any(name.startswith("on") for name in given)
        if tag == "img":
            assert given["alt"]
            assert (given["src"] or "").startswith("data:image/")
        if given.get("role") == "img":
            assert given["aria-label"]
        if tag in ("a", "link"):
            assert re.match("#|data:,", given["href"] or "")


def test_a_strangers_names_are_text():
    shown = facts.clips()
    evil = facts.run(EVIL, facts=[(EVIL, EVIL)], settings=EVIL, folder=EVIL, verdict=EVIL, clips=shown)
    elements = Reader(page([evil], EVIL)).elements
    assert {given["src"][:5] for tag, given in elements if tag == "img" and given["src"]} == {"data:"}
    assert "49" not in page([evil], EVIL).split("<main>")[0].split("<title>")[1]


def test_what_was_not_evaluated_says_what_to_type():
    text = page([facts.run(evaluation=None)], "1")
    assert text.count("vjepa-distill evaluate runs/future") == 2


def test_a_run_that_has_only_begun_has_a_page():
    empty = facts.run(rows=[], evaluation=None, clips=None, why_no_clips="No pictures: gone.")
    text = page([empty], "1")
    assert "Nothing is in its log" in text
    assert "No pictures: gone." in text
    assert "Step 0 of 20" in text
    Reader(text)


def test_curves_have_their_floors():
    charts = {chart.title: chart for chart in learning([facts.run()])}
    skill = charts["SOON: skill"]
    assert [(line.label, line.style) for line in skill.lines] == [
        ("held out", "main"),
        ("training", "faint"),
        ("the rival", "floor"),
    ]
    assert skill.lines[0].points == [(20, 0.1)]
    found = charts["EVENTUALLY: retrieval"]
    assert [line.label for line in found.lines] == ["held out", "chance"]
    assert found.lines[1].points == [(20, 0.1)]
    [rank] = health([facts.run()])
    assert rank.lines[-1].points == [(0, 3.0)]
    assert [chart.title for chart in machine([facts.run()])] == ["Learning rate"]


def test_distillation_stands_beside_the_mean_token_and_shuffled_ones():
    row = {"step": 5, "heldout/cosine": 0.6, "heldout/cosine_floor": 0.5, "heldout/cosine_shuffled": 0.4}
    [chart, r2] = learning([facts.run(stage="distill", rows=[{**row, "heldout/r2": 0.1}])])
    assert {line.label: line.points for line in r2.lines} == {"held out": [(5, 0.1)], "mean token": [(0, 0)]}
    assert {line.label: line.points for line in chart.lines} == {
        "held out": [(5, 0.6)],
        "mean token": [(5, 0.5)],
        "right tokens, wrong places": [(5, 0.4)],
    }


def test_numbers_that_this_version_does_not_know_are_drawn_too():
    rows = [{"step": 1, "strange": 2.0, "strange/skill": 0.1, "heldout/strange/skill": None}]
    charts = {chart.title: chart for chart in learning([facts.run(rows=rows)])}
    assert list(charts) == ["strange", "strange/skill"]
    assert charts["strange/skill"].lines[-1].label == "the rival"


def test_the_floor_of_a_single_point_is_drawn_from_the_beginning():
    """A run that was scored once, at its end: what it has to beat goes across the plot."""
    row = {"step": 20, "heldout/cosine": 0.6, "heldout/cosine_floor": 0.5}
    [chart] = learning([facts.run(rows=[row])])
    drawn = draw(chart)
    (path,) = re.findall(r'points="([^"]*)" class="line floor', drawn)
    (x0, y0), (x1, y1) = (map(float, point.split(",")) for point in path.split())
    assert (x0, x1, y0) == (LEFT, WIDTH - RIGHT, y1)


def test_where_few_points_are_held_out_several_runs_show_their_training_too():
    rows = [{"step": step, "soon": 1.0 / step} for step in (1, 2, 3)]
    one = facts.run("a", rows=[*rows, {"step": 3, "heldout/soon": 0.5}])
    two = facts.run("b", rows=[{**row, "heldout/soon": 0.5} for row in rows])
    [chart] = learning([one, two])
    assert [(line.label, line.style) for line in chart.lines] == [
        ("a", "main"), ("a, training", "faint"), ("b", "main"),
    ]  # fmt: skip


def test_scores_that_are_not_the_same_thing_stand_in_plots_of_their_own():
    rows = [{"step": 3, "heldout/score": 0.5}]
    runs = [facts.run(name, rows=rows, judged_by=kind) for name, kind in (("a", "x"), ("b", "y"), ("c", "x"))]
    charts = learning(runs)
    assert [[(line.label, line.colour) for line in chart.lines] for chart in charts] == [
        [("a", 0), ("c", 2)], [("b", 1)],
    ]  # fmt: skip
    assert [chart.words.rpartition(" ")[2] for chart in charts] == ["x", "y"]


def test_several_runs_share_a_plot_and_a_long_log_is_thinned():
    one = facts.run("a", rows=[{"step": n, "soon": float(n)} for n in range(1, 10_001)])
    two = facts.run("b", rows=[{"step": 7, "soon": 1.0}])
    [chart] = learning([one, two])
    assert [line.label for line in chart.lines] == ["a", "b"]
    assert len(chart.lines[0].points) <= MOST
    assert points(one, "soon")[-1] == (10_000, sum(range(9_976, 10_001)) / 25)


def test_the_horizon_has_its_intervals():
    [chart] = horizon([facts.run()])
    assert chart.lines[0].points == [(1, 0.1), (2, 0.2)]
    assert [round(low, 3) for low, _ in chart.lines[0].band] == [0.05, 0.15]
    [both] = horizon([facts.run("a"), facts.run("b", 0.1)])
    assert [line.label for line in both.lines[:2]] == ["a", "b"]
    assert horizon([facts.run(evaluation=None)]) == []


def test_without_an_evaluation_the_horizon_is_the_logs():
    row = {"step": 9, "soon/skill/1": 9.0, "heldout/soon/skill/2": 0.2, "heldout/soon/skill/1": 0.1}
    rows = [{"step": 4, "heldout/soon/skill/1": -1.0}, {**row, "heldout/soon/skill_linear/1": 0.4}]
    bare = facts.run(rows=rows, evaluation=None)
    [chart] = horizon([bare])
    assert [(line.label, line.points, line.band) for line in chart.lines[:2]] == [
        ("against repeating the last NOW tubelet", [(1, 0.1), (2, 0.2)], ()),
        ("against going on in a straight line", [(1, 0.4)], ()),
    ]
    assert learning([bare]) == []  # they are drawn once, and not over the steps
    assert "These are from the log" in page([bare], "1")
    persistence, linear = horizon([facts.run("a"), facts.run("b", rows=rows, evaluation=None)])
    assert [line.label for line in persistence.lines[:2]] == ["a", "b"]
    assert [line.colour for line in linear.lines[:1]] == [1]


def test_direction_of_play_stands_beside_its_chance():
    run = facts.run(rows=[{"step": 9, "heldout/direction": 0.4, "heldout/score": 0.1}])
    charts = {chart.title: chart for chart in learning([run])}
    assert charts["Direction of play"].lines[-1].points == [(0, 0.5)]
    assert list(charts) == ["Score", "Direction of play"]
    assert sentence(run) == "On held-out videos: no score that has a rival."
    (tile,) = tiles(run)
    assert (tile.title, tile.value, tile.better) == ("direction of play", "0.40", None)


def test_tables_put_runs_side_by_side():
    titles = [table.title for table in tables([facts.run()])]
    assert len(titles) == 5
    time = tables([facts.run("a"), facts.run("b", 0.1)])[0]
    assert time.head[2:5] == ["a: random weights", "a: where it started", "a: this run"]
    assert [cell.text for cell in time.rows[0][2:]] == ["0.520", "0.620", "0.700", "0.520", "0.620", "0.800"]
    assert [cell.strong for cell in time.rows[0][2:5]] == [False, True, True]
    assert len(tables([facts.run(evaluation=None)])) == 0
    [early] = anticipation([facts.run()])
    assert early.lines[-1].points == [(0, 0.3)]


def test_a_missing_estimate_is_a_dash():
    assert estimate(None).text == estimate({"score": None}).text == "–"


def test_the_verdict_says_above_and_not_above():
    good = facts.run()
    assert sentence(good) == "On held-out videos: SOON and EVENTUALLY above the rival."
    rows = [{"step": 5, "heldout/soon/skill": -0.5, "heldout/now/skill": 0.2}]
    bad: RunFacts = facts.run(rows=rows)
    assert sentence(bad) == "On held-out videos: NOW above the rival; SOON not above the rival."
    assert [(tile.title, tile.better) for tile in tiles(bad)] == [("SOON skill", False), ("NOW skill", True)]
    assert sentence(facts.run(verdict="the student speaks")) == "The student speaks"
