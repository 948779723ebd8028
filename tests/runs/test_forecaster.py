"""What a run of stage 2 hands on foretells what the stage foretold in training, from the run folder alone."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from vjepa_distill import cli, distill, load_forecaster, registry
from vjepa_distill.modules.masks import Span
from vjepa_distill.protocols import Batch, Latents
from vjepa_distill.runs import exports, forecaster, jepa

WAYS = {
    "full": [],
    "prefix": ["--teacher_context=prefix"],
    "segment": ["--teacher_context=segment", "--normalise_target=false"],
    "no anchor": ["--predictor.anchor=none"],
    "frozen": ["--targets.kind=frozen"],
    "student": ["--targets.kind=student", "--objectives.sigreg.weight=1"],
    "another": ["--targets.kind=frozen"],  # with --targets.name: the teacher that was distilled
    "no head": ["--targets.kind=frozen"],  # the same, from a student that was not distilled
}


@pytest.fixture(scope="module")
def teacher(world_folder, tmp_path_factory) -> Path:
    """A teacher with weights of its own: the student of a run."""
    out = tmp_path_factory.mktemp("teacher") / "run"
    torch.manual_seed(3)
    options = {"patch": 8, "width": 16}
    encoder = registry.create("backbone", "conv/small", **options)
    record = {"stage": "supervised", "backbone": registry.provenance("backbone", "conv/small", options)}
    exports.export_backbone(out / "student.safetensors", encoder, record)
    return out


@pytest.fixture(scope="module")
def distilled(world_folder, teacher, tmp_path_factory) -> Path:
    return distill(
        {
            "student": {"name": "vjepa/tiny", "options": {"depth": 2, "width": 24, "heads": 2, "patch": 8}},
            "teachers": {"main": {"name": str(teacher)}},
            "data": {"root": str(world_folder), "num_frames": 8, "size": 32},
            "optimizer": {"warmup": 1},
            "steps": 2,
            "batch_size": 4,
            "device": "cpu",
            "out": str(tmp_path_factory.mktemp("distilled") / "run"),
        }
    )


@pytest.fixture(params=WAYS)
def made(request, world_folder, distilled, teacher, tiny_jepa, tmp_path, monkeypatch):
    """A run of one of the ways, and the stage as it was when its files were written."""
    kept = {}
    real = forecaster.export_forecaster
    monkeypatch.setattr(jepa.forecaster, "export_forecaster", lambda *a: (kept.update(stage=a[1]), real(*a)))
    words = [*tiny_jepa, *WAYS[request.param], "--amp=fp32", "--optimizer.lr=0.05"]
    if request.param != "no head":
        words = [word for word in words if not word.startswith("--student")] + ["--init", str(distilled)]
    if request.param in ("another", "no head"):
        words += ["--targets.name", str(teacher)]
    out = tmp_path / "run"
    assert cli.run(["jepa-train", "--data.root", str(world_folder), "--out", str(out), *words]) == 0
    return request.param, out, kept["stage"].eval()


class Spy(torch.nn.Module):
    """An objective that keeps what it was handed."""

    def views(self):
        return (Span(0, 1),)

    def forward(self, latents: Latents):
        query = Span(1, 2).indices(latents.grid, len(latents.target))
        self.said, self.seen = latents.predict(Span(0, 1), query), latents.seen[Span(0, 1)]
        self.target = latents.target
        return self.said.mean()


@torch.no_grad()
def test_it_foretells_what_the_stage_foretold(made):
    way, out, stage = made
    model, spy = load_forecaster(out), Spy()
    clip = torch.rand(3, 3, 8, 32, 32)
    eventually = stage.objectives["eventually"]
    stage.objectives, stage.views = torch.nn.ModuleDict({"spy": spy}), list(spy.views())
    stage(Batch(clip, torch.arange(3), torch.arange(3)))
    said = model.forecast(clip[:, :, :2])
    assert torch.equal(said.tokens.flatten(1, 3), spy.said)
    assert said.tokens.shape[:4] == (3, 1, 4, 4)
    assert torch.equal(said.outcome, F.normalize(eventually.head(spy.seen), dim=-1))
    assert torch.equal(model.targets(clip).flatten(1, 3), spy.target)
    assert not torch.equal(said.tokens[0], said.tokens[1])
    anchored = way not in ("no anchor", "no head")
    assert (model.stage.predictor.anchor is not None) == anchored
