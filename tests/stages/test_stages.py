"""The distill stage: grids of any shape meet, tokens stay in their places, the student runs once."""

import pytest
import torch

from vjepa_distill import create
from vjepa_distill.backbones.cells import cut
from vjepa_distill.backbones.vjepa import VideoViT
from vjepa_distill.errors import UserError
from vjepa_distill.modules.heads import Projector
from vjepa_distill.modules.standardise import Standardiser
from vjepa_distill.objectives.match import Match
from vjepa_distill.protocols import Batch
from vjepa_distill.stages.distill import Distill
from vjepa_distill.stages.teacher import fitted
from vjepa_distill.tokens import Grid, resample, take


class Pixels(torch.nn.Module):
    """A teacher whose token is the mean colour of its cell: what it says can be worked out by hand."""

    embed_dim = 3

    def __init__(self, t, h, w, only=None):
        super().__init__()
        self.cell, self.only = (t, h, w), only

    def grid(self, T, H, W):
        if self.only and self.only != (H, W):
            raise ValueError(f"only {self.only}")
        t, h, w = self.cell
        return Grid(T // t, H // h, W // w)

    def forward(self, clip, keep=None):
        return torch.nn.functional.avg_pool3d(clip, self.cell).flatten(2).transpose(1, 2)


def stage_of(student, teacher, **options):
    head = Projector(student.embed_dim, teacher.embed_dim)
    match = Match(teacher.embed_dim, **options)
    standardiser = Standardiser(teacher.embed_dim)
    return Distill(student, {"a": teacher}, {"a": head}, {"a": standardiser}, {"match": match})


def batch(*shape, rows=2):
    torch.manual_seed(0)
    return Batch(torch.rand(rows, 3, *shape), torch.arange(rows), torch.arange(rows))


def student(tubelet=(2, 8, 8)):
    torch.manual_seed(0)
    return VideoViT(1, 24, 2, 2.0, tubelet)


@pytest.mark.parametrize(
    ("teacher", "grid"),
    [
        (Pixels(2, 8, 8), Grid(4, 4, 6)),
        (Pixels(2, 4, 4), Grid(4, 4, 6)),  # shown a clip of half the size
        (Pixels(2, 16, 16), Grid(4, 4, 6)),  # shown one of twice the size
        (Pixels(2, 4, 8), Grid(4, 4, 6)),  # shown one squeezed in height alone
        (Pixels(4, 8, 8), Grid(4, 4, 6)),  # slower: interpolated in time
        (Pixels(1, 8, 8), Grid(4, 4, 6)),  # faster
        (Pixels(2, 4, 4, only=(32, 48)), Grid(4, 8, 12)),  # finer, of one size: its grid is the common one
        (Pixels(2, 16, 16, only=(32, 48)), Grid(4, 4, 6)),  # coarser, of one size: the student's is
    ],
)
def test_grids_that_differ_meet_on_the_right_one(teacher, grid):
    stage, data = stage_of(student(), teacher), batch(8, 32, 48)
    tokens, common = stage.target("a", data.clip, Grid(4, 4, 6))
    assert common == grid
    assert tokens.shape == (2, grid.length, 3)
    loss = stage(data)["match"]
    loss.backward()
    assert all(p.grad is not None for p in stage.student.parameters())


def test_a_resized_clip_gives_the_teachers_tokens_of_that_size():
    data = batch(4, 28, 42)
    clip = fitted(Pixels(2, 14, 14), data.clip, Grid(2, 4, 6))
    assert clip.shape == (2, 3, 4, 56, 84)
    for frame in range(4):
        picture = data.clip[:, :, frame]
        expected = torch.nn.functional.interpolate(picture, size=(56, 84), mode="bilinear", antialias=True)
        torch.testing.assert_close(clip[:, :, frame], expected)


def test_a_teacher_whose_cells_do_not_divide_the_clip_is_shown_one_that_they_do():
    class Whole(Pixels):
        def grid(self, T, H, W):
            return cut(T, H, W, self.cell)

    teacher, data = Whole(2, 14, 14), batch(4, 64, 96)
    assert fitted(teacher, data.clip, Grid(2, 4, 6)).shape == (2, 3, 4, 56, 84)
    tokens, common = stage_of(student((2, 16, 16)), teacher).target("a", data.clip, Grid(2, 4, 6))
    assert (tokens.shape, common) == ((2, 48, 3), Grid(2, 4, 6))
    with pytest.raises(UserError, match=r"does not take clips of 3 frames of 64 x 96: .*num_frames"):
        fitted(teacher, batch(3, 64, 96).clip, Grid(2, 4, 6))


def test_a_grid_of_10_by_14_and_four_registers():
    """The two shapes that code which guesses a square from sqrt(L), or drops one class token, gets wrong."""
    small = {"embed_dim": 24, "depth": 1, "num_heads": 2, "img_size": [140, 196], "patch_size": 14}
    teacher = create("backbone", "timm/vit_small_patch14_reg4_dinov2", timm=small)
    stage, data = stage_of(student((2, 14, 14)), teacher.eval()), batch(2, 140, 196, rows=1)
    assert teacher.grid(2, 140, 196) == Grid(1, 10, 14)
    tokens, common = stage.target("a", data.clip, Grid(1, 10, 14))
    assert common == Grid(1, 10, 14)
    assert tokens.shape == (1, 140, 24)
    assert torch.isfinite(stage(data)["match"])


def test_the_right_token_in_the_wrong_place_costs():
    """A loss that only compares similarities between tokens would not notice."""
    stage, data = stage_of(student(), Pixels(2, 8, 8)), batch(4, 32, 48)
    target = stage.target("a", data.clip, Grid(2, 4, 6))[0]

    class Fixed(torch.nn.Module):
        def __init__(self, tokens):
            super().__init__()
            self.tokens = tokens

        def forward(self, _):
            return self.tokens

    stage.heads["a"] = Fixed(stage.standardisers["a"](target))
    right = stage(data)["match"]
    stage.heads["a"].tokens = stage.heads["a"].tokens.roll(1, dims=1)
    assert right < 1e-6 < 1e-3 < stage(data)["match"]


@pytest.mark.parametrize("share", [1.0, 0.4])
def test_the_student_runs_once_a_step(share):
    stage, data = stage_of(student(), Pixels(2, 8, 8), share=share), batch(4, 32, 48)
    seen = []
    stage.student.register_forward_hook(lambda _m, _i, out: seen.append(out.shape[1]))
    stage(data)
    assert seen == [round(share * 48)]


def test_a_share_of_the_tokens_is_matched_at_its_own_places():
    stage, data = stage_of(student(), Pixels(2, 8, 8), share=0.4), batch(4, 32, 48)
    kept = {}
    stage.student.register_forward_pre_hook(lambda _m, args: kept.update(keep=args[1]))
    loss = stage(data)["match"]
    target = take(stage.target("a", data.clip, Grid(2, 4, 6))[0], kept["keep"])
    z = stage.heads["a"](stage.student(data.clip, kept["keep"]))
    cosine = 1 - torch.nn.functional.cosine_similarity(z, target, dim=-1).mean()
    expected = 0.9 * cosine + 0.1 * torch.nn.functional.smooth_l1_loss(z, target)
    torch.testing.assert_close(loss, expected)


def test_a_share_of_tokens_on_grids_that_differ_is_refused():
    stage = stage_of(student(), Pixels(2, 4, 4, only=(32, 48)), share=0.4)
    with pytest.raises(UserError, match="grids agree"):
        stage(batch(4, 32, 48))


def test_held_out_scores_are_those_of_the_definition():
    stage, data = stage_of(student(), Pixels(2, 8, 8)), batch(4, 32, 48, rows=3)
    moments = stage.estimate([batch(4, 32, 48, rows=4)])["a"]
    stage.standardisers["a"].fit(moments)
    scores = stage.evaluate([data])
    target = stage.target("a", data.clip, Grid(2, 4, 6))[0].reshape(-1, 3)
    z = stage.standardisers["a"].inverse(stage.heads["a"](stage.student(data.clip))).reshape(-1, 3)
    mean = moments.mean_and_covariance()[0].float()
    r2 = 1 - (z - target).square().sum() / (target - mean).square().sum()
    assert scores["r2"] == pytest.approx(r2.item(), rel=1e-4)
    assert scores["cosine"] == pytest.approx(torch.cosine_similarity(z, target).mean().item(), rel=1e-4)
    floor = torch.cosine_similarity(mean.expand_as(target), target).mean().item()
    assert scores["cosine_floor"] == pytest.approx(floor, rel=1e-4)


def test_teachers_stay_frozen_and_in_eval_mode():
    stage = stage_of(student(), student())
    stage.train()
    assert not any(module.training for module in stage.teachers.modules())
    assert not any(p.requires_grad for p in stage.teachers.parameters())


def test_resampling_a_linear_field_is_exact_inside():
    """Trilinear interpolation reproduces what is linear; only the half cells at the border are clamped."""
    small, big = Grid(4, 4, 4), Grid(8, 8, 8)
    axis = (torch.arange(4) + 0.5) / 4
    field = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(1, -1, 3)
    fine = (torch.arange(8) + 0.5) / 8
    expected = torch.stack(torch.meshgrid(fine, fine, fine, indexing="ij"), -1)
    found = resample(field, small, big).view(8, 8, 8, 3)
    torch.testing.assert_close(found[1:-1, 1:-1, 1:-1], expected[1:-1, 1:-1, 1:-1])
