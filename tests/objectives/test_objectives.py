"""Both stages equal a plain reference, written apart, in fp64: losses, gradients; ours and the scaffold's."""

import pytest
import torch
import torch.nn.functional as F

from tests import reference as ref
from vjepa_distill.backbones.vjepa import VideoViT
from vjepa_distill.modules.heads import Predictor, Projector
from vjepa_distill.modules.masks import Span
from vjepa_distill.modules.standardise import Moments, Standardiser
from vjepa_distill.objectives.match import Match
from vjepa_distill.objectives.temporal import Eventually, Now, Soon, _found_first
from vjepa_distill.protocols import Batch, Draw, Timeline
from vjepa_distill.stages.distill import Distill
from vjepa_distill.stages.jepa import Jepa

DIM, HEADS, DEPTH, TUBELET = 24, 2, 2, (2, 4, 4)
TIMELINE = Timeline(1, 1, 2)
GRID = (4, 3, 4)


def batch(rows=3, seed=0):
    g = torch.Generator().manual_seed(seed)
    clip = torch.rand(rows, 3, 8, 12, 16, generator=g, dtype=torch.float64)
    return Batch(clip, torch.arange(rows) + 7, torch.tensor([5, 6, 5])[:rows])


def encoder(normalise):
    torch.manual_seed(3)
    vit = VideoViT(DEPTH, DIM, HEADS, 4.0, TUBELET, normalise=normalise)
    torch.nn.init.normal_(vit.patches.weight, std=0.1)
    return vit.double()


def jepa(scaffold, context="full", queue=0, symmetric=True):
    torch.manual_seed(4)
    student = encoder("none" if scaffold else "imagenet")
    predictor = Predictor(DIM, 12, 2, 2, context_positions=not scaffold, project_positions=scaffold).double()
    layout = "shared" if scaffold else "exact"
    objectives = {
        "now": Now(DIM, TIMELINE, short=(3, 0.15), long=(2, 0.5), layout=layout),
        "soon": Soon(DIM, TIMELINE),
        "eventually": Eventually(
            DIM, TIMELINE, symmetric=symmetric, queue=queue, heads=2, queries=3
        ).double(),
    }
    stage = Jepa(student, predictor, objectives, TIMELINE, lambda step: 0.9, context, not scaffold).double()
    with torch.no_grad():
        for p in stage.teacher.parameters():
            p.add_(
                torch.randn(p.shape, dtype=p.dtype) * 0.05
            )  # a teacher equal to the student would hide a mix-up
    return stage


def leaves(module):
    """The module's weights as fresh leaves that the reference can take gradients of."""
    return {name: p.detach().clone().requires_grad_() for name, p in module.named_parameters()}


def reference_targets(stage, clip, scaffold):
    weights = {k: v.detach() for k, v in stage.teacher.named_parameters()}
    spans = [(0, 4)] if stage.teacher_context == "full" else [(0, 1), (1, 2), (2, 4)]
    rows = []
    for c in clip:
        parts = [
            ref.encoder(c, list(range(a * 12, b * 12)), weights, GRID, TUBELET, DEPTH, HEADS, not scaffold)
            for a, b in spans
        ]
        rows.append(torch.cat(parts))
    h = torch.stack(rows)
    return h if scaffold else ref.layer_norm(h)


def reference_jepa(stage, data, scaffold, symmetric):
    student, predictor = leaves(stage.student), leaves(stage.predictor)
    head = leaves(stage.objectives["eventually"].head)
    target = reference_targets(stage, data.clip, scaffold)

    def see(row, keep):
        return ref.encoder(data.clip[row], keep, student, GRID, TUBELET, DEPTH, HEADS, not scaffold)

    def ask(context, keep, query):
        return ref.predictor(context, keep, query, predictor, GRID, 2, 2, scaffold)

    rows = range(len(data.clip))
    now = []
    for view in stage.objectives["now"].blocks:
        split = view.split(type(stage.student.grid(8, 12, 16))(*GRID), Draw(0, data.position))
        keep, rest = split.keep.tolist(), split.rest.tolist()
        now.append(ref.l1(torch.stack([ask(see(r, keep[r]), keep[r], rest[r]) for r in rows]),
                          torch.stack([target[r][rest[r]] for r in rows])))  # fmt: skip
    first, second, far = list(range(12)), list(range(12, 24)), list(range(24, 48))
    seen = [see(r, first) for r in rows]
    soon = ref.l1(torch.stack([ask(seen[r], first, second) for r in rows]), target[:, 12:24])
    z = [ref.outcome(seen[r], head, 2) for r in rows]
    h = [target[r][far].mean(0) for r in rows]
    allowed = [[a == b or data.video[a] != data.video[b] for b in rows] for a in rows]
    eventually = ref.info_nce(z, h, list(rows), allowed, 0.2)
    if symmetric:
        eventually = (eventually + ref.info_nce(h, z, list(rows), allowed, 0.2)) / 2
    losses = {"now": sum(now) / 2, "soon": soon, "eventually": eventually}
    return losses, {"student.": student, "predictor.": predictor, "objectives.eventually.head.": head}


