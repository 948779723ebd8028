"""The training step: stops before the update, skips on fp16 overflow, updates all that has a gradient."""

from contextlib import nullcontext

import pytest
import torch
from torch import nn

from tests import ranks_worker
from vjepa_distill.training.optim import make_optimizer, parameters, precision, set_rate
from vjepa_distill.training.step import Diverged, train_step


class Toy(nn.Module):
    """A stage of two weights whose loss is what the batch says."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2, 2))
        self.followed = []

    def forward(self, batch):
        return {"a": (self.weight * batch).sum(), "b": self.weight.square().sum() * 0}

    def after_step(self, step):
        self.followed.append(step)

    def skip_step(self):
        self.followed.append("skipped")


def step(stage, batches, scaler=None, clip=None, lr=0.1):
    optimizer = torch.optim.SGD(stage.parameters(), lr=lr)
    scaler = scaler or torch.amp.GradScaler("cpu", enabled=False)
    return train_step(
        stage, stage, optimizer, scaler, batches, {"a": 1.0, "b": 1.0}, clip, nullcontext, step=7
    )


def test_a_step_follows_the_gradient_and_then_the_teacher_follows():
    stage = Toy()
    outcome = step(stage, [torch.full((2, 2), 3.0)])
    torch.testing.assert_close(stage.weight.detach(), torch.full((2, 2), 1 - 0.1 * 3.0))
    assert outcome.norm == pytest.approx(6.0)
    assert stage.followed == [7]


def test_accumulated_batches_are_averaged_and_clipped_once():
    batches = [torch.full((2, 2), 2.0), torch.full((2, 2), 4.0)]
    averaged, clipped = Toy(), Toy()
    assert step(averaged, batches).norm == pytest.approx(6.0)
    torch.testing.assert_close(averaged.weight.detach(), torch.full((2, 2), 1 - 0.1 * 3.0))
    step(clipped, batches, clip=1.0)
    torch.testing.assert_close(clipped.weight.detach(), torch.full((2, 2), 1 - 0.1 * 0.5))


def test_a_loss_that_is_not_finite_is_named_and_nothing_moves():
    stage = Toy()
    with pytest.raises(Diverged, match=r"not finite: a$"):
        step(stage, [torch.full((2, 2), torch.nan)])
    assert (stage.weight == 1).all()
    assert stage.followed == []


def test_a_gradient_that_is_not_finite_stops_before_the_update():
    stage = Toy()
    stage.weight.register_hook(lambda g: g * torch.inf)
    with pytest.raises(Diverged, match="gradient at step 7"):
        step(stage, [torch.ones(2, 2)])
    assert (stage.weight == 1).all()
    assert stage.followed == []


def test_an_overflow_under_loss_scaling_skips_waits_and_lowers_the_scale():
    stage, scaler = Toy(), torch.amp.GradScaler("cpu", init_scale=2.0**120)
    outcome = step(stage, [torch.full((2, 2), 1e10)], scaler)
    assert not outcome.stepped
    assert (stage.weight == 1).all()
    assert stage.followed == ["skipped"], "schedules and teacher wait"
    assert scaler.get_scale() == 2.0**119


def test_loss_scaling_does_not_change_the_step():
    plain, scaled = Toy(), Toy()
    step(plain, [torch.full((2, 2), 3.0)], clip=1.0)
    step(scaled, [torch.full((2, 2), 3.0)], torch.amp.GradScaler("cpu", init_scale=1024.0), clip=1.0)
    torch.testing.assert_close(plain.weight, scaled.weight)


def test_everything_with_a_gradient_is_in_the_optimizer_once():
    stage = ranks_worker.build()
    optimizer = make_optimizer(stage, (0.9, 0.95), 0.04, decay_all=False)
    losses = stage(ranks_worker.batch(0, 0, 1))
    sum(losses.values()).backward()
    held = [id(p) for p in parameters(optimizer)]
    assert len(held) == len(set(held))
    for name, p in stage.named_parameters():
        assert (p.grad is not None) == (id(p) in held), name
    assert not any(id(p) in held for p in stage.teacher.parameters())


def test_norms_biases_positions_and_tokens_do_not_decay():
    stage = ranks_worker.build()
    groups = make_optimizer(stage, (0.9, 0.95), 0.04, decay_all=False).param_groups
    names = {id(p): name for name, p in stage.named_parameters()}
    decayed = {names[id(p)] for g in groups if g["weight_decay"] for p in g["params"]}
    spared = {names[id(p)] for g in groups if not g["weight_decay"] for p in g["params"]}
    assert all(dict(stage.named_parameters())[n].ndim >= 2 for n in decayed)
    assert {"predictor.mask_token", "objectives.eventually.head.queries", "student.norm.weight"} <= spared
    (everything,) = make_optimizer(stage, (0.9, 0.95), 0.04, decay_all=True).param_groups
    assert len(everything["params"]) == len(decayed) + len(spared)


def test_the_students_own_rate_is_its_share_of_the_rate():
    """At half the rate SGD-like first steps of AdamW are half as long, for the student and nothing else."""
    moved = {}
    for share in (1.0, 0.5, 0.0):
        stage = ranks_worker.build()
        optimizer = make_optimizer(stage, (0.9, 0.95), 0.04, decay_all=False, student=share)
        before = {name: p.detach().clone() for name, p in stage.named_parameters()}
        set_rate(optimizer, 1e-3)
        sum(stage(ranks_worker.batch(0, 0, 1)).values()).backward()
        optimizer.step()
        moved[share] = {name: p.detach() - before[name] for name, p in stage.named_parameters()}
    assert sorted({group["lr"] for group in optimizer.param_groups}) == [0.0, 1e-3]
    for name, full in moved[1.0].items():
        for share in (0.5, 0.0):
            expected = full * share if name.startswith("student.") else full
            torch.testing.assert_close(moved[share][name], expected, atol=1e-12, rtol=1e-9)


def test_activation_checkpointing_changes_no_gradient():
    kept, recomputed = ranks_worker.build(), ranks_worker.build()
    recomputed.student.set_checkpointing(True)
    recomputed.predictor.set_checkpointing(True)
    for stage in (kept, recomputed):
        sum(stage(ranks_worker.batch(0, 0, 1)).values()).backward()
    for (name, a), b in zip(kept.named_parameters(), recomputed.parameters(), strict=True):
        if a.grad is not None:
            torch.testing.assert_close(a.grad, b.grad, atol=1e-12, rtol=0, msg=lambda m, n=name: f"{n}: {m}")


def test_bf16_losses_are_fp32_and_near_the_fp32_ones():
    stage = ranks_worker.build().float()
    batch = ranks_worker.batch(0, 0, 1)
    batch.clip = batch.clip.float()
    exact = stage(batch)
    with precision("bf16", torch.device("cpu")).autocast():
        rough = stage(batch)
    for name, value in exact.items():
        assert rough[name].dtype == torch.float32
        assert float(rough[name]) == pytest.approx(float(value), rel=0.02)


@pytest.mark.skipif(
    not torch.cuda.is_available(), reason="needs CUDA: fp16 with loss scaling trains on a GPU alone"
)
@pytest.mark.parametrize("amp", ["fp16", "bf16"])
def test_mixed_precision_steps_on_cuda(amp):
    device = torch.device("cuda")
    stage, how = ranks_worker.build().float().to(device), precision(amp, device)
    optimizer = make_optimizer(stage, (0.9, 0.95), 0.04, decay_all=False)
    set_rate(optimizer, 1e-3)
    batch = ranks_worker.batch(0, 0, 1)
    batch.clip = batch.clip.float()
    weights = {"now": 1.0, "soon": 1.0, "eventually": 0.25}
    before = stage.student.norm.weight.detach().clone()
    for _ in range(20):
        if train_step(
            stage, stage, optimizer, how.scaler, [batch.to(device)], weights, 1.0, how.autocast, 0
        ).stepped:
            break
    assert not torch.equal(before, stage.student.norm.weight)
