"""What a run of stage 2 hands on foretells what the stage foretold in training, from the run folder alone."""

import re
import shutil
from pathlib import Path

import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
import yaml

from vjepa_distill import UserError, cli, distill, load_forecaster, registry
from vjepa_distill.distributed import Ranks
from vjepa_distill.modules.masks import Span
from vjepa_distill.protocols import Batch, Latents
from vjepa_distill.runs import exports, forecaster, jepa, videos
from vjepa_distill.settings import JepaConfig
from vjepa_distill.settings.plain import settings

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


@pytest.fixture(scope="module")
def plain(world_folder, tmp_path_factory) -> Path:
    """A run whose NOW is two tubelets and whose SOON is two."""
    out = tmp_path_factory.mktemp("plain") / "run"
    return jepa.jepa_train(
        {
            "student": {"name": "vjepa/tiny", "options": {"depth": 2, "width": 24, "heads": 2, "patch": 8}},
            "data": {"root": str(world_folder), "num_frames": 12, "size": 32, "heldout": 0.4},
            "spans": {"now": 4, "soon": 4, "eventually": 4},
            "predictor": {"width": 24, "depth": 1, "heads": 2},
            "teacher_context": "prefix",
            "optimizer": {"lr": 0.05, "warmup": 1},
            "steps": 3,
            "batch_size": 4,
            "device": "cpu",
            "amp": "fp32",
            "out": str(out),
        }
    )


