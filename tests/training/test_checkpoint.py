"""Checkpoints bring everything back, survive being killed, and refuse what they cannot read."""

import random

import numpy as np
import pytest
import torch

from vjepa_distill.errors import UserError
from vjepa_distill.files import write_atomic
from vjepa_distill.training import checkpoint
from vjepa_distill.training.rng import rng_state, set_rng_state


def test_a_state_comes_back_as_it_was(tmp_path):
    weight = torch.nn.Linear(3, 2).double()
    optimizer = torch.optim.AdamW(weight.parameters())
    weight(torch.ones(1, 3).double()).sum().backward()
    optimizer.step()
    state = {"step": 7, "optimizer": optimizer.state_dict(), "rng": rng_state(), "best": None, "name": "x"}
    back = checkpoint.load(checkpoint.save(tmp_path / "a.pt", state))
    assert back.pop("format") == 1
    assert back["step"] == 7
    moments = state["optimizer"]["state"][0]["exp_avg"]
    assert torch.equal(back["optimizer"]["state"][0]["exp_avg"], moments)
    assert back["optimizer"]["param_groups"] == state["optimizer"]["param_groups"]


def test_random_numbers_go_on_where_they_were_after_a_file(tmp_path):
    path = checkpoint.save(tmp_path / "a.pt", {"rng": rng_state()})

    def draw():
        return torch.rand(3).tolist(), np.random.rand(3).tolist(), np.random.randn(), random.random()

    drawn = draw()
    draw()
    set_rng_state(checkpoint.load(path)["rng"])
    assert draw() == drawn


def test_what_could_not_be_read_later_is_refused_at_save(tmp_path):
    with pytest.raises(TypeError, match=r"state\['loader'\]\[1\] is a float64"):
        checkpoint.save(tmp_path / "a.pt", {"loader": [1, np.float64(2)]})
    assert not list(tmp_path.iterdir())


def test_a_crash_while_writing_leaves_the_old_file(tmp_path):
    path = checkpoint.save(tmp_path / "a.pt", {"step": 1})

    def crash(file):
        file.write(b"half a checkpoint")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomic(path, crash)
    assert checkpoint.load(path)["step"] == 1
    assert list(tmp_path.iterdir()) == [path]


def test_damaged_newer_and_foreign_files_are_refused_in_words(tmp_path):
    path = checkpoint.save(tmp_path / "a.pt", {"weight": torch.randn(1000)})
    (tmp_path / "b.pt").write_bytes(path.read_bytes()[:1500])
    torch.save({"format": 2}, tmp_path / "c.pt")
    torch.save({"model": torch.zeros(1)}, tmp_path / "d.pt")
    for name, words in {
        "b": "damaged",
        "c": "format 2.*upgrade",
        "d": "no format",
        "e": "no checkpoint",
    }.items():
        with pytest.raises(UserError, match=words):
            checkpoint.load(tmp_path / f"{name}.pt")


def test_latest_counts_steps_not_names_and_prune_keeps_the_last(tmp_path):
    assert checkpoint.latest(tmp_path) is None
    for step in (5, 100, 20):
        checkpoint.save(checkpoint.path_for(tmp_path, step), {"step": step})
    assert checkpoint.latest(tmp_path) == checkpoint.path_for(tmp_path, 100)
    final = checkpoint.save(checkpoint.path_for(tmp_path), {"step": 100})
    assert checkpoint.latest(tmp_path) == final, "the same step, and the end of the run"
    checkpoint.save(checkpoint.path_for(tmp_path, 120), {"step": 120})
    assert checkpoint.latest(tmp_path) == checkpoint.path_for(tmp_path, 120), "a run continued past its end"
    checkpoint.prune(tmp_path, keep=2)
    left = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert left == ["ckpt_100.pt", "ckpt_120.pt", "ckpt_final.pt"]


def test_an_older_format_is_read_and_a_newer_one_refused(tmp_path, monkeypatch):
    checkpoint.save(tmp_path / "c.pt", {"step": 1})
    monkeypatch.setattr(checkpoint, "FORMAT", 2)
    assert checkpoint.load(tmp_path / "c.pt") == {"step": 1, "format": 1}
