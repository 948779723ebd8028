"""The same mathematics on a GPU: as on the CPU, in every precision, compiled, under NCCL, and by command."""

import json
import os
import subprocess
import sys

import pytest
import torch

from tests import ranks_worker
from tests.runs.test_runs import run
from vjepa_distill.distributed import wrap
from vjepa_distill.training.optim import make_optimizer, precision, set_rate
from vjepa_distill.training.step import train_step

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA: torch finds no device")
CUDA = torch.device("cuda")


@pytest.fixture(autouse=True)
def exact(monkeypatch):
    """cuDNN's convolutions round fp32 to TF32 unless told not to."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


def stages():
    """Every kind of targets with every objective and an anchor."""
    return {
        "plain": ranks_worker.build,
        **{kind: lambda kind=kind: ranks_worker.sharper(kind) for kind in ranks_worker.KINDS},
    }


def single(step=0):
    batch = ranks_worker.batch(step, 0, 1)
    batch.clip = batch.clip.float()
    return batch


def both(make, amp="fp32", compiled=False):
    """Losses and gradients on the CPU in fp32, and on the GPU as asked."""
    sides = []
    for device in (torch.device("cpu"), CUDA):
        stage = make().float().to(device)
        forward = wrap(stage, device, compiled and device == CUDA)
        with precision(amp if device == CUDA else "fp32", device).autocast():
            losses = forward(single().to(device))
        sum(losses.values()).backward()
        gradients = {name: p.grad.cpu() for name, p in stage.named_parameters() if p.grad is not None}
        sides.append(({name: loss.item() for name, loss in losses.items()}, gradients))
    return sides


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("kind", ["plain", *ranks_worker.KINDS])
def test_losses_and_gradients_are_those_of_the_cpu(kind, compiled):
    (losses, gradients), (ours, own) = both(stages()[kind], compiled=compiled)
    assert ours == pytest.approx(losses, rel=1e-4)
    for name, gradient in gradients.items():
        torch.testing.assert_close(
            own[name], gradient, rtol=1e-3, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}"
        )


@pytest.mark.parametrize("amp", ["bf16", "fp16"])
@pytest.mark.parametrize("kind", ["plain", *ranks_worker.KINDS])
def test_half_precision_is_near_fp32(kind, amp):
    (losses, gradients), (ours, own) = both(stages()[kind], amp)
    assert ours == pytest.approx(losses, rel=0.03, abs=1e-4)  # `retain` starts at zero
    whole, mine = (torch.cat([side[name].flatten() for name in gradients]) for side in (gradients, own))
    assert torch.nn.functional.cosine_similarity(whole, mine, dim=0) > 0.99


def test_an_overflow_in_fp16_waits_and_halves_the_scale():
    stage, how = ranks_worker.build().float().to(CUDA), precision("fp16", CUDA)
    how.scaler._init_scale = 2.0**40  # far above what fp16 holds
    optimizer = make_optimizer(stage, (0.9, 0.95), 0.04, decay_all=False)
    set_rate(optimizer, 1e-3)
    before = {name: value.clone() for name, value in stage.state_dict().items()}
    weights = {"now": 1.0, "soon": 1.0, "eventually": 0.25}
    given = (stage, stage, optimizer, how.scaler, [single().to(CUDA)], weights, 1.0, how.autocast, 0)
    assert not train_step(*given).stepped
    assert how.scaler.get_scale() == 2.0**39
    assert all(torch.equal(value, before[name]) for name, value in stage.state_dict().items())
    assert any(train_step(*given).stepped for _ in range(40))
    assert not torch.equal(before["student.norm.weight"], stage.student.norm.weight)


def losses_of(folder):
    """Every logged loss of a run, step by step."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    found = [row[name] for row in rows for name in ("match", "now", "soon", "eventually") if name in row]
    assert len(found) >= len(rows) == 4
    return found


@pytest.mark.parametrize(
    "more", [["--amp=bf16"], ["--amp=fp16"], ["--amp=fp16", "--compile=true"], ["--checkpointing=true"]]
)
@pytest.mark.parametrize("stage", ["distill", "jepa-train"])
def test_a_run_by_command_is_near_the_cpus(stage, more, tiny_distill, tiny_jepa, world_folder, tmp_path):
    given = [
        *(tiny_distill if stage == "distill" else tiny_jepa),
        f"--data.root={world_folder}",
        "--log_every=1",
    ]
    assert run(stage, *given, "--amp=fp32", f"--out={tmp_path / 'cpu'}") == 0
    assert run(stage, *given, *more, "--device=cuda", f"--out={tmp_path / 'cuda'}") == 0
    assert losses_of(tmp_path / "cuda") == pytest.approx(losses_of(tmp_path / "cpu"), rel=0.05)


@pytest.mark.parametrize("stage", ["distill", "jepa-train"])
def test_resume_goes_on_as_the_run_that_was_not_cut(stage, tiny_distill, tiny_jepa, world_folder, tmp_path):
    given = [
        *(tiny_distill if stage == "distill" else tiny_jepa),
        f"--data.root={world_folder}",
        "--log_every=1",
    ]
    given += ["--device=cuda"]
    assert run(stage, *given, f"--out={tmp_path / 'whole'}") == 0
    assert run(stage, *given, f"--out={tmp_path / 'cut'}") == 0
    (tmp_path / "cut" / "checkpoints" / "ckpt_final.pt").unlink()
    assert run(stage, f"--out={tmp_path / 'cut'}", "--resume") == 0
    assert losses_of(tmp_path / "cut") == pytest.approx(losses_of(tmp_path / "whole"), rel=1e-4)


def test_one_rank_under_nccl_is_one_process(tiny_jepa, world_folder, tmp_path):
    given = [*tiny_jepa, f"--data.root={world_folder}", "--log_every=1", "--device=cuda", "--amp=fp32"]
    assert run("jepa-train", *given, f"--out={tmp_path / 'one'}") == 0
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "1"]
    command = [*launch, "-m", "vjepa_distill", "jepa-train", *given, f"--out={tmp_path / 'nccl'}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=os.environ.copy())
    assert done.returncode == 0, done.stderr[-3000:]
    assert losses_of(tmp_path / "nccl") == pytest.approx(losses_of(tmp_path / "one"), rel=1e-4)


def test_features_and_an_evaluation_are_near_the_cpus(tiny_jepa, world_folder, tmp_path):
    made = tmp_path / "run"
    assert run("jepa-train", *tiny_jepa, f"--data.root={world_folder}", f"--out={made}") == 0
    found = []
    for device in ("cpu", "cuda"):
        told = ["evaluate", str(made), f"--data.root={world_folder}", f"--device={device}", "--amp=fp32"]
        assert run(*told, f"--out={tmp_path / device}") == 0
        found.append(json.loads((tmp_path / device / "evaluation.json").read_text()))
    cpu, cuda = found
    assert cuda["health"]["this"]["rank"] == pytest.approx(cpu["health"]["this"]["rank"], rel=1e-3)
    for mine, other in zip(*(side["horizon"]["all"].values() for side in found), strict=True):
        assert mine["score"] == pytest.approx(other["score"], abs=1e-3)
