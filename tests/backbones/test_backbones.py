"""The video ViT against its plain mathematics, and the leak-free wrapper."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vjepa_distill.backbones import conv, vjepa
from vjepa_distill.backbones.hidden import Hidden, blank
from vjepa_distill.backbones.timm import create
from vjepa_distill.errors import UserError
from vjepa_distill.modules.transformer import sincos3d
from vjepa_distill.protocols import Layered
from vjepa_distill.tokens import Grid, take

VIT = "vit_tiny_patch16_224"
KEEP = torch.tensor([[1, 5, 0, 7], [2, 11, 3, 4]])  # unsorted, and other counts in each tubelet of (2, 2, 3)


def noise(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


CLIP = noise(2, 3, 4, 32, 48)


# The native video ViT


def test_the_embedding_is_a_convolution_of_the_normalised_clip() -> None:
    vit = vjepa.tiny(depth=0, width=48, heads=2).double()
    clip = CLIP.double()
    mean = torch.tensor([0.485, 0.456, 0.406], dtype=torch.float64).view(3, 1, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225], dtype=torch.float64).view(3, 1, 1, 1)
    expected = vit.patches((clip - mean) / std).flatten(2).transpose(1, 2)
    torch.testing.assert_close(vit.embed(clip, None), expected, rtol=0, atol=1e-6)
    plain = vjepa.tiny(depth=0, width=48, heads=2, normalise="none").double()
    expected = plain.patches(clip).flatten(2).transpose(1, 2)
    torch.testing.assert_close(plain.embed(clip, None), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("position", ["sincos", "rotary"])
def test_without_blocks_keeping_is_selecting(position: str) -> None:
    """So positions are those of the full grid, also for tokens that are kept."""
    vit = vjepa.tiny(depth=0, position=position)
    vit.blocks = nn.ModuleList([TellsAngles()]) if position == "rotary" else vit.blocks
    torch.testing.assert_close(vit(CLIP, KEEP), take(vit(CLIP), KEEP))


class TellsAngles(nn.Module):
    """Instead of a block: adds the angles it is given to the tokens."""

    def forward(self, x: Tensor, angles: Tensor) -> Tensor:
        return x + F.pad(angles, (0, x.shape[-1] - angles.shape[-1]))


def test_tokens_are_blocks_over_placed_kept_tubelets() -> None:
    vit = vjepa.tiny(depth=2, width=48, heads=2)
    x = take(vit.embed(CLIP, None) + sincos3d(Grid(2, 2, 3), 48), KEEP)
    for block in vit.blocks:
        x = block(x)
    torch.testing.assert_close(vit(CLIP, KEEP), vit.norm(x))


def test_only_kept_tubelets_enter_a_block() -> None:
    vit = vjepa.tiny(depth=2, width=48, heads=2)
    lengths: list[int] = []
    for block in vit.blocks:
        block.register_forward_pre_hook(lambda _, inputs: lengths.append(inputs[0].shape[1]))
    vit(CLIP, KEEP)
    assert lengths == [4, 4]


@pytest.mark.parametrize(
    "build",
    [
        lambda: vjepa.tiny(depth=3, width=48, heads=2, position="rotary"),
        lambda: create(VIT, timm={"depth": 2}),
        lambda: conv.small(16),
    ],
    ids=["vjepa", "timm", "conv"],
)
def test_checkpointing_changes_memory_not_mathematics(build) -> None:
    model = build()
    weight = noise(2, 4, model.embed_dim)

    def gradients() -> tuple[Tensor, ...]:
        return torch.autograd.grad((model(CLIP, KEEP) * weight).sum(), list(model.parameters()))

    plain, kept_plain = gradients(), saved_bytes(model)
    model.set_checkpointing(True)
    torch.testing.assert_close(gradients(), plain)
    assert saved_bytes(model) < 0.8 * kept_plain
    model.set_checkpointing(False)
    assert saved_bytes(model) == kept_plain


def saved_bytes(model: nn.Module) -> int:
    """What a forward pass keeps for the backward pass."""
    sizes: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        sizes[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        model(CLIP, KEEP)
    return sum(sizes.values())


@pytest.mark.parametrize("position", ["sincos", "rotary"])
def test_the_residual_stream_keeps_its_precision_under_autocast(position: str) -> None:
    vit = vjepa.tiny(depth=2, width=48, heads=2, position=position)
    kinds: set[torch.dtype] = set()
    vit.blocks[1].register_forward_pre_hook(lambda _, inputs: kinds.add(inputs[0].dtype))
    with torch.autocast("cpu", torch.bfloat16):
        assert vit(CLIP).dtype == torch.float32
    assert kinds == {torch.float32}
    assert vit.double()(CLIP.double()).dtype == torch.float64


@pytest.mark.parametrize(("depth", "numbers"), [(0, []), (1, []), (2, [1]), (3, [1, 2]), (12, [3, 6, 9])])
def test_layers_are_what_stands_after_each_quarter_of_the_blocks(depth: int, numbers: list[int]) -> None:
    vit = vjepa.tiny(depth=depth, width=48, heads=2).eval()
    after: list[Tensor] = []
    for block in vit.blocks:
        block.register_forward_hook(lambda module, given, out: after.append(out))
    assert isinstance(vit, Layered)
    *inside, last = vit.layer_tokens(CLIP, KEEP)
    assert len(inside) == len(numbers)
    assert all(torch.equal(got, after[number - 1]) for got, number in zip(inside, numbers, strict=True))
    assert torch.equal(last, vit(CLIP, KEEP))


def test_drop_path_grows_to_the_last_block() -> None:
    vit = vjepa.tiny(depth=3, drop_path=0.2)
    assert [block.drop_path.p for block in vit.blocks] == pytest.approx([0.0, 0.1, 0.2])


@pytest.mark.parametrize(
    ("size", "parameters"),
    [("tiny", 5.6e6), ("small", 22e6), ("base", 86e6), ("large", 304e6), ("huge", 632e6)],
)
def test_sizes_are_those_of_the_literature(size: str, parameters: float) -> None:
    """Parameter counts of ViT papers, within the 3 % that patch size, class token and head differ by."""
    with torch.device("meta"):
        vit = vjepa.VideoViT(*SIZES[size])
    built = sum(p.numel() for p in vit.blocks.parameters()) + 768 * vit.embed_dim + 197 * vit.embed_dim
    assert built == pytest.approx(parameters, rel=0.03)


SIZES = {name: getattr(vjepa, name).__defaults__[:3] for name in ("tiny", "small", "base", "large", "huge")}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"width": 100, "heads": 3}, "width 100 does not divide into 3 heads"),
        ({"position": "absolute"}, "position='absolute' is not one of sincos, rotary"),
        ({"normalise": "clip"}, "normalise='clip' is not one of imagenet"),
    ],
)
def test_wrong_options_are_refused_in_words(options: dict, words: str) -> None:
    with pytest.raises(UserError, match=words):
        vjepa.tiny(**options)


@pytest.mark.parametrize("build", [vjepa.tiny, conv.small, lambda: create(VIT, timm={"depth": 1})])
def test_a_size_that_does_not_divide_is_told_the_nearest_that_does(build) -> None:
    with pytest.raises(UserError, match=r"of 120 x 100 pixels .* nearest that do: 20 frames of 112 x 96"):
        build().grid(20, 120, 100)


# The wrapper


class Mixer(nn.Module):
    """A black box: every token is the mean of its cell, plus the mean of the clip, in cells of any size."""

    embed_dim = 3

    def grid(self, T: int, H: int, W: int) -> Grid:
        return Grid(2, 3, 4)

    def forward(self, clip: Tensor) -> Tensor:
        cells = F.adaptive_avg_pool3d(clip, (2, 3, 4)).flatten(2).transpose(1, 2)
        return cells + clip.mean((2, 3, 4)).unsqueeze(1)


def test_hidden_pixels_are_gone_whatever_they_were() -> None:
    hidden, clip = Hidden(Mixer()), noise(2, 3, 4, 9, 16)
    keep = torch.tensor([[0, 23], [7, 5]])
    expected = hidden(clip, keep)
    shown = blank(torch.ones_like(clip), keep, Grid(2, 3, 4), fill=0.0).bool()
    assert shown[:, 0].flatten(1).sum(1).tolist() == [2 * 2 * 3 * 4] * 2
    torch.testing.assert_close(hidden(clip.masked_fill(~shown, torch.nan), keep), expected, rtol=0, atol=0)
    torch.testing.assert_close(hidden(clip), Mixer()(clip), rtol=0, atol=0)


def test_cells_need_not_be_whole_pixels() -> None:
    """Every pixel is in exactly one cell, also where 7 rows are cut into 3."""
    clip = torch.ones(1, 1, 2, 7, 5)
    grid = Grid(2, 3, 4)
    parts = [blank(clip, torch.tensor([[cell]]), grid, fill=0.0) for cell in range(grid.length)]
    assert torch.equal(sum(parts), clip)
    assert all(part.any() for part in parts)


def test_the_wrapper_says_when_there_is_nothing_to_checkpoint() -> None:
    with pytest.raises(UserError, match="Mixer has no activation checkpointing"):
        Hidden(Mixer()).set_checkpointing(True)
