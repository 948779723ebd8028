"""2 gloo ranks equal 1 rank on the whole batch: losses, gradients, weights, teacher, queue; runs too."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests import ranks_worker
from vjepa_distill.distributed import Ranks
from vjepa_distill.training import checkpoint

HERE = Path(__file__).parent
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


def torchrun(*command, cwd):
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(HERE.parent)}
    done = subprocess.run(
        [*TORCHRUN, *map(str, command)], cwd=cwd, env=env, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done


def test_two_ranks_equal_one_in_losses_gradients_teacher_and_queue(tmp_path):
    torchrun(HERE / "ranks_worker.py", tmp_path / "two.pt", cwd=tmp_path)
    together = torch.load(tmp_path / "two.pt")
    alone = {kind: ranks_worker.run(Ranks(), stage=ranks_worker.sharper(kind)) for kind in ranks_worker.KINDS}
    alone["tri-temporal"] = ranks_worker.run(Ranks())
    alone["unasked"] = ranks_worker.run(Ranks(), stage=ranks_worker.unasked())
    assert together.keys() == alone.keys()
    for kind, one in alone.items():
        equal(one, together[kind], kind)


def equal(one, two, kind):
    for step, losses in enumerate(one["losses"]):
        for name, value in losses.items():
            assert two["losses"][step][name] == pytest.approx(value, abs=1e-10), (kind, step, name)
    for part in ("gradients", "state"):
        assert one[part].keys() == two[part].keys()
        for name, value in one[part].items():
            torch.testing.assert_close(
                two[part][name], value, atol=1e-9, rtol=0, msg=lambda m, n=name: f"{kind} {n}: {m}"
            )


def test_accumulation_averages_batches():
    """NOW and SOON are means over rows; EVENTUALLY is not: its negatives are those of one forward pass."""
    whole, halves = ranks_worker.build(), ranks_worker.build()
    weights = {"now": 1.0, "soon": 1.0, "eventually": 0.0}
    for stage, parts in ((whole, 1), (halves, 2)):
        for part in range(parts):
            losses = stage(ranks_worker.batch(0, 0, 1, part, parts))
            (sum(weights[n] * v for n, v in losses.items()) / parts).backward()
    for (name, a), b in zip(whole.named_parameters(), halves.parameters(), strict=True):
        if a.grad is not None and "eventually" not in name:
            torch.testing.assert_close(b.grad, a.grad, atol=1e-10, rtol=0)


@pytest.mark.slow
def test_whole_runs_under_torchrun_equal_one_process(tmp_path, world_folder, tiny_jepa):
    cli = ["-m", "vjepa_distill", "jepa-train", *tiny_jepa, "--data.root", str(world_folder), "--amp", "fp32"]
    torchrun(*cli, "--out", "two", "--batch_size", "2", cwd=tmp_path)
    alone = [sys.executable, *cli, "--out", "one", "--batch_size", "4", "--threads", "1"]
    subprocess.run(alone, cwd=tmp_path, check=True, capture_output=True, timeout=240)
    for name in ("student", "teacher"):
        one, two = (load_file(tmp_path / run / f"{name}.safetensors") for run in ("one", "two"))
        for key, value in one.items():
            torch.testing.assert_close(two[key], value, atol=2e-5, rtol=0, msg=lambda m, k=key: f"{k}: {m}")


@pytest.mark.slow
@pytest.mark.parametrize("wrong", ["--data.root=nowhere", "--out=used"])
def test_what_the_first_rank_refuses_ends_all_ranks_with_one_line(wrong, tmp_path, world_folder, tiny_jepa):
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "mine.txt").write_text("mine")
    options = [*tiny_jepa, f"--data.root={world_folder}", "--out=run", wrong]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(HERE.parent)}
    command = [*TORCHRUN, "-m", "vjepa_distill", "jepa-train", *options]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=240)
    assert done.returncode != 0
    assert done.stderr.count("vjepa-distill: error:") == 1, done.stderr[-3000:]
    assert "Connection closed" not in done.stderr
    assert re.search(r"rank +: 0 \(local_rank: 0\)\n *exitcode +: 2 ", done.stderr), done.stderr[-3000:]


@pytest.mark.slow
def test_ctrl_c_under_torchrun_saves_on_a_step_of_all_ranks(tmp_path, world_folder, tiny_jepa):
    """As a terminal does it: the signal goes to torchrun and every rank, and torchrun passes it on."""
    options = [*tiny_jepa, "--steps=5000", "--save_every=0", f"--data.root={world_folder}", "--out=run"]
    command = [*TORCHRUN, "-m", "vjepa_distill", "jepa-train", *options, "--batch_size", "2"]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(HERE.parent)}
    process = subprocess.Popen(
        command, cwd=tmp_path, env=env, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    metrics, until = tmp_path / "run" / "metrics.jsonl", time.monotonic() + 150
    while not metrics.exists() or not metrics.read_text():
        assert time.monotonic() < until, "no step was made"
        time.sleep(0.2)
    os.killpg(process.pid, signal.SIGINT)
    said = process.communicate(timeout=90)[1]
    assert process.returncode != 0
    assert said.count("stopped and saved; go on with: torchrun --nproc_per_node 2") == 1, said[-3000:]
    (saved,) = (tmp_path / "run" / "checkpoints").glob("ckpt_*.pt")
    assert checkpoint.load(saved)["step"] > 0
