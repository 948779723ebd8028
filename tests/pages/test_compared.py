"""The table of runs side by side: every difference with its interval, those that are one in bold."""

from __future__ import annotations

from typing import Any

from tests.pages import facts
from vjepa_distill.pages import page
from vjepa_distill.pages.compared import more, tables


def pair(run: str, score: float, low: float, high: float) -> dict[str, Any]:
    return {"run": run, "against": "runs/a", "score": score, "low": low, "high": high}


TOLD = {
    "runs": ["runs/a", "runs/b", "runs/c"],
    "differences": [
        {"what": "time/direction/mean", "base": 0.75, "pairs": [pair("runs/b", 0.05, 0.01, 0.09)]},
        {
            "what": "labels/a/b/knn",
            "base": 0.5,
            "pairs": [pair("runs/c", -0.125, -0.2, -0.05), pair("runs/b", -0.001, -0.1, 0.1)],
        },
        {"what": "horizon/persistence", "base": 0.1234, "pairs": [pair("runs/b", 0.0, 0.0, 0.0)]},
        {"what": "horizon/persistence/2", "base": 0.25, "pairs": [pair("runs/b", 0.0, 0.0, 0.0)]},
        {"what": "eventually/videos", "base": 0.5, "pairs": [pair("runs/b", 0.0, 0.0, 0.0)]},
        {"what": "new/thing", "base": 1, "pairs": [pair("runs/b", 0.0, -0.1, 0.1)]},
    ],
}


def test_differences_stand_under_their_runs_and_those_clear_of_0_are_bold():
    [table] = tables([facts.run(comparison=TOLD)])
    assert table.head == ["", "runs/a", "runs/b: more", "runs/c: more"]
    told = [[(cell.text, cell.beside, cell.strong) for cell in row] for row in table.rows]
    assert told == [
        [
            ("direction of play", "mean token", False),
            ("0.750", "", False),
            ("+0.050", "+0.010 to +0.090", True),
            ("–", "", False),
        ],
        [
            ("a/b", "k-NN", False),
            ("0.500", "", False),
            ("−0.001", "−0.100 to +0.100", False),
            ("−0.125", "−0.200 to −0.050", True),
        ],
        [
            ("SOON’s skill", "repeating the last NOW tubelet", False),
            ("0.123", "", False),
            ("0.000", "0.000 to 0.000", False),
            ("–", "", False),
        ],
        [
            ("SOON’s skill", "repeating the last NOW tubelet, 2 ahead", False),
            ("0.250", "", False),
            ("0.000", "0.000 to 0.000", False),
            ("–", "", False),
        ],
        [
            ("EVENTUALLY’s retrieval", "among videos", False),
            ("0.500", "", False),
            ("0.000", "0.000 to 0.000", False),
            ("–", "", False),
        ],
        [
            ("new/thing", "", False),
            ("1.000", "", False),
            ("0.000", "−0.100 to +0.100", False),
            ("–", "", False),
        ],
    ]


def test_bold_agrees_with_the_interval_as_it_is_told():
    for low, high, told, strong in (
        (-0.006, -0.002, "−0.006 to −0.002", True),
        (-0.0006, -0.0001, "−0.001 to 0.000", False),
        (0.0004, 0.02, "0.000 to +0.020", False),
        (0.0006, 0.02, "+0.001 to +0.020", True),
    ):
        cell = more(pair("runs/b", 0.01, low, high))
        assert (cell.beside, cell.strong) == (told, strong)


def test_it_is_on_the_page_of_a_run_that_was_compared_and_of_no_other():
    assert "Beside other runs" not in page([facts.run()], "1")
    assert "Beside other runs</strong>" in page([facts.run(comparison=TOLD)], "1")
    both = page([facts.run("x"), facts.run("y", comparison=TOLD)], "1")
    assert "Beside other runs: y</strong>" in both
    assert "Beside other runs: x" not in both
