"""A process that hangs or dies costs its task, with the reason, and nothing else."""

import os
import signal
import time

import pytest

from vjepa_distill.data.pool import Pool


def work(task, say):
    say(f"on {task}")
    if task == "hang":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # as a decoder does that is deaf inside C
        time.sleep(600)
    if task == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if task == "leave":
        os._exit(3)
    if task == "raise":
        raise KeyError("a mistake in the work")
    if task == "slow but speaking":
        for _ in range(4):
            time.sleep(0.3)
            say("still here")
    return task * 2


@pytest.fixture
def pool():
    pool = Pool(work, workers=2, timeout=0.8)
    yield pool
    pool.close()


def outcomes(pool, tasks):
    for task in tasks:
        pool.submit(task, task)
    return {outcome.key: outcome for outcome in (pool.next() for _ in tasks)}


def test_losses_are_named_and_the_rest_is_done(pool):
    tasks = ["a", "hang", "b", "die", "c", "leave", *"defgh"]
    done = outcomes(pool, tasks)
    assert {key: outcome.value for key, outcome in done.items() if not outcome.lost} == {
        k: k * 2 for k in "abcdefgh"
    }
    assert "no answer within 0.8 s" in done["hang"].lost
    assert "SIGKILL" in done["die"].lost
    assert "code 3" in done["leave"].lost
    assert [done[key].said for key in ("hang", "die", "leave")] == ["on hang", "on die", "on leave"]


def test_a_word_restarts_the_limit(pool):
    assert outcomes(pool, ["slow but speaking"])["slow but speaking"].lost == ""


def test_a_mistake_in_the_work_is_raised_here(pool):
    with pytest.raises(KeyError, match="a mistake in the work"):
        outcomes(pool, ["raise"])


def test_results_larger_than_a_pipe_are_taken_while_nobody_waits(pool):
    for key in range(6):
        pool.submit(key, bytes(10**6))
    time.sleep(0.5)
    assert pool._done.qsize() == 6  # taken in by the thread, not by `next`


def test_close_leaves_no_process(pool):
    pool.submit(0, "hang")
    time.sleep(0.1)
    pool.close()
    assert not any(hand.process.is_alive() for hand in pool._hands if not hand.process._closed)
