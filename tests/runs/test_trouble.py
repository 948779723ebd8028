"""Runs into which faults are put: what is left out, stopped or gone back on, on one rank and on two alike."""

import json
import math
import os
import statistics
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests import faults
from vjepa_distill.cli import main
from vjepa_distill.training import checkpoint

ROOT = Path(__file__).parents[2]
STEPS = ["--steps=16", "--save_every=5", "--log_every=1", "--keep=0", "--amp=fp32", "--optimizer.warmup=1"]
AT = 12 * 4
"""The first row that the thirteenth update of 4 clips reads."""


def run(command, *options) -> int:
    with pytest.raises(SystemExit) as ended:
        main([command, *map(str, options)])
    return ended.value.code or 0


def rows(folder):
    return [json.loads(row) for row in (folder / "metrics.jsonl").read_text().splitlines()]


def said(folder):
    return " ".join((folder / "train.log").read_text().split())


def state_at(folder, step=None):
    return checkpoint.load(checkpoint.path_for(folder, step))


def same_weights(one, two) -> bool:
    return all(torch.equal(value, two["stage"][name]) for name, value in one["stage"].items())


@pytest.fixture
def options(world_folder, tiny_distill):
    return [*tiny_distill, *STEPS, f"--data.root={world_folder}"]


@pytest.fixture
def jepa_options(world_folder, tiny_jepa):
    return [*tiny_jepa, *STEPS, f"--data.root={world_folder}"]


@pytest.fixture
def broken(monkeypatch):
    """Put a fault into the runs of this test."""

    def inject(command, factors, collapse=()):
        faults.inject(command, factors, collapse, monkeypatch.setattr)

    return inject


@pytest.mark.parametrize(("kind", "factor"), [("spike", 50.0), ("nonfinite", math.nan)])
def test_skip_leaves_that_update_out_and_counts_the_step(kind, factor, options, broken, tmp_path):
    broken("distill", {AT: factor})
    every = [*options, "--save_every=1", f"--trouble.{kind}=skip", f"--out={tmp_path / 'x'}"]
    assert run("distill", *every) == 0
    before, left_out, after = (state_at(tmp_path / "x", step) for step in (12, 13, 14))
    assert same_weights(before, left_out)
    assert not same_weights(left_out, after)
    assert left_out["loader"]["position"] == 13 * 4
    assert before["optimizer"]["state"][0]["step"] == left_out["optimizer"]["state"][0]["step"] == 12
    assert left_out["sound"] is True
    assert "step 13 makes no update" in said(tmp_path / "x")
    assert [row.get("skipped", 0) for row in rows(tmp_path / "x")] == [0] * 12 + [1] * 4


def test_a_spike_is_only_told_unless_asked_for_more(options, broken, tmp_path):
    broken("distill", {AT: 50.0})
    assert run("distill", *options, "--save_every=1", f"--out={tmp_path / 'x'}") == 0
    assert said(tmp_path / "x").count("spike: the loss is") == 1
    usual = statistics.median(row["match"] for row in rows(tmp_path / "x")[:12])
    spike = rows(tmp_path / "x")[12]["match"]
    assert f"the loss is {spike:.4g}, {spike / usual:.1f} times its median of late ({usual:.4g})" in said(
        tmp_path / "x"
    )
    states = [state_at(tmp_path / "x", step) for step in (12, 13, 14)]
    assert not same_weights(*states[:2])
    assert [state["sound"] for state in states] == [True, False, True]


@pytest.mark.parametrize(("kind", "factor"), [("spike", 50.0), ("nonfinite", math.inf)])
def test_stop_ends_the_run_with_a_line_before_the_update(kind, factor, options, broken, tmp_path, capsys):
    broken("distill", {AT: factor})
    assert run("distill", *options, f"--trouble.{kind}=stop", f"--out={tmp_path / 'x'}") == 1
    words = capsys.readouterr().err
    assert {"spike": "spike: the loss is", "nonfinite": "not finite: match"}[kind] in words
    assert "Nothing was updated by that step" in words
    assert f"the last checkpoint is {checkpoint.latest(tmp_path / 'x')}\n" in words
    assert [row["step"] for row in rows(tmp_path / "x")] == list(range(1, 13))