@pytest.mark.parametrize("scaffold", [False, True], ids=["ours", "scaffold"])
@pytest.mark.parametrize("context", ["full", "segment"])
def test_losses_and_gradients_equal_the_plain_reference(scaffold, context):
    stage, data = jepa(scaffold, context, symmetric=not scaffold), batch()
    weights = {"now": 1.0, "soon": 1.0, "eventually": 0.25}
    losses = stage(data)
    sum(weights[n] * v for n, v in losses.items()).backward()
    expected, leaf_groups = reference_jepa(stage, data, scaffold, symmetric=not scaffold)
    sum(weights[n] * v for n, v in expected.items()).backward()
    for name, value in expected.items():
        torch.testing.assert_close(losses[name], value, atol=1e-9, rtol=0)
    compared = 0
    for prefix, group in leaf_groups.items():
        for name, leaf in group.items():
            found = dict(stage.named_parameters())[prefix + name].grad
            torch.testing.assert_close(found, leaf.grad, atol=1e-9, rtol=0, msg=lambda m, n=name: f"{n}: {m}")
            compared += 1
    assert compared == sum(p.requires_grad for p in stage.parameters())


def test_distillation_equals_the_plain_reference():
    torch.manual_seed(0)
    student, teacher, data = encoder("imagenet"), encoder("none"), batch()
    head, standardiser = Projector(DIM, DIM).double(), Standardiser(DIM).double()
    stage = Distill(student, {"a": teacher}, {"a": head}, {"a": standardiser}, {"match": Match(DIM)}).double()
    moments = Moments(DIM)
    moments.add(torch.randn(50, DIM) * 2 + 1)
    standardiser.fit(moments)
    loss = stage(data)["match"]
    loss.backward()

    weights, head_weights = leaves(student), leaves(head)
    fixed = {k: v.detach() for k, v in teacher.named_parameters()}
    every = list(range(48))
    mean, covariance = moments.mean_and_covariance()
    terms = []
    for clip in data.clip:
        x = ref.encoder(clip, every, weights, GRID, TUBELET, DEPTH, HEADS, True)
        x = ref.layer_norm(x, head_weights["layers.0.weight"], head_weights["layers.0.bias"])
        z = ref.linear(ref.gelu(ref.linear(x, head_weights, "layers.1")), head_weights, "layers.3")
        h = ref.encoder(clip, every, fixed, GRID, TUBELET, DEPTH, HEADS, False)
        h = (h - mean) * covariance.diagonal().rsqrt()
        for a, b in zip(z, h, strict=True):
            d = (a - b).abs()
            huber = torch.where(d < 1, 0.5 * d**2, d - 0.5).mean()
            terms.append(0.9 * (1 - ref.unit(a) @ ref.unit(b)) + 0.1 * huber)
    expected = sum(terms) / len(terms)
    expected.backward()
    torch.testing.assert_close(loss, expected, atol=1e-9, rtol=0)
    for name, leaf in weights.items():
        torch.testing.assert_close(dict(student.named_parameters())[name].grad, leaf.grad, atol=1e-9, rtol=0)
    for name, leaf in head_weights.items():
        torch.testing.assert_close(dict(head.named_parameters())[name].grad, leaf.grad, atol=1e-9, rtol=0)


def test_the_queue_adds_negatives_of_other_videos_only():
    stage = jepa(False, queue=4, symmetric=False)
    objective = stage.objectives["eventually"]
    stage(batch(seed=1))
    assert (objective.queue_video == -1).all(), "targets enter the queue after the update, not before"
    stage.after_step(0)
    assert objective.queue_video.tolist() == [5, 6, 5, -1]
    data = batch(seed=2)
    loss = stage(data)["eventually"]
    past = [row.double() for row in objective.queue[:3]]
    target = reference_targets(stage, data.clip, False)
    head = leaves(objective.head)
    student = leaves(stage.student)
    z = [
        ref.outcome(ref.encoder(c, list(range(12)), student, GRID, TUBELET, DEPTH, HEADS, True), head, 2)
        for c in data.clip
    ]
    candidates = [target[r][24:].mean(0) for r in range(3)] + past
    owners = [5, 6, 5, 5, 6, 5]
    allowed = [[j == r or owners[j] != owners[r] for j in range(6)] for r in range(3)]
    torch.testing.assert_close(loss, ref.info_nce(z, candidates, [0, 1, 2], allowed, 0.2), atol=1e-9, rtol=0)


