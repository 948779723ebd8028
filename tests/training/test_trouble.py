"""What a spike is, and what each answer does the first time, the last time and once too often."""

import pytest

from vjepa_distill.errors import UserError
from vjepa_distill.settings import DistillConfig, JepaConfig, Trouble
from vjepa_distill.training import checkpoint
from vjepa_distill.training.health import Collapsed
from vjepa_distill.training.log import RunLog
from vjepa_distill.training.step import Diverged
from vjepa_distill.training.trouble import IN_A_ROW, LEAST, WINDOW, Spiked, Troubles


def troubles(**settings):
    heard: list[str] = []
    return Troubles(Trouble(**settings), heard.append), heard


def test_a_spike_is_so_many_times_the_median_of_the_last_steps():
    made, heard = troubles(spike_factor=4.0)
    for loss in [1.0] * (LEAST - 1) + [100.0]:
        made.judge(loss)
    assert not heard, "the median of a few steps is no usual loss"
    for _ in range(WINDOW):
        made.judge(2.0)
    made.judge(7.9)
    assert not heard
    for _ in range(3):
        made.judge(8.1)
    assert heard == ["spike: the loss is 8.1, 4.0 times its median of late (2)"], "said once"
    assert made.spiked
    made.judge(2.0)
    assert not made.spiked
    for _ in range(WINDOW):
        made.judge(50.0)
    made.judge(50.0)
    assert not made.spiked, "what goes on is the usual loss"


def test_losses_of_0_and_below_know_no_spike():
    made, heard = troubles()
    for loss in [0.0] * 20 + [-1.0] * 40 + [5.0]:
        made.judge(loss)
    assert not heard


@pytest.mark.parametrize("answer", ["skip", "stop", "rollback"])
def test_a_spike_that_is_more_than_told_comes_before_the_update(answer):
    made, _ = troubles(spike=answer)
    for _ in range(LEAST):
        made.judge(1.0)
    with pytest.raises(Spiked, match=r"the loss is 50, 50\.0 times"):
        made.judge(50.0)
    assert not made.spiked, "no update was made of it"


def test_each_kind_of_trouble_has_its_own_answer():
    made, _ = troubles(nonfinite="skip", spike="rollback", collapse="stop")
    assert made.skips(Diverged("x"))
    assert not made.skips(Spiked("x"))
    made.count_rollback(Spiked("x"))
    with pytest.raises(Collapsed, match=r"^gone$"):
        made.count_rollback(Collapsed("gone"))
    assert made.counts == {"skipped": 1.0, "rollbacks": 1.0}
    assert made.rate == 0.5


def test_patience_ends():
    made, _ = troubles(nonfinite="skip")
    for _ in range(IN_A_ROW):
        assert made.skips(Diverged("x"))
    with pytest.raises(Diverged, match="x; the 40 updates before were left out, too"):
        made.skips(Diverged("x"))
    made.passed()
    assert made.skips(Diverged("x"))
    other, _ = troubles(collapse="rollback", max_rollbacks=1)
    other.count_rollback(Collapsed("x"))
    with pytest.raises(Collapsed, match="x; rolled back 1 times before"):
        other.count_rollback(Collapsed("x"))


def test_its_state_comes_back():
    made, _ = troubles(nonfinite="rollback")
    for loss in (1.0, 2.0):
        made.judge(loss)
    made.count_rollback(Diverged("x"))
    other, _ = troubles()
    other.load_state_dict(made.state_dict())
    assert other.state_dict() == made.state_dict()
    assert other.losses.maxlen == WINDOW
    other.load_state_dict({})


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"collapse": "skip"}, "trouble.collapse=skip: .*type warn, stop or rollback"),
        ({"nonfinite": "warn"}, "trouble.nonfinite=warn: .*type skip"),
        ({"spike": "ignore"}, "spike='ignore' is no"),
        ({"spike_factor": 1.0}, "trouble.spike_factor=1.0: give a number above 1"),
        ({"max_rollbacks": -1}, "trouble.max_rollbacks=-1: give 0 or more"),
        ({"spike": "rollback", "max_rollbacks": 0}, "trouble.max_rollbacks=0 allows no rollback"),
    ],
)
def test_what_makes_no_sense_is_refused(settings, words):
    with pytest.raises(UserError, match=words):
        Trouble(**settings)


def test_a_rollback_that_would_never_come_is_refused():
    chosen = {"trouble": {"collapse": "rollback"}, "spans": {"now": 4, "soon": 16, "eventually": 64}}
    with pytest.raises(UserError, match=r"collapse\.stop=0 is never"):
        JepaConfig(out="x", collapse={"stop": 0}, **chosen)
    assert JepaConfig(out="x", **chosen).trouble.collapse == "rollback"
    with pytest.raises(UserError, match="targets that hold still cannot collapse"):
        JepaConfig(out="x", targets={"kind": "frozen"}, **chosen)
    with pytest.raises(UserError, match="targets that hold still cannot collapse"):
        DistillConfig(out="x", teachers={"main": {"name": "conv/small"}}, trouble={"collapse": "rollback"})
    assert JepaConfig(out="x", collapse={"stop": 0}).collapse.stop == 0


def test_the_last_sound_checkpoint_and_what_is_kept_for_it(tmp_path):
    def save(path, step, **more):
        return checkpoint.save(path, {"step": step, **more})

    assert checkpoint.last_sound(tmp_path, 99) is None
    paths = {step: checkpoint.path_for(tmp_path, step) for step in (1, 2, 3, 4, 5)}
    for step, sound in {1: True, 2: True, 3: False, 4: False, 5: True}.items():
        save(paths[step], step, sound=sound)
    save(checkpoint.path_for(tmp_path), 5, sound=True)
    assert checkpoint.last_sound(tmp_path, 99) == paths[5]
    assert checkpoint.last_sound(tmp_path, 4) == paths[2]
    best = save(checkpoint.best_of(tmp_path), 3, sound=True)
    assert checkpoint.last_sound(tmp_path, 4) == best
    assert checkpoint.last_sound(tmp_path, 2) == paths[2]
    paths[2].write_bytes(b"damaged")
    assert checkpoint.last_sound(tmp_path, 2) == paths[1]
    save(paths[2], 2)
    assert checkpoint.last_sound(tmp_path, 2) == paths[1], "an older version's does not say"
    checkpoint.forget_after(tmp_path, 4)
    checkpoint.prune(tmp_path, keep=1, spare=paths[1])
    left = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert left == ["ckpt_1.pt", "ckpt_4.pt", "ckpt_best.pt", "ckpt_final.pt"]
    assert checkpoint.latest(tmp_path) == checkpoint.path_for(tmp_path)
    checkpoint.path_for(tmp_path).unlink()
    save(best, 90)
    assert checkpoint.latest(tmp_path) == paths[4], "the best is not the last"


def test_a_log_that_goes_back_tells_no_step_twice(tmp_path):
    with RunLog(tmp_path, total=4) as log:
        for step in (1, 2, 3):
            log.metrics(step, {"loss": 1.0})
        log.rewind(1)
        log.metrics(2, {"loss": 7.0})
    rows = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert rows == ['{"step": 1, "loss": 1.0}', '{"step": 2, "loss": 7.0}']
    assert (tmp_path / "train.log").read_text().count("step") == 4
