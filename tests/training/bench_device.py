"""Seconds and memory of a whole training step, in each precision, compiled or not, and its share of the peak.

Run: python tests/training/bench_device.py [--student vjepa/base] [--frames 84] [--size 224] [--batch 1]
Random pixels, no video. The share is of the FLOP/s that one large matrix product of the same precision
reaches here; a step's FLOPs are torch's count of it, without what checkpointing computes again.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from vjepa_distill import create
from vjepa_distill.distributed import wrap
from vjepa_distill.modules.heads import Predictor, Projector
from vjepa_distill.modules.standardise import Standardiser
from vjepa_distill.objectives.match import Match
from vjepa_distill.objectives.temporal import Eventually, Now, Soon
from vjepa_distill.protocols import Batch, Timeline
from vjepa_distill.stages.distill import Distill
from vjepa_distill.stages.jepa import Jepa
from vjepa_distill.training.optim import make_optimizer, precision, set_rate
from vjepa_distill.training.step import train_step

TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def distill(given: argparse.Namespace) -> Distill:
    """Stage 1: a ViT-Ti/16 teacher, live."""
    encoder, teacher = create("backbone", given.student), create("backbone", "timm/vit_tiny_patch16_224")
    head, standardiser = Projector(encoder.embed_dim, 192), Standardiser(192)
    return Distill(encoder, {"t": teacher}, {"t": head}, {"t": standardiser}, {"match": Match(192)})


def jepa(given: argparse.Namespace) -> Jepa:
    """Stage 2 at the scaffold's proportions: 4 NOW and 16 SOON of 84 frames, predictor 384 x 12."""
    encoder, tubelets = create("backbone", given.student), given.frames // 2
    now, soon = max(1, round(tubelets * 2 / 42)), max(1, round(tubelets * 8 / 42))
    timeline, dim = Timeline(now, soon, tubelets - now - soon), encoder.embed_dim
    objectives = {
        "now": Now(dim, timeline),
        "soon": Soon(dim, timeline),
        "eventually": Eventually(dim, timeline),
    }
    return Jepa(encoder, Predictor(dim, 384, 12), objectives, timeline, lambda step: 0.99)


def seconds(work: Callable[[], Any], device: torch.device) -> float:
    """Of one call, the device's queue emptied before and after."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    before = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - before


def best(amp: str, device: torch.device) -> float:
    """FLOP/s of a large matrix product of random numbers."""
    size = 8192 if device.type == "cuda" else 2048
    a, b = (torch.randn(size, size, device=device, dtype=TYPES[amp]) for _ in range(2))
    times = [seconds(lambda: [a @ b for _ in range(5)], device) / 5 for _ in range(6)]
    return 2 * size**3 / statistics.median(times[1:])


def measured(given: argparse.Namespace, stage_of: Callable, amp: str, compiled: bool, peak: float) -> str:
    """One line: the median step of so many, after two that warm up."""
    device = torch.device(given.device)
    torch.manual_seed(0)
    stage = stage_of(given).to(device)
    if given.checkpointing:
        for part in (p for p in stage.children() if hasattr(p, "set_checkpointing")):
            part.set_checkpointing(True)
    optimizer, how = make_optimizer(stage, (0.9, 0.95), 0.04, decay_all=False), precision(amp, device)
    set_rate(optimizer, 1e-5)
    rows = torch.arange(given.batch)
    batch = Batch(torch.rand(given.batch, 3, given.frames, given.size, given.size), rows, rows).to(device)
    weights = dict.fromkeys(["match", "now", "soon", "eventually"], 1.0)

    def step() -> Any:
        return train_step(forward, stage, optimizer, how.scaler, [batch], weights, 1.0, how.autocast, 0)

    forward = stage
    with FlopCounterMode(display=False) as counter:
        step()
    forward = wrap(stage, device, compiled)
    first = seconds(step, device)
    step()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    took = statistics.median(seconds(step, device) for _ in range(given.rounds))
    losses = step().losses
    memory = f"{torch.cuda.max_memory_allocated() / 2**30:7.2f} GiB" if device.type == "cuda" else "–"
    speed = counter.get_total_flops() / took / 1e12
    share = f"{100 * speed / peak * 1e12:5.1f} % of a product's"
    name = f"{stage_of.__name__:8} {amp}{' compiled' if compiled else '':9}"
    told = ", ".join(f"{key} {float(value):.4f}" for key, value in losses.items())
    return (
        f"{name} {took * 1e3:9.1f} ms  {given.batch / took:8.1f} clips/s {memory}  {speed:7.2f} TFLOP/s "
        f"{share}  (first {first:.1f} s; {told})"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--student", default="vjepa/base")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    for name, value in {"frames": 84, "size": 224, "batch": 1, "rounds": 5}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--stages", nargs="+", default=["distill", "jepa"])
    parser.add_argument("--amps", nargs="+", default=["fp32", "bf16"])
    parser.add_argument("--compiled", nargs="+", type=int, default=[0])
    parser.add_argument("--checkpointing", action="store_true")
    given = parser.parse_args()
    name = (
        torch.cuda.get_device_name() if given.device == "cuda" else f"{torch.get_num_threads()} CPU threads"
    )
    print(
        f"{name}, torch {torch.__version__}: {given.student}, batch {given.batch}, "
        f"{given.frames} x {given.size} x {given.size}{', checkpointing' * given.checkpointing}",
        flush=True,
    )
    peaks = {amp: best(amp, torch.device(given.device)) for amp in given.amps}
    print("one product: " + ", ".join(f"{amp} {peak / 1e12:.1f} TFLOP/s" for amp, peak in peaks.items()))
    for stage in given.stages:
        for amp in given.amps:
            for compiled in given.compiled:
                print(
                    measured(
                        given, {"distill": distill, "jepa": jepa}[stage], amp, bool(compiled), peaks[amp]
                    )
                )
                if given.device == "cuda":
                    torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
