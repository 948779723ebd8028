"""The anchored predictor inside its stage: it begins at the copy, and neither of them sees what is hidden."""

import pytest
import torch

from vjepa_distill.backbones.vjepa import VideoViT
from vjepa_distill.modules.heads import Predictor, Projector
from vjepa_distill.modules.standardise import Standardiser
from vjepa_distill.objectives.context import Context
from vjepa_distill.objectives.temporal import Now, Soon
from vjepa_distill.protocols import Batch, Draw, Timeline
from vjepa_distill.stages.jepa import Jepa
from vjepa_distill.stages.targets import Other
from vjepa_distill.tokens import Grid

DIM, TUBELET = 24, (2, 4, 4)
GRID, TIMELINE = Grid(4, 3, 4), Timeline(1, 2, 1)
CONTEXTS = ["full", "segment", "prefix"]


def encoder(seed=3, width=DIM):
    torch.manual_seed(seed)
    vit = VideoViT(2, width, 2, 2.0, TUBELET)
    torch.nn.init.normal_(vit.patches.weight, std=0.1)
    return vit.double()


def batch(rows=3, seed=0):
    g = torch.Generator().manual_seed(seed)
    clip = torch.rand(rows, 3, 8, 12, 16, generator=g, dtype=torch.float64)
    return Batch(clip, torch.arange(rows) + 7, torch.arange(rows))


ANCHOR = "kernel"


def another():
    """A wider encoder's targets, and a head into them."""
    torch.manual_seed(5)
    return Other(encoder(8, 48).eval(), Standardiser(48).double(), Projector(DIM, 48).double())


@pytest.fixture(params=["kernel", "anomaly"], autouse=True)
def kind_of_anchor(request, monkeypatch):
    """Whatever is true of one is true of the other."""
    monkeypatch.setitem(globals(), "ANCHOR", request.param)


def jepa(context="full", kind="ema", other=None, timeline=TIMELINE, trained=False):
    torch.manual_seed(4)
    width = 48 if other else DIM
    predictor = Predictor(DIM, 12, 2, 2, anchor=ANCHOR, target_dim=width, cells=(3, 4)).double()
    objectives = {
        "now": Now(DIM, timeline, short=(3, 0.15), long=(2, 0.5)),
        "context": Context(DIM, timeline, short=(3, 0.15), long=(2, 0.5), target_dim=width).double(),
        "soon": Soon(DIM, timeline),
    }
    stage = Jepa(encoder(), predictor, objectives, timeline, lambda _: 0.9, context, kind=kind, other=other)
    if trained:
        torch.nn.init.normal_(predictor.out.weight, std=0.3)
        if kind != "student" and not other:
            for p in stage.teacher.parameters():
                p.data += 0.05 * torch.randn(p.shape, dtype=p.dtype)
    return stage.double()


def predictions(stage, data):
    """What the predictor is handed and says in one forward: by view, the places and both its tokens."""
    told = {}

    def keep(module, given, said):
        _, places, query, _, copy = given
        told[tuple(places[0].tolist()), tuple(query[0].tolist())] = (copy, said)

    hook = stage.predictor.register_forward_hook(keep)
    stage(data)
    hook.remove()
    return told


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("kind", ["ema", "frozen", "student"])
def test_at_the_start_the_prediction_is_the_copy_and_soon_is_persistence(context, kind):
    stage, data = jepa(context, kind), batch()
    anchor, calls = stage.predictor.anchor, []
    hook = anchor.register_forward_hook(lambda *_args: calls.append(_args[2]))
    told = list(predictions(stage, data).values())
    hook.remove()
    assert len(told) == len(calls) == 5, "two masks asked and seen, and SOON"
    for (_, said), copy in zip(told, calls, strict=True):
        assert torch.equal(said, copy), "not even nearly: nothing is added"
    assert abs(stage.notes["soon/skill"]) < 0.02
    assert abs(stage.notes["soon/skill/2"]) < 0.02
    without = jepa(context, kind)
    without.predictor.anchor = None
    torch.nn.init.trunc_normal_(without.predictor.out.weight, std=0.02)
    without(data)
    assert abs(without.notes["soon/skill"]) > 0.1, "the anchor alone makes it so"


