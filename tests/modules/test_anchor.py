"""The anchor is a kernel regression of what was seen: equal to a loop, and no more than that."""

import math

import pytest
import torch

from vjepa_distill.modules.anchor import Anchor, AnomalyAnchor
from vjepa_distill.tokens import Grid, coordinates

GRID = Grid(4, 3, 5)


def anchor_of(dim, time=0.7, space=0.9, shrink=0.05, seed=0):
    torch.manual_seed(seed)
    anchor = Anchor(dim).double()
    with torch.no_grad():
        anchor.gain.copy_(1 + torch.randn(dim) / 3)
        anchor.log_time.fill_(math.log(time))
        anchor.log_space.fill_(math.log(space))
        anchor.log_shrink.fill_(math.log(shrink))
    return anchor


def scattered(rows, kept, asked, dim, grid=GRID, seed=1):
    """Random tokens at places of two tubelets that differ by row; what is asked may have been seen."""
    g = torch.Generator().manual_seed(seed)
    pairs = [torch.randperm(2 * grid.cells, generator=g)[:kept].sort()[0] for _ in range(rows)]
    keep = torch.stack([places + row % (grid.t - 1) * grid.cells for row, places in enumerate(pairs)])
    query = torch.stack([torch.randperm(grid.length, generator=g)[:asked].sort()[0] for _ in range(rows)])
    return torch.randn(rows, kept, dim, generator=g, dtype=torch.float64), keep, query


def pairwise(seen, keep, query, grid, gain, log_time, log_space, log_shrink):
    """The definition, one pair of tokens after the other."""
    t, s, e = log_time.exp(), log_space.exp(), log_shrink.exp()
    places = [(i, j, k) for i in range(grid.t) for j in range(grid.h) for k in range(grid.w)]
    rows = []
    for z, kept, asked in zip(seen, keep.tolist(), query.tolist(), strict=True):
        said = []
        for q in asked:
            nearest = min(abs(places[q][0] - places[k][0]) for k in kept)
            above, below = e * z.mean(dim=0), e
            for token, k in zip(z, kept, strict=True):
                dt, dh, dw = (abs(a - b) for a, b in zip(places[q], places[k], strict=True))
                weight = torch.exp(-(dt - nearest) / t - (dh**2 + dw**2) / (2 * s**2))
                above, below = above + weight * token, below + weight
            said.append(gain * above / below)
        rows.append(torch.stack(said))
    return torch.stack(rows)


def test_it_equals_a_loop_over_pairs_and_so_do_its_gradients():
    anchor = anchor_of(6)
    seen, keep, query = scattered(3, 17, 11, 6)
    leaves = {name: p.detach().clone().requires_grad_() for name, p in anchor.named_parameters()}
    expected = pairwise(seen, keep, query, GRID, **leaves)
    said = anchor(seen, keep, query, GRID)
    torch.testing.assert_close(said, expected, atol=1e-12, rtol=0)
    direction = torch.randn(said.shape, dtype=torch.float64)
    (said * direction).sum().backward()
    (expected * direction).sum().backward()
    assert leaves.keys() == {"gain", "log_time", "log_space", "log_shrink"}
    for name, p in anchor.named_parameters():
        assert p.grad.abs().max() > 1e-3, f"{name} is tried"
        torch.testing.assert_close(p.grad, leaves[name].grad, atol=1e-11, rtol=0)


def test_of_anomalies_it_copies_what_differs_from_the_usual_and_adds_that_again():
    torch.manual_seed(2)
    plain, anchor = anchor_of(6), AnomalyAnchor(6, (GRID.h, GRID.w)).double()
    with torch.no_grad():
        anchor.load_state_dict(plain.state_dict(), strict=False)
        anchor.usual.copy_(noise_of(6, GRID.h, GRID.w) / 10)
        anchor.log_forget.fill_(math.log(0.07))
    seen, keep, query = scattered(3, 17, 11, 6)
    usual = 10 * anchor.usual.detach().flatten(1).T
    expected = []
    for z, kept, asked in zip(seen, keep.tolist(), query.tolist(), strict=True):
        apart = torch.stack([token - usual[k % GRID.cells] for token, k in zip(z, kept, strict=True)])
        # δ below the line alone: a token of zeros seen with the weight δ, of which the mean does not know
        copied = pairwise(apart[None], torch.tensor([kept]), torch.tensor([asked]), GRID, **parts(anchor))[0]
        weight = torch.stack([total_weight(kept, q, anchor) for q in asked])[:, None]
        copied = copied * weight / (weight + 0.07)
        expected.append(torch.stack([usual[q % GRID.cells] for q in asked]) + copied)
    torch.testing.assert_close(anchor(seen, keep, query, GRID), torch.stack(expected), atol=1e-12, rtol=0)


