"""Seconds a whole training step takes in fp32 and in bf16, in turn within one process, and their ratio.

Run: python tests/training/bench_step.py [--rounds 5] [--batch 16]  (random pixels, no video)
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch

from vjepa_distill import create
from vjepa_distill.modules.heads import Predictor, Projector
from vjepa_distill.modules.standardise import Standardiser
from vjepa_distill.objectives.match import Match
from vjepa_distill.objectives.temporal import Eventually, Now, Soon
from vjepa_distill.protocols import Batch, Timeline
from vjepa_distill.stages.distill import Distill
from vjepa_distill.stages.jepa import Jepa
from vjepa_distill.training.optim import make_optimizer, precision, set_rate
from vjepa_distill.training.step import train_step

CPU = torch.device("cpu")


def distill(student: str) -> Distill:
    """Stage 1 at 112 px, 20 frames: a ViT-Ti/16 teacher."""
    encoder, teacher = small(student), create("backbone", "timm/vit_tiny_patch16_224")
    head, standardiser = Projector(encoder.embed_dim, 192), Standardiser(192)
    return Distill(encoder, {"t": teacher}, {"t": head}, {"t": standardiser}, {"match": Match(192)})


def jepa(student: str) -> Jepa:
    """Stage 2 of the same student: 4 + 8 + 8 frames, predictor 192 x 4."""
    encoder, timeline = small(student), Timeline(2, 4, 4)
    dim = encoder.embed_dim
    objectives = {
        "now": Now(dim, timeline),
        "soon": Soon(dim, timeline),
        "eventually": Eventually(dim, timeline),
    }
    return Jepa(encoder, Predictor(dim, 192, 4), objectives, timeline, lambda step: 0.99)


def small(name: str) -> torch.nn.Module:
    return create("backbone", name, **({"depth": 6} if name.startswith("vjepa/") else {}))


def seconds(stage: torch.nn.Module, optimizer: torch.optim.Optimizer, amp: str, batch: Batch) -> float:
    """One whole step: forward, backward, clip, update, teacher."""
    how, weights = precision(amp, CPU), dict.fromkeys(["match", "now", "soon", "eventually"], 1.0)
    before = time.perf_counter()
    train_step(stage, stage, optimizer, how.scaler, [batch], weights, 1.0, how.autocast, 0)
    return time.perf_counter() - before


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=16)
    chosen = parser.parse_args()
    rows = torch.arange(chosen.batch)
    batch = Batch(torch.rand(chosen.batch, 3, 20, 112, 112), rows, rows)
    print(
        f"torch {torch.__version__}, {torch.get_num_threads()} threads, batch {chosen.batch}, 20 x 112 x 112"
    )
    for stage_of in (distill, jepa):
        for student in ("vjepa/tiny", "ruffle/tiny"):
            stage = stage_of(student)
            optimizer = make_optimizer(stage, (0.9, 0.95), 0.04, decay_all=False)
            set_rate(optimizer, 1e-5)
            pairs = [
                [seconds(stage, optimizer, amp, batch) for amp in ("fp32", "bf16")]
                for _ in range(chosen.rounds + 1)
            ]
            fp32, bf16 = (statistics.median(column) for column in zip(*pairs[1:], strict=True))
            ratio = statistics.median(a / b for a, b in pairs[1:])
            name = f"{stage_of.__name__:8} {student:12}"
            print(f"{name} fp32 {fp32:6.2f} s  bf16 {bf16:6.2f} s  fp32/bf16 {ratio:.2f}")


if __name__ == "__main__":
    main()
