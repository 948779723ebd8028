"""Whose tokens are foretold: copies that follow or hold still, the student itself, any other encoder."""

import copy

import pytest
import torch
from torch.nn.functional import avg_pool3d, layer_norm

from vjepa_distill import create
from vjepa_distill.backbones.vjepa import VideoViT
from vjepa_distill.modules.heads import Predictor, Projector
from vjepa_distill.modules.masks import Span, Whole
from vjepa_distill.modules.standardise import Standardiser
from vjepa_distill.objectives.match import Match
from vjepa_distill.objectives.temporal import Eventually, Now, Soon
from vjepa_distill.protocols import Batch, Timeline
from vjepa_distill.stages.distill import Distill
from vjepa_distill.stages.jepa import Jepa
from vjepa_distill.stages.targets import Other
from vjepa_distill.tokens import Grid, resample

DIM, GRID, TIMELINE = 24, Grid(4, 4, 6), Timeline(2, 1, 1)


class Pixels(torch.nn.Module):
    """A teacher whose token is the mean colour of its cell."""

    embed_dim = 3

    def __init__(self, *cell, only=None):
        super().__init__()
        self.cell, self.only = cell, only

    def grid(self, T, H, W):
        if T % self.cell[0] or (self.only and self.only != (H, W)):
            raise ValueError(f"{T} frames of {H} x {W}")
        return Grid(*(n // cell for n, cell in zip((T, H, W), self.cell, strict=True)))

    def forward(self, clip, keep=None):
        return avg_pool3d(clip, self.cell).flatten(2).transpose(1, 2)


def batch(rows=2, seed=0):
    g = torch.Generator().manual_seed(seed)
    return Batch(torch.rand(rows, 3, 8, 32, 48, generator=g), torch.arange(rows), torch.arange(rows))


def encoder(width=DIM, seed=0):
    torch.manual_seed(seed)
    return VideoViT(2, width, 2, 2.0, (2, 8, 8))


def jepa(kind="ema", other=None, context="full", anchor="none"):
    student = encoder()
    width = other.teacher.embed_dim if other else DIM
    torch.manual_seed(1)
    objectives = {
        "now": Now(DIM, TIMELINE, short=(3, 0.15), long=(2, 0.5), target_dim=width),
        "soon": Soon(DIM, TIMELINE, target_dim=width),
        "eventually": Eventually(DIM, TIMELINE, queue=3, heads=2, target_dim=width),
    }
    predictor = Predictor(DIM, 12, 1, 2, anchor=anchor, target_dim=width)
    return Jepa(student, predictor, objectives, TIMELINE, lambda _: 0.5, context, kind=kind, other=other)


def trained(stage, steps=2):
    optimizer = torch.optim.AdamW([p for p in stage.parameters() if p.requires_grad], lr=1e-2)
    for step in range(steps):
        optimizer.zero_grad()
        sum(stage(batch(seed=step)).values()).backward()
        optimizer.step()
        stage.after_step(step)
    return stage


OTHERS = {
    "the same grid": lambda: Pixels(2, 8, 8),
    "conv/small": lambda: create("backbone", "conv/small", width=8, patch=8),
    "a wider ViT": lambda: encoder(48, 5),
    "a finer grid, shown half the size": lambda: Pixels(2, 4, 4),
    "a slower one": lambda: Pixels(4, 8, 8),
    "a faster one": lambda: Pixels(1, 8, 8),
}


def other_of(name, kind="channel"):
    teacher = OTHERS[name]().eval()
    return Other(teacher, Standardiser(teacher.embed_dim, kind))


def test_frozen_targets_are_the_start_bit_for_bit_and_their_loss_can_be_compared():
    stage = jepa("frozen")
    start, data = copy.deepcopy(stage.student.state_dict()), batch(seed=9)
    target = stage.target(data.clip, GRID)
    trained(stage)
    for name, value in stage.teacher.state_dict().items():
        assert torch.equal(value, start[name]), name
    assert any(not torch.equal(value, start[name]) for name, value in stage.student.state_dict().items())
    assert torch.equal(stage.target(data.clip, GRID), target), "the question is the same, whoever answers"
    assert not torch.equal(jepa("ema").teacher.patches.weight, trained(jepa("ema")).teacher.patches.weight)


def test_an_ema_teacher_follows():
    stage = jepa("ema")
    before = {name: p.clone() for name, p in stage.teacher.named_parameters()}
    trained(stage, steps=1)
    students = dict(stage.student.named_parameters())
    for name, p in stage.teacher.named_parameters():
        torch.testing.assert_close(p, (before[name] + students[name]) / 2)


def test_student_targets_are_its_own_tokens_without_gradient():
    """As if the teacher were a copy made at this very step; and none is kept."""
    stage, reference = trained(jepa("student")), jepa("frozen")
    assert "teacher" not in dict(stage.named_children())
    reference.load_state_dict(stage.state_dict(), strict=False)
    reference.teacher.load_state_dict(stage.student.state_dict())
    losses = []
    for one in (stage, reference):
        one.zero_grad()
        found = one(batch(seed=5))
        sum(found.values()).backward()
        losses.append(found)
    torch.testing.assert_close(losses[0], losses[1])
    theirs = dict(reference.named_parameters())
    for name, p in stage.named_parameters():
        torch.testing.assert_close(p.grad, theirs[name].grad, msg=lambda m, n=name: f"{n}: {m}")
    stage.train()
    assert stage.student.training, "it is a student all the same"


@pytest.mark.parametrize("kind", ["channel", "global", "layernorm"])
@pytest.mark.parametrize("name", OTHERS)
def test_another_encoders_targets_are_those_of_stage_one(name, kind):
    other = other_of(name, kind)
    width = other.teacher.embed_dim
    match = {"match": Match(width)}
    first = Distill(
        encoder(), {"a": other.teacher}, {"a": Projector(DIM, width)}, {"a": other.standardiser}, match
    )
    stage, data = jepa("frozen", other), [batch(seed=1), batch(seed=2)]
    ours, theirs = stage.estimate(data)["targets"], first.estimate(data)["a"]
    torch.testing.assert_close(ours.mean_and_covariance(), theirs.mean_and_covariance())
    stage.standardisers["targets"].fit(ours)
    tokens, common = first.target("a", data[0].clip, GRID)
    assert common == GRID
    torch.testing.assert_close(stage.target(data[0].clip, GRID), other.standardiser(tokens))
    if kind == "channel" and width > 3:
        assert 0.5 < float(stage.target(data[0].clip, GRID).std()) < 2


def test_finer_tokens_of_one_size_are_brought_to_the_students_grid():
    """Stage 1 matches them on the finer one; what is asked by place must be at the student's places."""
    teacher = Pixels(2, 4, 4, only=(32, 48))
    stage, data = jepa("frozen", Other(teacher, Standardiser(3, "none"))), batch()
    expected = resample(teacher(data.clip), Grid(4, 8, 12), GRID)
    torch.testing.assert_close(stage.target(data.clip, GRID), expected)


def test_under_segment_and_prefix_another_encoder_is_shown_those_frames_alone():
    teacher = create("backbone", "conv/small", width=8, patch=8).eval()  # it sees over the borders of cells
    clip = batch().clip
    frames = {"segment": [(0, 4), (4, 6), (6, 8)], "prefix": [(0, 4), (0, 6), (0, 8)]}
    for context, parts in frames.items():
        stage = jepa("frozen", Other(teacher, Standardiser(32, "none")), context)
        used = [slice(0, 48), slice(-24, None), slice(-24, None)]
        expected = [
            teacher(clip[:, :, start:stop])[:, part] for (start, stop), part in zip(parts, used, strict=True)
        ]
        torch.testing.assert_close(stage.target(clip, GRID), torch.cat(expected, dim=1))
        seen = stage.alone(clip, GRID, Span(0, 2), {}, stage.target(clip, GRID))
        torch.testing.assert_close(seen, teacher(clip[:, :, :4]))
        whole = stage.alone(clip, GRID, Whole(), {}, stage.target(clip, GRID))
        torch.testing.assert_close(whole, teacher(clip))


def test_a_wider_target_is_foretold_from_end_to_end():
    stage = trained(jepa("frozen", other_of("a wider ViT")), steps=1)
    assert stage.predictor.out.out_features == 48
    assert stage.objectives["eventually"].queue.shape == (3, 48)
    scores = stage.evaluate([batch(seed=7)])
    assert {"now/skill", "soon/skill", "soon/skill_linear", "eventually/retrieval"} < scores.keys()
    for parameter in stage.teacher.parameters():
        assert not parameter.requires_grad
    assert not stage.teacher.training


def test_the_anchor_of_another_encoders_tokens_goes_through_the_head():
    other = other_of("a wider ViT")
    torch.manual_seed(6)
    stage = jepa("frozen", other._replace(head=Projector(DIM, 48)), anchor="kernel")
    stage.standardisers["targets"].fit(stage.estimate([batch(seed=1)])["targets"])
    copies = []
    stage.predictor.register_forward_pre_hook(lambda _, given: copies.append((given[0], given[4])))
    sum(stage(batch()).values()).backward()
    assert len(copies) == 3
    for seen, said in copies:
        expected = stage.standardisers["targets"](stage.head(seen))
        torch.testing.assert_close(said, expected)
        assert not said.requires_grad
    assert all(p.grad is None for p in stage.head.parameters()), "it holds still, as the targets do"
    before = copy.deepcopy(stage.head.state_dict())
    trained(stage)
    assert all(torch.equal(value, before[name]) for name, value in stage.head.state_dict().items())


def test_own_targets_are_layer_normed_and_anothers_are_not():
    stage, clip = jepa("frozen"), batch().clip
    torch.testing.assert_close(stage.target(clip, GRID), layer_norm(stage.teacher(clip), (DIM,)))
    stage = jepa("frozen", Other(Pixels(2, 8, 8), Standardiser(3, "none")))
    torch.testing.assert_close(stage.target(clip, GRID), stage.teacher(clip))
