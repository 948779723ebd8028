"""How well broken physics is told from sound physics in the toy world, and how a rollout errs, for a run.

Run: python tests/measures/bench_surprise.py runs/demo/jepa [--pairs 400]

The run must be one of the toy world, as the demo makes. Videos are drawn anew, none was trained on.
"""

import argparse
import csv
import tempfile
from pathlib import Path

import numpy as np
import torch

from vjepa_distill import load_forecaster
from vjepa_distill.data.broken import write_broken
from vjepa_distill.data.clips import Recipe
from vjepa_distill.data.decoders.pyav import PyAV
from vjepa_distill.data.scan import build_index
from vjepa_distill.data.stretches import stretches
from vjepa_distill.measures.detection import by_kind
from vjepa_distill.measures.evaluation.horizon import Horizon
from vjepa_distill.stages.forecast import worst


def clips_of(root: Path, frames: int, size: int) -> dict[str, torch.Tensor]:
    """Every video whole, float [3, T, H, W], with labels."""
    index, recipe = build_index(root, decoder=PyAV()), Recipe(frames, size, size, crop="center")
    found = {}
    for entry in index.good:
        (part,) = stretches(entry, index.root, recipe, PyAV(), frames, 0, 1)
        found[entry.path] = part.clip.float() / 255
    return found


@torch.inference_mode()
def curves_of(model, clips: dict[str, torch.Tensor], horizon: int) -> dict[str, dict[str, np.ndarray]]:
    """By way of scoring, each video's curve over its tubelets."""
    ways: dict = {"surprise": [], "token difference": [], "token difference, worst cells": []}
    for clip in torch.stack(list(clips.values())).split(16):
        ways["surprise"].append(model.surprise(clip, horizon))
        tokens = model.targets(clip)
        step = (tokens[:, 1:] - tokens[:, :-1]).abs().mean(dim=4)
        step = torch.cat([step[:, :1], step], dim=1)
        step[:, : model.timeline.now + horizon - 1] = torch.nan
        ways["token difference"].append(step.mean(dim=(2, 3)))
        ways["token difference, worst cells"].append(worst(step))
    return {way: dict(zip(clips, torch.cat(rows).numpy(), strict=True)) for way, rows in ways.items()}


@torch.inference_mode()
def rolled(model, clips: dict[str, torch.Tensor], table) -> None:
    """The error of a rollout by tubelet, as a share of persistence's from NOW."""
    sound = torch.stack([clips[row["file"]] for row in table if row["break"] == "none"])
    now, soon = model.timeline.now, model.timeline.soon
    steps = (sum(model.timeline) - now) // soon
    said, last, came = [], [], []
    for part in sound.split(32):
        start = part[:, :, : model.now_frames]
        said.append(model.rollout(start, steps))
        last.append(model.rivals(start)["persistence"][:, :1])
        came.append(model.targets(part)[:, now : now + steps * soon])
    error, floor = ((torch.cat(x) - torch.cat(came)).abs().mean(dim=(0, 2, 3, 4)) for x in (said, last))
    print(f"rollout, skill against persistence by tubelet: {(1 - error / floor).numpy().round(3)}")


def main() -> None:
    """The tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run")
    parser.add_argument("--pairs", type=int, default=400)
    parser.add_argument("--horizon", type=int, default=1)
    chosen = parser.parse_args()
    model = load_forecaster(chosen.run)
    frames, size = model.frames, 64
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_broken(root, chosen.pairs, seed=99, frames=frames, size=size)
        clips = clips_of(root, frames, size)
        with open(root / "labels.csv", newline="") as file:
            table = list(csv.DictReader(file))
    seconds = np.arange(frames // model.tubelet) * model.tubelet / 10
    for way, curves in curves_of(model, clips, chosen.horizon).items():
        times = dict.fromkeys(curves, seconds)
        print(way)
        for kind, row in by_kind(
            curves, times, list(shifted(table, model.tubelet)), model.tubelet / 10
        ).items():
            told = (f"{name} {e['score']:.3f} [{e['low']:.3f}, {e['high']:.3f}]" for name, e in row.items())
            print(f"  {kind:7}", *told, f"by chance {row['found']['chance']:.3f}")
    far = Horizon(model)
    for row in table:
        if row["break"] == "none":
            far.add(clips[row["file"]][None], [row["file"]])
    print(far.record()["all"], far.eventually(), sep="\n")
    rolled(model, clips, table)


def shifted(table, tubelet: int):
    """Breaks at the second in which their tubelet begins."""
    for row in table:
        frame = round(float(row["second"]) * 10) if row["second"] else None
        yield row if frame is None else {**row, "second": f"{frame // tubelet * tubelet / 10:.3f}"}


if __name__ == "__main__":
    main()
