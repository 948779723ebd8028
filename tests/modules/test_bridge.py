"""The way back from foretold tokens: a map that is there is found, and one that is not is not claimed."""

import pytest
import torch

from vjepa_distill.modules.bridge import Bridge


def tokens(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_a_linear_map_is_found():
    said, weight = tokens(20, 8, 6), tokens(6, 4, seed=1)
    read = said @ weight + 3
    bridge = Bridge(6, 4)
    assert bridge.fit(said, read) == pytest.approx(1, abs=1e-4)
    torch.testing.assert_close(bridge(said), read, rtol=0, atol=0.02)


def test_it_is_the_ridge_of_another_hand():
    from sklearn.linear_model import Ridge

    said, read = tokens(10, 5, 6), tokens(10, 5, 4, seed=1)
    bridge = Bridge(6, 4)
    bridge.fit(said, read)
    x, y = said.flatten(0, 1).double().numpy(), read.flatten(0, 1).double().numpy()
    other = Ridge(alpha=1e-3 * ((x - x.mean(0)) ** 2).sum(0).mean()).fit(x, y)
    torch.testing.assert_close(bridge(said).flatten(0, 1), torch.tensor(other.predict(x)).float())


def test_what_has_nothing_to_do_with_it_has_no_share():
    """Judged on rows that it was not fitted on: noise is not explained."""
    assert Bridge(6, 4).fit(tokens(20, 8, 6), tokens(20, 8, 4, seed=1)) < 0.05


def test_tokens_that_are_all_alike_do_no_harm():
    bridge = Bridge(3, 2)
    bridge.fit(torch.ones(1, 4, 3), torch.full((1, 4, 2), 5.0))
    assert bridge(torch.ones(3)).tolist() == pytest.approx([5.0, 5.0])
