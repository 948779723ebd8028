"""Latents made by hand: a world whose tokens are known, for objectives that are tried without a stage."""

import torch

from vjepa_distill.protocols import Draw, Latents, Timeline
from vjepa_distill.tokens import Grid, take

GRID = Grid(4, 3, 4)
TIMELINE = Timeline(2, 1, 1)


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def latents_of(objective, student, target, said=None, layers=(), grid=GRID):
    """student, target and each of layers [B, L, D] on the grid; said [B, L, D]: what would be predicted."""
    rows = len(target)
    splits = {view: view.split(grid, Draw(0, torch.arange(rows))) for view in objective.views()}
    return Latents(
        grid,
        target,
        splits,
        {view: take(student, split.keep) for view, split in splits.items()},
        lambda view, query: take(said, query),
        torch.arange(rows),
        alone=lambda view: take(target, splits[view].keep),
        layers={view: [take(x, split.keep) for x in layers] for view, split in splits.items()},
    )
