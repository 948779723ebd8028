"""Standardised targets: their algebra, and that folding them into the head changes nothing but the units."""

import pytest
import torch

from vjepa_distill.errors import UserError
from vjepa_distill.modules.heads import Projector
from vjepa_distill.modules.standardise import KINDS, Moments, Standardiser, hadamard_matrix


def tokens(rows=4000, dim=24):
    torch.manual_seed(0)
    mixed = torch.randn(rows, dim, dtype=torch.float64) @ torch.randn(dim, dim, dtype=torch.float64)
    return mixed * torch.logspace(-1, 1, dim, dtype=torch.float64) + torch.randn(dim, dtype=torch.float64) * 3


def fitted(kind, x):
    standardiser, moments = Standardiser(x.shape[-1], kind).double(), Moments(x.shape[-1])
    for part in x.view(4, -1, x.shape[-1]):
        moments.add(part)
    standardiser.fit(moments)
    return standardiser


def test_moments_of_parts_are_those_of_the_whole():
    x, moments = tokens(), Moments(24)
    for part in x.view(8, -1, 24):
        moments.add(part)
    mean, covariance = moments.mean_and_covariance()
    torch.testing.assert_close(mean, x.mean(0))
    torch.testing.assert_close(covariance, torch.cov(x.T, correction=0))


def test_channel_gives_every_channel_variance_one():
    y = fitted("channel", tokens())(tokens())
    torch.testing.assert_close(y.mean(0), torch.zeros(24).double(), atol=1e-9, rtol=0)
    torch.testing.assert_close(y.var(0, correction=0), torch.ones(24).double())


def test_phi_s_rotates_to_equal_variances_and_then_scales_all_alike():
    x = tokens()
    standardiser = fitted("phi-s", x)
    y = standardiser(x)
    torch.testing.assert_close(y.var(0, correction=0), torch.ones(24).double())
    torch.testing.assert_close(standardiser.rotation.T @ standardiser.rotation, torch.eye(24).double())
    assert standardiser.scale.unique().numel() == 1, "isotropic: no direction blown up, unlike in whitening"


def test_global_keeps_the_shape_of_the_cloud():
    x = tokens()
    y = fitted("global", x)(x)
    assert y.var(0, correction=0).mean() == pytest.approx(1.0)
    ratio = (x - x.mean(0)) / y
    torch.testing.assert_close(ratio, ratio[0, 0].expand_as(ratio))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "layernorm"])
def test_inverse_undoes_it_and_folding_moves_it_into_the_head(kind):
    x = tokens()
    standardiser = fitted(kind, x)
    torch.testing.assert_close(standardiser.inverse(standardiser(x)), x)
    head = Projector(10, 24).double()
    z = torch.randn(7, 10, dtype=torch.float64)
    torch.testing.assert_close(head.with_last(standardiser.folded)(z), standardiser.inverse(head(z)))


def test_layernorm_is_each_token_alone_and_stays_out_of_the_head():
    x = tokens()
    standardiser = fitted("layernorm", x)
    torch.testing.assert_close(standardiser(x), torch.nn.functional.layer_norm(x, (24,)))
    assert not standardiser.affine


@pytest.mark.parametrize("order", [1, 2, 64, 192, 384, 768, 1024, 1280])
def test_hadamard_matrices_are_orthogonal_with_entries_of_one_size(order):
    matrix = torch.from_numpy(hadamard_matrix(order))
    torch.testing.assert_close(matrix @ matrix.T, torch.eye(order).double())
    torch.testing.assert_close(matrix.abs(), torch.full_like(matrix, order**-0.5))


def test_an_order_without_a_matrix_is_refused():
    with pytest.raises(UserError, match="order 100"):
        hadamard_matrix(100)


def test_an_unknown_kind_lists_the_known_ones():
    with pytest.raises(UserError, match="phi-s"):
        Standardiser(8, "whiten")
