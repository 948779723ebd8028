"""Quaternion algebra, the layer against the written-out Hamilton product, and the contract of a backbone."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import Tensor
from vjepa_distill import UserError, create
from vjepa_distill.testing import check_backbone

from vjepa_distill_ruffle import model
from vjepa_distill_ruffle.quaternion import HAMILTON, QuaternionLinear, quaternions


def multiply(p: Tensor, q: Tensor) -> Tensor:
    """The Hamilton product of [..., 4] and [..., 4], as the textbooks write it."""
    a, b, c, d = p.unbind(-1)
    e, f, g, h = q.unbind(-1)
    return torch.stack(
        [
            a * e - b * f - c * g - d * h,
            a * f + b * e + c * h - d * g,
            a * g - b * h + c * e + d * f,
            a * h + b * g - c * f + d * e,
        ],
        dim=-1,
    )


def test_i_j_k_multiply_as_hamilton_carved_it() -> None:
    one, i, j, k = HAMILTON
    assert torch.equal(one, torch.eye(4))
    assert torch.equal(i @ i, -one)
    assert torch.equal(j @ j, -one)
    assert torch.equal(k @ k, -one)
    assert torch.equal(i @ j, k)
    assert torch.equal(j @ k, i)
    assert torch.equal(k @ i, j)
    assert torch.equal(i @ j @ k, -one)


@pytest.mark.parametrize("pure", [False, True])
def test_a_layer_is_a_sum_of_hamilton_products(pure: bool) -> None:
    torch.manual_seed(0)
    layer = QuaternionLinear(5, 3, pure=pure).double()
    torch.nn.init.normal_(layer.bias)
    x = torch.randn(2, 5, 4, dtype=torch.float64)
    x[..., 0] *= not pure
    expected = multiply(layer.weight, x[:, None]).sum(2).flatten(1) + layer.bias
    given = x[..., 1:] if pure else x
    torch.testing.assert_close(layer(given.flatten(1)), expected, rtol=0, atol=1e-12)


def test_one_weight_only_turns_and_stretches() -> None:
    """|w ⊗ x| = |w| |x|: what sets a quaternion apart from any 4 x 4 matrix."""
    layer = QuaternionLinear(1, 1)
    x = torch.randn(100, 4)
    torch.testing.assert_close(layer(x).norm(dim=-1), layer.weight.norm() * x.norm(dim=-1))


@pytest.mark.parametrize(("inputs", "outputs"), [(64, 64), (64, 256), (256, 64)])
def test_initial_weights_have_glorots_variance(inputs: int, outputs: int) -> None:
    torch.manual_seed(0)
    weight = quaternions(outputs, inputs)
    assert weight.square().sum(-1).mean().item() == pytest.approx(4 / (2 * (inputs + outputs)), rel=0.05)
    assert weight.mean((0, 1)).abs().max() < 0.1 * weight.std()
    axis = torch.nn.functional.normalize(weight[..., 1:], dim=-1).flatten(0, 1)
    torch.testing.assert_close(axis.T @ axis / len(axis), torch.eye(3) / 3, rtol=0, atol=0.02)


def test_a_quarter_of_the_parameters_of_a_real_layer() -> None:
    assert QuaternionLinear(48, 192).weight.numel() * 4 == 4 * 48 * 4 * 192


def test_positions_differ_and_shift_by_rotation() -> None:
    """A step in time changes the i parts alone, a row the j, a column the k parts; no two places agree."""
    grid = (3, 4, 5)
    places = model.positions(model.Grid(*grid), 48, torch.device("cpu"))
    assert torch.cdist(places, places).add(torch.eye(60)).min() > 0.1
    table = places.view(*grid, 12, 4)
    assert not table[..., 0].any()
    for axis in range(3):
        changed = table.diff(dim=axis).abs().amax(dim=(0, 1, 2, 3)) > 1e-6
        assert changed.tolist() == [part == axis + 1 for part in range(4)]


def test_only_kept_tubelets_enter_a_block() -> None:
    encoder = model.tiny(depth=1)
    lengths: list[int] = []
    encoder.blocks[0].register_forward_pre_hook(lambda _, inputs: lengths.append(inputs[0].shape[1]))
    encoder(torch.rand(2, 3, 4, 32, 48), torch.tensor([[1, 5, 0], [2, 11, 3]]))
    assert lengths == [3]


def test_checkpointing_leaves_the_gradients_alone() -> None:
    encoder, clip = model.tiny(depth=2), torch.rand(1, 3, 4, 32, 48)

    def gradients() -> tuple[Tensor, ...]:
        return torch.autograd.grad(encoder(clip).square().mean(), list(encoder.parameters()))

    plain = gradients()
    encoder.set_checkpointing(True)
    torch.testing.assert_close(gradients(), plain)


@pytest.mark.parametrize("size", ["tiny", "small", "base"])
def test_the_contract(size: str) -> None:
    check_backbone(lambda: create("backbone", f"ruffle/{size}", depth=2))


def test_a_width_of_broken_quaternions_is_refused() -> None:
    with pytest.raises(UserError, match="width 90 does not divide into 3 heads of whole quaternions"):
        model.tiny(width=90)


def test_registering_does_not_import_torch() -> None:
    code = "import sys, vjepa_distill_ruffle; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