def test_retrieval_gives_no_credit_for_ties():
    label = torch.arange(6)
    assert _found_first(torch.eye(6), label) == 1
    assert _found_first(torch.eye(6).roll(1, 0), label) == 0
    assert _found_first(torch.ones(6, 6), label) == pytest.approx(1 / 6), "collapsed rows: chance"
    assert _found_first(torch.full((6, 6), torch.nan), label).isnan(), "no number is no chance"


def test_a_skipped_update_leaves_nothing_for_the_queue():
    stage = jepa(False, queue=4)
    stage(batch(seed=1))
    stage.skip_step()
    stage(batch(seed=2, rows=2))
    stage.after_step(0)
    assert stage.objectives["eventually"].queue_video.tolist() == [5, 6, -1, -1]


def test_a_lone_clip_without_a_queue_is_refused():
    stage = jepa(False, queue=0)
    with pytest.raises(ValueError, match="queue"):
        stage(batch(rows=1))


def test_the_student_runs_once_per_distinct_view():
    stage = jepa(False)
    calls = []
    stage.student.register_forward_hook(lambda *_: calls.append(1))
    stage(batch())
    assert len(stage.views) == 3, "short, long, and one Span that SOON and EVENTUALLY share"
    assert len(calls) == 3


def test_persistence_has_skill_zero_and_the_mean_token_of_other_clips_too():
    stage, data = jepa(False), batch()
    target = reference_targets(stage, data.clip, False)
    losses = stage(data)
    now = stage.timeline.now * 12
    alone = F.layer_norm(stage.teacher(data.clip, torch.arange(now).expand(3, -1)), (DIM,))
    floor = ref.l1(alone[:, -12:], target[:, now : now + 12])
    torch.testing.assert_close(
        stage.notes["soon/skill"], 1 - losses["soon"].detach() / floor, atol=1e-9, rtol=0
    )
    others = [target[[one for one in range(3) if one != r]].mean(dim=(0, 1)) for r in range(3)]
    floors = []
    for view in stage.objectives["now"].blocks:
        rest = view.split(stage.student.grid(8, 12, 16), Draw(0, data.position)).rest
        floors.append(torch.stack([(target[r][rest[r]] - others[r]).abs().mean() for r in range(3)]).mean())
    expected = 1 - losses["now"].detach() / (sum(floors) / 2)
    torch.testing.assert_close(stage.notes["now/skill"], expected, atol=1e-9, rtol=0)


def test_a_segment_teacher_does_not_see_the_future():
    stage, data = jepa(False, "segment"), batch()
    later = Batch(data.clip.clone(), data.position, data.video)
    later.clip[:, :, 4:] = 0.0
    grid = stage.student.grid(8, 12, 16)
    torch.testing.assert_close(stage.target(data.clip, grid)[:, :24], stage.target(later.clip, grid)[:, :24])
    stage.teacher_context = "full"
    changed = stage.target(data.clip, grid)[:, :24] - stage.target(later.clip, grid)[:, :24]
    assert changed.abs().max() > 1e-3


def test_a_prefix_teacher_sees_the_past_and_itself():
    stage, data = jepa(False, "prefix"), batch()
    grid = stage.student.grid(8, 12, 16)
    soon = stage.target(data.clip, grid)[:, 12:24]
    seen = Span(0, 2).indices(grid, 3)
    expected = torch.nn.functional.layer_norm(stage.teacher(data.clip, seen)[:, 12:], (DIM,))
    torch.testing.assert_close(soon, expected)


def test_the_teacher_follows_parameters_by_ema_and_buffers_by_copy():
    stage = jepa(False)
    stage.student.register_buffer("counter", torch.tensor(3))
    stage.teacher.register_buffer("counter", torch.tensor(0))
    name = "blocks.0.mlp.0.weight"
    before = dict(stage.teacher.named_parameters())[name].clone()
    stage.after_step(0)
    expected = 0.9 * before + 0.1 * dict(stage.student.named_parameters())[name]
    torch.testing.assert_close(dict(stage.teacher.named_parameters())[name], expected)
    assert stage.teacher.counter == 3
    stage.train()
    assert not stage.teacher.training
