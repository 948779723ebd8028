"""What both runs share: where a run takes place, its loop, and what its exports say about themselves."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from vjepa_distill.distributed import Ranks, all_mean, barrier, process_group, wrap
from vjepa_distill.errors import UserError
from vjepa_distill.kernels.guard import Guard
from vjepa_distill.progress import progress
from vjepa_distill.protocols import Backbone, ModuleLike
from vjepa_distill.runs import encoders, folder, videos
from vjepa_distill.runs.first import from_first
from vjepa_distill.settings import Component, Run
from vjepa_distill.stages.distill import Distill
from vjepa_distill.stages.jepa import Jepa
from vjepa_distill.training import checkpoint
from vjepa_distill.training.health import Collapsed, Watch
from vjepa_distill.training.log import RunLog
from vjepa_distill.training.loop import Loop
from vjepa_distill.training.optim import Guarding, Precision, make_optimizer, precision, trusting
from vjepa_distill.training.step import Diverged

_log = logging.getLogger(__name__)


@dataclass
class World:
    """Where a run takes place: its process, its device, its log."""

    config: Run
    ranks: Ranks
    device: torch.device
    log: RunLog
    how: Precision
    state: dict[str, Any] | None
    """The checkpoint to go on from."""


@contextmanager
def world_of(config: Run) -> Iterator[World]:
    """Join the other ranks, check the run folder, seed torch."""
    device = encoders.device_of(config.device)
    if config.amp == "fp16" and device.type == "cpu":
        raise UserError("--amp fp16 needs CUDA: on a CPU type --amp bf16 (faster) or fp32")
    if config.threads:
        torch.set_num_threads(config.threads)
    with process_group(device) as ranks:
        state = start_of(config)
        device = torch.device("cuda", ranks.local) if device.type == "cuda" else device
        done = state["step"] if state else 0
        with RunLog(config.out, config.steps, done, ranks.rank) as log:
            torch.manual_seed(config.seed)
            how = precision(config.amp, device, guard_of(config.amp, device, log.say))
            yield World(config, ranks, device, log, how, state)


def guard_of(amp: str, device: torch.device, say: Callable[[str], None] = _log.warning) -> Guarding:
    """Kernels of bf16 on a CPU are tried before they are trusted: some are wrong on some processors."""
    return Guard(say) if (amp, device.type) == ("bf16", "cpu") else trusting


def start_of(config: Run) -> dict[str, Any] | None:
    """Rank 0 checks the folder; every rank loads the checkpoint that a resumed run goes on from."""
    config.format = folder.format_of(config)
    path = from_first(functools.partial(_checked, config))
    return checkpoint.load(path) if path else None


def _checked(config: Run) -> Path | None:
    folder.check(config)
    return checkpoint.latest(config.out) if config.resume else None


def record_of(stage: str, student: Component, built: Backbone, config: Run) -> dict[str, Any]:
    """What an exported file says about itself."""
    data, (height, width) = config.data, config.data.shape
    clip = {
        "num_frames": data.num_frames,
        "height": height,
        "width": width,
        "sampling": data.sampling,
        "fps": data.fps,
    }
    return {
        "stage": stage,
        "backbone": encoders.provenance_of(student, built),
        "clip": clip,
        "data": {"source": data.source, "root": data.root, "files": data.files},
        "steps": config.steps,
    }


def estimate(stage: Distill | Jepa, batches: int, config: Run, world: World, data: videos.Videos) -> None:
    """Fit the standardisers on some batches of every rank, before the first step."""
    loader = videos.loader_of(config, data.loader.clips, world.ranks)
    epoch = -(-loader.clips.num_samples // loader.stride)
    count = min(batches, epoch)

    def some() -> Iterator[Any]:
        with progress("teacher statistics") as update:
            for number in range(count):
                yield next(loader).to(world.device)
                if world.ranks.rank == 0:
                    update(number + 1, count)

    with world.how.guard("estimate"), world.how.autocast():
        moments = stage.estimate(some())
    loader.close()
    for name, found in moments.items():
        # means over ranks serve as sums: only ratios of the three are used
        found.count, found.sum, found.outer = (
            all_mean(found.count),
            all_mean(found.sum),
            all_mean(found.outer),
        )
        stage.standardisers[name].fit(found)


def make_steps(loop: Loop, export: Callable[[Path, dict[str, Any]], None]) -> None:
    """Make the steps that are left; where trouble ends them, the best step is exported before it is told."""
    try:
        loop.run()
    except (Diverged, Collapsed):
        if loop.standing.best:
            export_best(loop, export)
            barrier()  # no rank ends before: torchrun would end the others
        raise


def export_best(loop: Loop, export: Callable[[Path, dict[str, Any]], None]) -> None:
    """Write the best step's models to best/ in the run folder, as `export` (folder, what to add to the
    record) writes the last one's to the folder itself, and say which step it is.

    To be called last: rank 0's stage then holds the best weights.
    """
    if loop.ranks.rank == 0:
        best = loop.standing.best
        words = loop.standing.words() if loop.heldout else "no best is kept: no held-out videos"
        if best:
            run = Path(loop.config.out)
            loop.stage.load_state_dict(checkpoint.load(checkpoint.best_of(run))["stage"], strict=True)
            export(run / folder.BEST, {"steps": best.step, "score": best.score})
            words += f": {run / folder.BEST}"
        loop.log.say(words)


def loop_of(
    stage: Distill | Jepa,
    parts: Mapping[str, ModuleLike],
    config: Run,
    world: World,
    data: videos.Videos,
    watch: Watch | None = None,
) -> Loop:
    """Claim the folder; optimizer, DDP, loop; restored where the run is gone on with."""
    if config.checkpointing:
        encoders.set_checkpointing(parts)
    chosen = config.optimizer
    optimizer = make_optimizer(stage, chosen.betas, chosen.weight_decay, chosen.decay_all, chosen.student)
    forward = wrap(stage, world.device, config.compile)
    torch.manual_seed(config.seed + 1 + world.ranks.rank)  # drop path differs between ranks, weights do not
    loop = Loop(
        stage,
        forward,
        optimizer,
        world.how,
        data.loader,
        data.heldout,
        config,
        world.log,
        world.ranks,
        world.device,
        watch,
    )
    if world.state:
        loop.restore(world.state)
    from_first(functools.partial(folder.claim, config))
    world.log.begin()
    world.log.say(
        f"student {config.student.name}, {encoders.size_of(parts['student'])}; {world.device.type} "
        f"{config.amp}, {torch.get_num_threads()} threads, {world.ranks.world} rank(s)"
    )
    for line in data.words():
        world.log.say(line)
    batch = config.batch_size * config.accumulate * world.ranks.world
    world.log.say(
        f"steps {loop.done} to {config.steps}, {batch} clips a step, "
        f"warm-up {config.warmup_steps} steps to lr {chosen.peak(batch):.2e}"
    )
    return loop