@pytest.mark.parametrize("context", CONTEXTS)
def test_the_copy_of_now_is_the_teachers_view_of_now_alone(context):
    stage, data = jepa(context, trained=True), batch()
    now = torch.arange(GRID.cells).expand(3, -1)
    tokens = torch.nn.functional.layer_norm(stage.teacher(data.clip, now), (DIM,))
    copies = [copy for (seen, _), (copy, _) in predictions(stage, data).items() if len(seen) == GRID.cells]
    torch.testing.assert_close(copies[-1], tokens)


def hidden(clip, split, noise):
    """The clip with other pixels in all the cells that the view does not keep."""
    shown = torch.zeros(len(clip), GRID.length, dtype=torch.bool).scatter(1, split.keep, True)
    for axis, size in enumerate(TUBELET, start=1):
        shown = shown.view(-1, *GRID) if axis == 1 else shown
        shown = shown.repeat_interleave(size, dim=axis)
    return torch.where(shown[:, None], clip, noise)


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("kind", ["ema", "student", "other"])
def test_neither_copy_nor_prediction_sees_what_a_view_hides(context, kind):
    other = another() if kind == "other" else None
    stage = jepa(context, "frozen" if other else kind, other, trained=True).eval()
    data, noise = batch(), batch(seed=9).clip
    before = predictions(stage, data)
    assert len(stage.views) == 3
    for view in stage.views:
        split = view.split(GRID, Draw(0, data.position))
        clip = hidden(data.clip, split, noise)
        assert (clip != data.clip).any()
        after = predictions(stage, Batch(clip, data.position, data.video))
        own = [key for key in before if key[0] == tuple(split.keep[0].tolist())]
        assert len(own) == (
            1 if len(split.keep[0]) == GRID.cells and view.__class__.__name__ == "Span" else 2
        )
        for key in own:
            for ours, theirs in zip(before[key], after[key], strict=True):
                assert torch.equal(ours, theirs), f"{view} leaks"
        assert any(not torch.equal(before[key][1], after[key][1]) for key in before if key not in own)


def test_a_change_of_what_is_seen_changes_copy_and_prediction():
    """Else the test above would be passed by a constant."""
    stage, data = jepa(trained=True).eval(), batch()
    before = predictions(stage, data)
    after = predictions(stage, Batch(batch(seed=9).clip, data.position, data.video))
    for key in before:
        assert all((a - b).abs().max() > 1e-3 for a, b in zip(before[key], after[key], strict=True))


def test_gradients_with_and_without_checkpointing_are_the_same():
    gradients = []
    for on in (False, True):
        stage = jepa(trained=True)
        stage.train()
        stage.student.set_checkpointing(on)
        stage.predictor.set_checkpointing(on)
        sum(stage(batch()).values()).backward()
        gradients.append({n: p.grad for n, p in stage.named_parameters() if p.requires_grad})
    assert {"predictor.anchor.gain", "predictor.anchor.log_time"} < gradients[0].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, atol=1e-12, rtol=0)


def test_an_anchored_predictor_without_a_copy_is_refused():
    predictor = Predictor(DIM, 12, 1, 2, anchor=ANCHOR, cells=(3, 4))
    places = torch.arange(4)[None]
    with pytest.raises(ValueError, match="give copy"):
        predictor(torch.zeros(1, 4, DIM), places, places, GRID)


def test_bf16_autocast_keeps_the_copy_in_fp32():
    stage, data = jepa().float(), batch()
    data.clip = data.clip.float()
    with torch.autocast("cpu", torch.bfloat16):
        told = predictions(stage, data)
    assert all(said.dtype == copy.dtype == torch.float32 for copy, said in told.values())
    assert abs(stage.notes["soon/skill"]) < 0.02