@pytest.fixture
def clip():
    return torch.rand(2, 3, 12, 32, 32, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def test_a_rollout_reads_what_it_said(plain, clip):
    """The second step by hand: SOON's tokens at NOW's places, translated to read and as they are to copy."""
    model, now = load_forecaster(plain), clip[:, :, :4]
    model.bridge.weight.mul_(1.5)  # after so few steps it is nearly the identity
    found = model.rollout(now, 3)
    assert found.shape == (2, 6, 4, 4, 24)
    assert found.isfinite().all()
    assert torch.equal(found[:, :2], model.forecast(now).tokens)
    grid = model.stage.student.grid(12, 32, 32)
    keep, query = (Span(*ends).indices(grid, 2) for ends in ((0, 2), (2, 4)))
    for step in (1, 2):
        before = found[:, 2 * step - 2 : 2 * step].flatten(1, 3)
        said = model.stage.predictor(model.bridge(before), keep, query, grid, before)
        torch.testing.assert_close(found[:, 2 * step : 2 * step + 2].flatten(1, 3), said)
    assert torch.equal(model.rollout(now, 1), found[:, :2])


@torch.no_grad()
def test_a_rollout_keeps_what_of_now_is_still_recent(plain, clip):
    """With a SOON of one tubelet the second step reads NOW's last tubelet and the one that was said."""
    model, now = load_forecaster(plain), clip[:, :, :4]
    model.soon = Span(2, 3)
    model.bridge.weight.mul_(1.5)
    found = model.rollout(now, 2)
    grid = model.stage.student.grid(12, 32, 32)
    keep, query = (Span(*ends).indices(grid, 2) for ends in ((0, 2), (2, 3)))
    seen = model.stage.student(clip, keep)
    copied = model.stage.alone(clip, grid, Span(0, 2), {}, model.stage.target(clip, grid))
    said = found[:, 0].flatten(1, 2)
    read = torch.cat([seen[:, 16:], model.bridge(said)], dim=1)
    due = model.stage.predictor(read, keep, query, grid, torch.cat([copied[:, 16:], said], dim=1))
    torch.testing.assert_close(found[:, 1].flatten(1, 2), due)


@torch.no_grad()
@pytest.mark.parametrize("horizon", [1, 2])
def test_surprise_is_the_error_in_units_of_what_is_usual(plain, clip, horizon):
    """By hand, tubelet by tubelet, from the run's own pieces."""
    model, (median, high) = (
        load_forecaster(plain),
        exports.read_record(plain / "predictor.safetensors")["usual"]["error"][horizon - 1],
    )
    found = model.surprise(clip, horizon)
    assert found.shape == (2, 6)
    assert found[:, : 1 + horizon].isnan().all()
    for tubelet in range(1 + horizon, 6):
        start = 2 * (tubelet - 1 - horizon)
        window = torch.zeros_like(clip)  # of a whole clip's length: the rest is not looked at
        window[:, :, : 4 + 2 * horizon] = clip[:, :, start : start + 4 + 2 * horizon]
        said = model.forecast(window[:, :, :4]).tokens[:, horizon - 1]
        grid = model.stage.student.grid(12, 32, 32)
        keep = Span(0, 2 + horizon).indices(grid, 2)
        came = F.layer_norm(model.stage.teacher(window, keep), (24,))[:, -16:].unflatten(1, (4, 4))
        cells = (said - came).abs().mean(dim=3).flatten(1)
        error = cells.sort(dim=1).values[:, -4:].mean(dim=1)  # the worst quarter of sixteen
        torch.testing.assert_close(
            found[:, tubelet], (error - median) / (high - median), rtol=1e-3, atol=1e-4
        )


@torch.no_grad()
@pytest.mark.parametrize("context", ["full", "prefix", "segment"])
def test_nothing_after_a_moment_counts(plain, clip, context):
    model = load_forecaster(plain)
    model.stage.teacher_context = context
    other = clip.clone()
    other[:, :, 8:] = torch.rand(2, 3, 4, 32, 32)
    one, two = model.deviation(clip), model.deviation(other)
    torch.testing.assert_close(one[:, :4], two[:, :4], equal_nan=True)
    assert not torch.isclose(one[:, 4:], two[:, 4:]).any()


@torch.no_grad()
def test_half_of_what_is_usual_is_below_zero(plain, world_folder):
    """The held-out videos themselves, of which all moments were measured."""
    model, record = load_forecaster(plain), exports.read_record(plain / "predictor.safetensors")
    assert record["usual"]["videos"] == "held out"
    config = settings(JepaConfig, yaml.safe_load((plain / "config.yaml").read_text()), "config")
    held = videos.of_run(config, Ranks(0, 1, 0)).heldout
    assert record["usual"]["clips"] == sum(len(batch.clip) for batch in held)
    for horizon in (1, 2):
        found = torch.cat([model.surprise(batch.clip.float() / 255, horizon).flatten() for batch in held])
        found = found[found.isfinite()]
        assert found.quantile(0.5).item() == pytest.approx(0, abs=1e-3)
        assert found.quantile(0.95).item() == pytest.approx(1, abs=1e-3)


def test_a_longer_video_is_slid_over_as_its_parts_are(plain):
    """Thirty frames where the run's clips have twelve."""
    model, long = load_forecaster(plain), torch.rand(1, 3, 30, 32, 32)
    whole = model.surprise(long)
    assert whole.shape == (1, 15)
    torch.testing.assert_close(whole[:, 9:], model.surprise(long[:, :, 14:])[:, 2:])


def test_a_run_folder_is_all_that_is_needed(plain, clip, tmp_path):
    shutil.copytree(plain, tmp_path / "moved", ignore=shutil.ignore_patterns("checkpoints", "config.yaml"))
    one, two = (load_forecaster(run).forecast(clip[:, :, :4]) for run in (plain, tmp_path / "moved"))
    assert torch.equal(one.tokens, two.tokens)
    assert torch.equal(one.outcome, two.outcome)
    (tmp_path / "moved" / "outcome.safetensors").unlink()
    assert load_forecaster(tmp_path / "moved").forecast(clip[:, :, :4]).outcome is None


def test_a_finished_run_writes_them_anew_and_the_same(plain, tmp_path):
    shutil.copytree(plain, tmp_path / "run")
    before = [
        safetensors.torch.load_file(plain / name) for name in (forecaster.PREDICTOR, forecaster.OUTCOME)
    ]
    (tmp_path / "run" / forecaster.PREDICTOR).unlink()
    with pytest.raises(UserError, match=r"holds no predictor.safetensors.* --resume"):
        load_forecaster(tmp_path / "run")
    assert cli.run(["jepa-train", "--out", str(tmp_path / "run"), "--resume"]) == 0
    for name, tensors in zip((forecaster.PREDICTOR, forecaster.OUTCOME), before, strict=True):
        found = safetensors.torch.load_file(tmp_path / "run" / name)
        assert all(torch.equal(found[key], value) for key, value in tensors.items())


def test_what_foretells_nothing_is_refused(distilled, plain, clip):
    with pytest.raises(UserError, match="foretells nothing: it is a run of distill"):
        load_forecaster(distilled)
    with pytest.raises(UserError, match="vjepa/tiny is no run folder"):
        load_forecaster("vjepa/tiny")
    model = load_forecaster(plain)
    with pytest.raises(UserError, match="NOW's 4 frames"):
        model.forecast(clip)
    with pytest.raises(UserError, match="a whole clip's 12 frames"):
        model.targets(clip[:, :, :4])
    with pytest.raises(UserError, match="foretells 1 to 2 tubelets"):
        model.surprise(clip, 3)
    with pytest.raises(UserError, match="multiple of 2, and at least 6"):
        model.surprise(clip[:, :, :4])
    now = clip[:, :, :4]
    for wrong, words in (
        (now.numpy(), "a clip that is a ndarray and no torch.Tensor"),
        (now * 255, "a clip with values from 0.* to 25"),
        (now * torch.nan, "a clip with values from nan to nan"),
        ((now * 255).byte(), "a clip of torch.uint8"),
        (now[:0], "give NOW's 4 frames"),
    ):
        with pytest.raises(UserError, match=words):
            model.forecast(wrong)
    with pytest.raises(UserError, match="give its frames as float RGB"):
        model.surprise(clip[0])
    for steps in (0, "a", 1.5):
        with pytest.raises(UserError, match="give a whole number from 1"):
            model.rollout(now, steps)


@pytest.mark.parametrize("way", ["gone", "another"])
def test_without_the_encoder_that_was_foretold_forecasts_still_come(
    distilled, teacher, world_folder, tiny_jepa, tmp_path, way
):
    """The teacher's folder is taken away, or another's weights put there, after the run."""
    there = tmp_path / "teacher"
    shutil.copytree(teacher, there)
    words = [word for word in tiny_jepa if not word.startswith("--student")]
    words += ["--init", str(distilled), "--targets.kind=frozen", "--targets.name", str(there)]
    assert (
        cli.run(["jepa-train", "--data.root", str(world_folder), "--out", str(tmp_path / "run"), *words]) == 0
    )
    clip = torch.rand(1, 3, 8, 32, 32)
    said = load_forecaster(tmp_path / "run").forecast(clip[:, :, :2])
    if way == "gone":
        shutil.rmtree(there)
    else:
        state = safetensors.torch.load_file(there / "student.safetensors")
        record = exports.read_record(there / "student.safetensors")
        changed = type("Changed", (), {"state_dict": lambda self: {k: v + 1 for k, v in state.items()}})()
        exports.export_backbone(there / "student.safetensors", changed, record)
    model = load_forecaster(tmp_path / "run")
    assert torch.equal(model.forecast(clip[:, :, :2]).tokens, said.tokens)
    why = "whose tokens were foretold, cannot be had" if way == "gone" else "has other weights now"
    with pytest.raises(UserError, match=f"^{there}.*{why}"):
        model.targets(clip)


def test_the_page_runs_as_printed(plain, tmp_path, monkeypatch):
    page = (Path(__file__).parents[2] / "docs" / "forecast.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "future").symlink_to(plain)
    monkeypatch.chdir(tmp_path)
    exec(code, {})