def noise_of(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def parts(anchor):
    return {name: getattr(anchor, name) for name in ("gain", "log_time", "log_space", "log_shrink")}


def total_weight(kept, q, anchor):
    """Σ_k κ(q,k) + ε."""
    places = [(i, j, k) for i in range(GRID.t) for j in range(GRID.h) for k in range(GRID.w)]
    nearest = min(abs(places[q][0] - places[k][0]) for k in kept)
    total = anchor.log_shrink.exp()
    for k in kept:
        dt, dh, dw = (abs(a - b) for a, b in zip(places[q], places[k], strict=True))
        total = total + torch.exp(
            -(dt - nearest) / anchor.log_time.exp() - (dh**2 + dw**2) / (2 * anchor.log_space.exp() ** 2)
        )
    return total.detach()


def test_before_anything_is_usual_the_last_seen_tubelet_is_copied():
    grid = Grid(6, 4, 4)
    keep, query = torch.arange(16).expand(2, -1), torch.arange(16, 96).expand(2, -1)
    seen = noise_of(2, 16, 8)
    said = AnomalyAnchor(8, (4, 4)).double()(seen, keep, query, grid)
    last = seen.repeat(1, 5, 1)
    assert (said - last).abs().mean() < 0.06 * last.abs().mean()


def test_all_of_an_anchor_of_anomalies_learns_and_the_usual_is_found():
    """Tokens that are the usual one of their cell and noise: the usual one is learned, in few steps."""
    grid, torch_cells = Grid(2, 3, 4), noise_of(12, 5)
    anchor = AnomalyAnchor(5, (3, 4)).double()
    optimizer = torch.optim.AdamW(anchor.parameters(), lr=5e-3)
    for step in range(200):
        g = torch.Generator().manual_seed(step)
        target = torch_cells.repeat(1, 2, 1).reshape(24, 5) + torch.randn(8, 24, 5, generator=g).double() / 3
        order = torch.stack([torch.randperm(12, generator=g) for _ in range(8)])
        keep, query = (torch.cat([part, part + 12], dim=1) for part in (order[:, :6], order[:, 6:]))
        seen = target.gather(1, keep[..., None].expand(-1, -1, 5))
        asked = target.gather(1, query[..., None].expand(-1, -1, 5))
        optimizer.zero_grad()
        loss = (anchor(seen, keep, query, grid) - asked).abs().mean()
        loss.backward()
        optimizer.step()
    assert all(p.grad.abs().max() > 0 for p in anchor.parameters())
    assert (10 * anchor.usual.flatten(1).T - torch_cells).abs().mean() < 0.2
    assert loss < 1.2 * (torch.randn(10000).abs().mean() / 3)


def test_on_another_grid_the_usual_is_read_between_the_cells():
    anchor = AnomalyAnchor(3, (2, 2)).double()
    with torch.no_grad():
        anchor.usual.copy_(torch.tensor([1.0, 2.0, 3.0])[:, None, None].expand(3, 2, 2) / 10)
        anchor.gain.zero_()
    grid = Grid(2, 5, 3)
    said = anchor(noise_of(1, 15, 3), torch.arange(15)[None], torch.arange(15, 30)[None], grid)
    torch.testing.assert_close(said, torch.tensor([1.0, 2.0, 3.0]).double().expand(1, 15, 3))


@pytest.mark.parametrize("now", [1, 2])
def test_the_last_seen_tubelet_is_copied_at_any_horizon(now):
    grid = Grid(20, 4, 4)
    keep = torch.arange(now * grid.cells).expand(2, -1)
    query = torch.arange(now * grid.cells, grid.length).expand(2, -1)
    seen = torch.randn(2, now * grid.cells, 8, generator=torch.Generator().manual_seed(0))
    said = Anchor(8)(seen, keep, query, grid)
    assert torch.equal(said[:, : grid.cells], said[:, -grid.cells :]), "near and far alike"
    last = seen[:, -grid.cells :].repeat(1, grid.t - now, 1)
    apart = (said - last).abs().mean() / last.abs().mean()
    assert apart < (0.05 if now == 1 else 0.2), "one before the last still counts exp(-2) of it"
    sharp = anchor_of(8, time=0.01, space=0.05, shrink=1e-9)
    with torch.no_grad():
        sharp.gain.fill_(1)
    torch.testing.assert_close(sharp(seen.double(), keep, query, grid), last.double(), atol=1e-6, rtol=0)


def test_far_from_everything_that_was_seen_it_says_the_mean():
    grid = Grid(1, 1, 64)
    keep = torch.arange(4)[None]
    seen = torch.randn(1, 4, 8, generator=torch.Generator().manual_seed(0))
    said = Anchor(8)(seen, keep, torch.arange(8, 64)[None], grid)
    torch.testing.assert_close(said, seen.mean(dim=1, keepdim=True).expand_as(said))


def test_no_gradient_goes_into_the_tokens():
    seen, keep, query = scattered(2, 9, 5, 6)
    seen.requires_grad_()
    said = anchor_of(6)(seen, keep, query, GRID)
    assert said.requires_grad
    said.sum().backward()
    assert seen.grad is None


def test_a_row_does_not_depend_on_other_rows():
    anchor = anchor_of(6)
    seen, keep, query = scattered(4, 9, 5, 6)
    together = anchor(seen, keep, query, GRID)
    for row in range(4):
        alone = anchor(seen[row : row + 1], keep[row : row + 1], query[row : row + 1], GRID)
        torch.testing.assert_close(alone[0], together[row], atol=1e-14, rtol=0)


def test_bf16_stays_fp32_inside():
    """Autocast would round the weights and the sums; the tokens alone come rounded."""
    anchor, (seen, keep, query) = anchor_of(6).float(), scattered(2, 17, 9, 6)
    exact = anchor(seen.bfloat16().float(), keep, query, GRID)
    with torch.autocast("cpu", torch.bfloat16):
        said = anchor(seen.bfloat16(), keep, query, GRID)
    assert said.dtype == torch.float32
    torch.testing.assert_close(said, exact)


def test_compiled_equals_eager():
    seen, keep, query = scattered(2, 17, 9, 6)
    results = []
    for compiled in (False, True):
        anchor = anchor_of(6).float()
        forward = torch.compile(anchor, fullgraph=True) if compiled else anchor
        said = forward(seen.float(), keep, query, GRID)
        said.square().sum().backward()
        results.append([said, *(p.grad for p in anchor.parameters())])
    for eager, compiled in zip(*results, strict=True):
        torch.testing.assert_close(compiled, eager)


def test_a_long_grid_neither_underflows_nor_needs_a_weight_for_every_pair():
    grid, dim = Grid(42, 14, 14), 16
    keep = torch.arange(2 * grid.cells)[None]
    query = torch.arange(2 * grid.cells, grid.length)[None]
    seen = torch.randn(1, 2 * grid.cells, dim, generator=torch.Generator().manual_seed(0))
    largest = 0

    class Watching(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
            nonlocal largest
            out = operation(*args, **(kwargs or {}))
            largest = max([largest, *(x.numel() for x in [out] if isinstance(x, torch.Tensor))])
            return out

    with Watching():
        said = Anchor(dim)(seen, keep, query, grid)
    assert largest <= grid.length * (dim + 1), f"{largest}: {keep.numel() * query.numel()} pairs"
    last = seen[:, -grid.cells :]
    apart = (said[:, -grid.cells :] - last).abs().mean() / last.abs().mean()
    assert said.isfinite().all()
    assert apart < 0.2, "40 tubelets ahead it is still the last one"


def test_places_are_the_grids_own():
    """A token that is asked for at its own place comes back, at each place of the grid."""
    every = torch.arange(GRID.length)[None]
    seen = coordinates(GRID).double()[None]
    sharp = anchor_of(3, time=0.02, space=0.1, shrink=1e-9)
    with torch.no_grad():
        sharp.gain.fill_(1)
    torch.testing.assert_close(sharp(seen, every, every, GRID), seen, atol=1e-6, rtol=0)