def test_a_rollback_is_a_resume_from_the_sound_checkpoint_with_later_clips_and_half_the_rate(
    options, broken, tmp_path
):
    """Equal bit for bit to a run without the fault, into whose checkpoint the same is written by hand."""
    chosen = [*options, "--trouble.spike=rollback"]
    assert run("distill", *chosen, "--out", tmp_path / "hand") == 0
    planned = [row["lr"] for row in rows(tmp_path / "hand")]
    broken("distill", {AT: 50.0})
    assert run("distill", *chosen, "--out", tmp_path / "x") == 0
    assert (
        "Rolled back from step 12 to 10 (ckpt_10.pt), on with other clips at 0.5 of the rate (1 of 3"
        in said(tmp_path / "x")
    )
    state = state_at(tmp_path / "hand", 10)
    state["loader"]["position"], state["trouble"]["rollbacks"] = AT + 4, 1
    for path in (tmp_path / "hand" / "checkpoints").glob("*.pt"):
        path.unlink()
    checkpoint.save(checkpoint.path_for(tmp_path / "hand", 10), state)
    assert run("distill", "--out", tmp_path / "hand", "--resume") == 0
    ends = [state_at(tmp_path / name) for name in ("x", "hand")]
    assert same_weights(*ends)
    assert [end["loader"]["position"] for end in ends] == [AT + 4 + 6 * 4] * 2
    assert [row["step"] for row in rows(tmp_path / "x")] == list(range(1, 17)), "no step is told twice"
    assert [row["lr"] for row in rows(tmp_path / "x")] == [
        *planned[:10],
        *(rate / 2 for rate in planned[10:]),
    ]
    assert [row.get("rollbacks", 0) for row in rows(tmp_path / "x")] == [0] * 10 + [1] * 6


def test_a_run_that_was_rolled_back_resumes_bit_for_bit(options, broken, tmp_path):
    broken("distill", {AT: math.nan, AT + 8: math.nan})
    for name in ("whole", "cut", "killed"):
        assert run("distill", *options, "--trouble.nonfinite=rollback", "--out", tmp_path / name) == 0
    for name, step in (("cut", 15), ("killed", 10)):  # the state at 10 is that of the second rollback
        for path in (tmp_path / name / "checkpoints").glob("*.pt"):
            if path != checkpoint.path_for(tmp_path / name, step):
                path.unlink()
        assert run("distill", "--out", tmp_path / name, "--resume") == 0
        assert same_weights(state_at(tmp_path / "whole"), state_at(tmp_path / name)), name
        assert state_at(tmp_path / name)["trouble"]["rollbacks"] == 2
        lines = [
            {key: value for key, value in row.items() if key not in ("s/step", "wait")}
            for row in rows(tmp_path / name)
        ]
        assert [row["step"] for row in lines] == list(range(1, 17))


def test_too_many_rollbacks_stop_with_words(options, broken, tmp_path, capsys):
    broken("distill", dict.fromkeys(range(AT, AT + 400), math.nan))
    chosen = [
        *options,
        "--trouble.nonfinite=rollback",
        "--trouble.max_rollbacks=2",
        f"--out={tmp_path / 'x'}",
    ]
    assert run("distill", *chosen) == 1
    assert "rolled back 2 times before (trouble.max_rollbacks)" in capsys.readouterr().err
    assert state_at(tmp_path / "x", 5)["trouble"]["rollbacks"] == 2
    more = ["--resume", "--out", tmp_path / "x", "--trouble.max_rollbacks", 3, "--trouble.nonfinite", "skip"]
    assert run("distill", *more) == 0, "what stopped a run may be answered otherwise when it goes on"


def test_a_checkpoint_whose_next_step_fails_again_is_passed_over(options, broken, tmp_path):
    """Weights can be broken without a sign of it: then the rate does not matter, and other clips do not."""
    broken("distill", {AT: math.nan, AT + 4: math.nan})
    assert run("distill", *options, "--trouble.nonfinite=rollback", "--out", tmp_path / "x") == 0
    assert "Rolled back from step 12 to 10 (ckpt_10.pt)" in said(tmp_path / "x")
    assert "Rolled back from step 10 to 5 (ckpt_5.pt)" in said(tmp_path / "x")
    assert [row["step"] for row in rows(tmp_path / "x")] == list(range(1, 17))


def test_the_only_checkpoint_is_gone_back_to_again(options, broken, tmp_path):
    broken("distill", {4 * 5: math.nan, 4 * 6: math.nan})
    assert run("distill", *options, "--trouble.nonfinite=rollback", "--out", tmp_path / "x") == 0
    assert said(tmp_path / "x").count("Rolled back from step 5 to 5 (ckpt_5.pt)") == 2


@pytest.mark.parametrize("eventually", [0.0, 0.25])
def test_weights_that_say_no_numbers_are_no_best_and_not_gone_back_to(jepa_options, eventually, tmp_path):
    """The third update, at an absurd rate, is finite and leaves weights that nothing can be told with."""
    chosen = [*jepa_options, "--optimizer.lr=1e30", "--optimizer.warmup=6", "--steps=8", "--save_every=1"]
    chosen += [f"--objectives.eventually.weight={eventually}", "--eval_every=1", f"--out={tmp_path / 'x'}"]
    assert run("jepa-train", *chosen, "--trouble.nonfinite=rollback") == 1
    assert checkpoint.load(checkpoint.best_of(tmp_path / "x"))["step"] == 1
    assert state_at(tmp_path / "x", 2)["sound"] is False
    assert "Rolled back from step 2 to 1 (ckpt_" in said(tmp_path / "x")
    assert (tmp_path / "x" / "best" / "student.safetensors").is_file()


