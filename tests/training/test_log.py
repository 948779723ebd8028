"""What a run says can be read back, by programs and by people."""

import json
import re

import pytest

from vjepa_distill.progress import clock, folded, progress_bar
from vjepa_distill.training.log import RunLog, line, truncate_rows

VALUES = {
    "loss": 0.612345,
    "now": 0.5,
    "soon": 0.23,
    "eventually": 1.7,
    "now/skill": 0.25,
    "rank": 37.123,
} | {
    "std": 0.8,
    "lr": 3e-4,
    "s/step": 0.8123,
}


def rows(run):
    return [json.loads(row) for row in (run / "metrics.jsonl").read_text().splitlines()]


def test_a_resumed_run_lives_its_rows_only_once(tmp_path, capsys):
    with RunLog(tmp_path, total=4) as log:
        for step in (1, 2, 3):
            log.metrics(step, {"loss": float(step)})
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"step": 4, "lo')  # killed while writing
    with RunLog(tmp_path, total=4, start=2) as log:
        log.metrics(3, {"loss": 30.0})
    assert [(row["step"], row["loss"]) for row in rows(tmp_path)] == [(1, 1.0), (2, 2.0), (3, 30.0)]
    assert "step 3/4  loss 30" in capsys.readouterr().err
    assert (tmp_path / "train.log").read_text().count("step") == 4, "the text log keeps what was said"
    assert list((tmp_path / "tensorboard").iterdir())


def test_numbers_that_are_none_are_null_and_never_zero(tmp_path):
    with RunLog(tmp_path, total=1) as log:
        log.metrics(1, {"loss": float("nan")})
    assert rows(tmp_path) == [{"step": 1, "loss": None}]


def test_other_ranks_write_and_say_nothing(tmp_path, capsys):
    with RunLog(tmp_path / "run", total=2, rank=1) as log:
        log.metrics(1, VALUES)
        log.advance(2)
        log.say("hello")
    assert not (tmp_path / "run").exists()
    assert capsys.readouterr() == ("", "")


def test_notes_of_single_tubelets_are_for_programs_alone(tmp_path, capsys):
    told = {"soon/skill": 0.5, "soon/skill/1": 0.75, "heldout/soon/skill_linear/12": 0.25, "s/step": 2.0}
    with RunLog(tmp_path, total=1) as log:
        log.metrics(1, told)
    assert rows(tmp_path) == [{"step": 1, **told}]
    (said,) = (tmp_path / "train.log").read_text().splitlines()
    assert said.endswith("step 1/1  soon/skill 0.5  s/step 2")
    assert "soon/skill/1" not in capsys.readouterr().err


def test_a_line_fits_80_columns_and_holds_names_to_numbers():
    said = line(120, 5000, VALUES, 80).splitlines()
    assert max(map(len, said)) <= 80
    assert len(said) == 2
    words = " ".join(said).split()
    assert words[:2] == ["step", "120/5000"]
    assert all(words[words.index(name) + 1][0].isdigit() for name in VALUES)
    assert all(not row.strip()[0].isdigit() for row in said), "no line begins with a number cut from its name"


SAID = "the teacher of this run was found in /a/folder/with-a-name "
SAID += "and has 21 million parameters in twelve blocks"
KNOWN = {
    60: """\
the teacher of this run was found in /a/folder/with-a-name
  and has 21 million parameters in twelve blocks
step  120/5000  loss 0.6123  now 0.5  soon 0.23
                eventually 1.7  now/skill 0.25  rank 37.12
                std 0.8  lr 3.0e-04  s/step 0.8123
""",
    100: """\
the teacher of this run was found in /a/folder/with-a-name and has 21 million parameters in twelve
  blocks
step  120/5000  loss 0.6123  now 0.5  soon 0.23  eventually 1.7  now/skill 0.25  rank 37.12  std 0.8
                lr 3.0e-04  s/step 0.8123
""",
}
STAMPED = {
    60: """\
# the teacher of this run was found in
                      /a/folder/with-a-name and has 21
                      million parameters in twelve blocks
# step  120/5000  loss 0.6123  now 0.5
                                    soon 0.23
                                    eventually 1.7
                                    now/skill 0.25
                                    rank 37.12  std 0.8
                                    lr 3.0e-04
                                    s/step 0.8123
""",
    100: """\
# the teacher of this run was found in /a/folder/with-a-name and has 21 million
                      parameters in twelve blocks
# step  120/5000  loss 0.6123  now 0.5  soon 0.23  eventually 1.7  now/skill 0.25
                                    rank 37.12  std 0.8  lr 3.0e-04  s/step 0.8123
""",
}
TIME = re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", re.MULTILINE)


@pytest.mark.parametrize("columns", [60, 100])
def test_screen_and_log_fold_at_the_terminals_width(tmp_path, capsys, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    with RunLog(tmp_path, total=5000) as log:
        log.say(SAID)
        log.metrics(120, VALUES)
    assert capsys.readouterr().err == KNOWN[columns]
    written = (tmp_path / "train.log").read_text()
    assert TIME.sub("#", written) == STAMPED[columns]
    assert max(map(len, written.splitlines())) <= columns


def test_the_width_is_asked_at_each_line_and_40_holds_all(tmp_path, capsys, monkeypatch):
    with RunLog(tmp_path, total=5000) as log:
        for columns in ("100", "40", "7"):
            monkeypatch.setenv("COLUMNS", columns)
            log.say(SAID)
            log.metrics(120, VALUES | {"eventually/skill": 0.1234})
    wide, *narrow = capsys.readouterr().err.split("the teacher")[1:]
    assert max(map(len, wide.splitlines())) > 40
    written = (tmp_path / "train.log").read_text().split("the teacher", 2)[2]
    assert max(len(row) for text in (*narrow, written) for row in text.splitlines()) <= 40


def test_what_has_lines_already_keeps_them_and_a_long_word_stays_whole(tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    path = "/a" * 40
    assert folded(f"one\n\n  two {path}", 60) == f"one\n\n  two\n    {path}"
    with RunLog(tmp_path, total=1) as log:
        log.say("one\n  two")
    assert TIME.sub("#", (tmp_path / "train.log").read_text()) == "# one\n" + " " * 20 + "  two\n"


def test_a_progress_line_fits_the_terminal(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    with progress_bar("counting the frames of the videos", 5000, every=0) as bar:
        bar.update(1000)
    assert [len(row) <= 40 for row in capsys.readouterr().err.splitlines()] == [True, True]


def test_a_missing_metrics_file_is_no_trouble(tmp_path):
    truncate_rows(tmp_path / "metrics.jsonl", 3)


def test_times_are_written_as_on_a_clock():
    assert [clock(seconds) for seconds in (4, 62, 3723)] == ["0:04", "1:02", "1:02:03"]
