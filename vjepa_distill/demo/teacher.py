"""The demo's teacher: a small encoder that is told the labels of the toy world's training videos."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vjepa_distill.data.loader import Loader
from vjepa_distill.progress import progress
from vjepa_distill.training.optim import Precision, make_optimizer, parameters, set_rate
from vjepa_distill.training.schedule import learning_rate

Table = Mapping[str, Mapping[str, str]]
"""File name -> its row of labels."""
CLASSES, MOVEMENTS = ("shape", "outcome"), (("x", "y"), ("vx", "vy"))
MOMENTS = 2  # of each clip that is read
PEAK = 1.5e-3  # learning rate; at 4e-3 no shape was learned at all


class Steps(NamedTuple):
    """How long it learns, in batches."""

    moments: int
    clips: int


class Labels:
    """Labels as numbers: classes [N], and pairs [N, 2] at zero mean and unit variance."""

    def __init__(self, table: Table) -> None:
        rows = list(table.values())
        self.number = {file: number for number, file in enumerate(table)}
        self.values: dict[str, Tensor] = {}
        for column in CLASSES:
            names = sorted({row[column] for row in rows})
            self.values[column] = torch.tensor([names.index(row[column]) for row in rows])
        for pair in MOVEMENTS:
            numbers = torch.tensor([[float(row[column]) for column in pair] for row in rows])
            self.values["_".join(pair)] = (numbers - numbers.mean(dim=0)) / numbers.std(dim=0)

    def of(self, files: list[str], device: torch.device) -> dict[str, Tensor]:
        """The labels of these files."""
        rows = [self.number[file] for file in files]
        return {name: values[rows].to(device) for name, values in self.values.items()}


class Reader(nn.Module):
    """Reads labels from the mean of all tokens through a linear layer each, as the probes will."""

    def __init__(self, dim: int, labels: Labels) -> None:
        super().__init__()
        sizes = {
            name: 2 if values.ndim == 2 else int(values.max()) + 1 for name, values in labels.values.items()
        }
        self.heads = nn.ModuleDict({name: nn.Linear(dim, size) for name, size in sizes.items()})

    def forward(self, tokens: Tensor, labels: Mapping[str, Tensor]) -> Tensor:
        """tokens [B, L, D] -> the sum of the losses of the labels that are given."""
        seen = tokens.float().mean(dim=1)
        return torch.stack([_distance(self.heads[name](seen), label) for name, label in labels.items()]).sum()


def _distance(said: Tensor, label: Tensor) -> Tensor:
    return F.cross_entropy(said, label) if label.ndim == 1 else F.mse_loss(said, label)


def train_teacher(
    encoder: Any, loader: Loader, table: Table, steps: Steps, how: Precision, device: torch.device
) -> None:
    """Trains the encoder, in place, to say of each clip what the table says of its file.

    First of moments alone, what shape they show: asked everything at once, it followed the shapes after 200
    steps and could not name one.
    """
    labels, total = Labels(table), steps.moments + steps.clips
    reader = Reader(encoder.embed_dim, labels).to(device)
    optimizer = make_optimizer(nn.ModuleList([encoder, reader]), (0.9, 0.95), 0.04, False)
    with progress("teaching the teacher") as update:
        for step in range(total):
            set_rate(optimizer, learning_rate(step, total, max(1, total // 20), PEAK))
            batch = next(loader).to(device)
            clip, answers = batch.clip, labels.of(batch.extras["path"], device)
            if step < steps.moments:
                clip, answers = moments(clip), {"shape": answers["shape"].repeat_interleave(MOMENTS)}
            optimizer.zero_grad()
            with how.guard("teach"):
                with how.autocast():
                    tokens = encoder(clip)
                reader(tokens, answers).backward()
            nn.utils.clip_grad_norm_(parameters(optimizer), 1.0)
            optimizer.step()
            update(step + 1, total)


def moments(clip: Tensor) -> Tensor:
    """Two pairs of neighbouring frames of each clip, drawn by lot: [B, 3, T, H, W] -> [2 B, 3, 2, H, W]."""
    pairs = clip.unflatten(2, (-1, 2)).transpose(1, 2)
    return pairs[:, torch.randperm(pairs.shape[1])[:MOMENTS]].flatten(0, 1)