def test_with_nothing_sound_to_go_back_to_it_stops_and_says_so(options, broken, tmp_path, capsys):
    broken("distill", {8: math.nan})
    assert run("distill", *options, "--trouble.nonfinite=rollback", f"--out={tmp_path / 'x'}") == 1
    assert "not finite: match; no sound checkpoint to roll back to" in capsys.readouterr().err


def test_forty_updates_left_out_in_a_row_are_the_end(options, broken, tmp_path, capsys):
    broken("distill", dict.fromkeys(range(AT, AT + 1000), math.nan))
    chosen = [*options, "--steps=70", "--log_every=50", "--trouble.nonfinite=skip", f"--out={tmp_path / 'x'}"]
    assert run("distill", *chosen) == 1
    assert "the 40 updates before were left out, too" in capsys.readouterr().err


FALLEN = ["--collapse.stop=3", "--collapse.warn=1", "--save_every=2", "--keep=1"]


def test_a_collapse_goes_back_to_before_it_though_newer_checkpoints_were_kept(jepa_options, broken, tmp_path):
    """Collapsed by the seventh update, noticed at steps 7, 8 and 9: ckpt_8 is there, but not sound."""
    broken("jepa-train", {}, collapse=[6 * 4])
    chosen = [*jepa_options, *FALLEN, "--trouble.collapse=rollback"]
    assert run("jepa-train", *chosen, "--out", tmp_path / "x") == 0
    words = said(tmp_path / "x")
    assert "for 3 logs in a row" in words
    assert "Rolled back from step 10 to 6 (ckpt_6.pt)" in words
    found = {row["step"]: row["rank"] for row in rows(tmp_path / "x")}
    assert min(found.values()) > 3, "what is left in the log is the second life, which does not collapse"
    assert state_at(tmp_path / "x")["sound"] is True


def test_checkpoints_of_the_life_that_was_left_are_gone_with_it(jepa_options, broken, tmp_path):
    """Stopped by another fault right after the rollback: --resume begins there, and not in the collapse."""
    broken("jepa-train", {10 * 4: math.nan}, collapse=[6 * 4])
    chosen = [*jepa_options, *FALLEN, "--keep=0", "--trouble.collapse=rollback", "--out", tmp_path / "x"]
    assert run("jepa-train", *chosen) == 1
    assert "Rolled back from step 10 to 6" in said(tmp_path / "x")
    assert checkpoint.latest(tmp_path / "x") == checkpoint.path_for(tmp_path / "x", 6)
    state = state_at(tmp_path / "x", 6)
    assert (state["loader"]["position"], state["trouble"]["rollbacks"]) == (10 * 4, 1)


@pytest.mark.parametrize(("response", "code"), [("warn", 0), ("stop", 1)])
def test_a_collapse_is_told_or_ends_the_run(response, code, jepa_options, broken, tmp_path, capsys):
    broken("jepa-train", {}, collapse=[6 * 4])
    chosen = [*jepa_options, *FALLEN, f"--trouble.collapse={response}", "--eval_every=4"]
    assert run("jepa-train", *chosen, "--out", tmp_path / "x") == code
    assert "for 3 logs in a row" in " ".join(capsys.readouterr().err.split())
    best = checkpoint.load(checkpoint.best_of(tmp_path / "x"))
    assert (best["step"], best["sound"]) == (4, True), "a collapsed step is never the best"


@pytest.mark.slow
def test_two_ranks_decide_as_one(jepa_options, tmp_path):
    """A number that is none and a spike in rows of the second rank alone, then a collapse of both."""
    fault = {"factors": {6 * 4 + 2: math.nan, AT + 2: 50.0}, "collapse": [76, 78]}
    answers = ["--trouble.nonfinite=skip", "--trouble.spike=rollback", "--trouble.collapse=rollback"]
    chosen = [*jepa_options, "--steps=24", "--batch_size=2", "--collapse.stop=3", *answers, "--out=two"]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    program = [*torchrun, ROOT / "tests" / "faults.py", json.dumps(fault), "jepa-train", *chosen]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [str(word) for word in program], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr[-4000:]
    log, state = said(tmp_path / "two"), state_at(tmp_path / "two")
    for words in (
        "not finite: a loss on another rank: step 7 makes no update",
        "Rolled back from step 12 to 10 (ckpt_10.pt), on with other clips at 0.5 of the rate",
        "Rolled back from step 20 to 15 (ckpt_15.pt), on with other clips at 0.25 of the rate",
    ):
        assert log.count(words) == 1, words
    assert (state["trouble"]["rollbacks"], state["trouble"]["skipped"], state["sound"]) == (2, 1, True)
    assert state["loader"]["position"] == (24 + 3 + 5) * 4
    assert [row["step"] for row in rows(tmp_path / "two")] == list(range(1, 25))
    assert all(torch.isfinite(value).all() for value in state["stage"].values() if value.is_floating_point())
