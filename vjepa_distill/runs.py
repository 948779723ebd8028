"""The two training runs, each composed in one paragraph: claim the folder, open the data, build the parts, go."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vjepa_distill import assemble, checkpoint, exports, folder
from vjepa_distill.config import Component, DistillConfig, JepaConfig, Run
from vjepa_distill.distributed import Ranks, all_mean, broadcast_object, process_group, wrap
from vjepa_distill.errors import UserError
from vjepa_distill.heads import Predictor, Projector
from vjepa_distill.health import Watch
from vjepa_distill.log import RunLog
from vjepa_distill.loop import Loop
from vjepa_distill.optim import make_optimizer, precision
from vjepa_distill.progress import progress
from vjepa_distill.protocols import Draw, Timeline
from vjepa_distill.schedule import ema_momentum, resolve
from vjepa_distill.stages.distill import Distill
from vjepa_distill.stages.jepa import Jepa
from vjepa_distill.standardise import Standardiser


@dataclass
class World:
    """Where a run takes place: its process, its device, its log."""

    config: Run
    ranks: Ranks
    device: torch.device
    log: RunLog
    state: dict[str, Any] | None
    """The checkpoint to go on from."""


@contextmanager
def world_of(config: Run) -> Iterator[World]:
    """Claim the run folder, join the other ranks, open the log, seed torch."""
    device = assemble.device_of(config.device)
    if config.amp == "fp16" and device.type == "cpu":
        raise UserError("--amp fp16 needs CUDA: on a CPU type --amp bf16 (faster) or fp32")
    if config.threads:
        torch.set_num_threads(config.threads)
    with process_group(device) as ranks:
        state = start_of(config, ranks)
        device = torch.device("cuda", ranks.local) if device.type == "cuda" else device
        done = state["step"] if state else 0
        with RunLog(config.out, config.steps, done, ranks.rank) as log:
            torch.manual_seed(config.seed)
            yield World(config, ranks, device, log, state)


def start_of(config: Run, ranks: Ranks) -> dict[str, Any] | None:
    """Rank 0 claims the folder; every rank loads the checkpoint that a resumed run goes on from."""
    if ranks.rank == 0:
        folder.claim(config)
    path = broadcast_object(checkpoint.latest(config.out) if config.resume and ranks.rank == 0 else None)
    return checkpoint.load(path) if path else None


def distill(config: DistillConfig) -> Path:
    """Stage 1: match the teacher's tokens. Returns the run folder, which holds ``student.safetensors``."""
    (key, taught), *_ = config.teachers.items()
    for component in (config.student, taught):
        assemble.check_component("backbone", component)
    for term in config.objectives.values():
        assemble.check_component("objective", term)
    with world_of(config) as world:
        videos = assemble.videos_of(config, world.ranks)
        student = assemble.encoder_of(config.student)
        teacher = assemble.encoder_of(taught)
        head = Projector(student.embed_dim, teacher.embed_dim, config.head.kind, config.head.hidden)
        objectives = assemble.objectives_of(config.objectives, teacher.embed_dim, None)
        standardiser = Standardiser(teacher.embed_dim, config.standardise)
        stage = Distill(student, {key: teacher}, {key: head}, {key: standardiser}, objectives, config.seed)
        world.log.say(f"teacher {taught.name}, {assemble.size_of(teacher)}")
        if assemble.untrained(taught):
            world.log.say(
                f"WARNING: the teacher has random weights. Type --teachers.{key}.options.pretrained true, "
                f"--teachers.{key}.options.weights FILE, or a run folder as --teachers.{key}.name"
            )
        stage.to(world.device)
        if world.state is None:
            estimate(stage, config, world, videos)
        loop = loop_of(stage, {"student": student}, config, world, videos)
        loop.run()
        if world.ranks.rank == 0:
            export_distilled(stage, config)
        world.log.say(verdict(loop.evaluate()))
    return Path(config.out)


def estimate(stage: Distill, config: DistillConfig, world: World, videos: assemble.Videos) -> None:
    """Fit the standardisers on some batches of every rank, before the first step."""
    loader = assemble.loader_of(config, videos.loader.clips, world.ranks)
    epoch = -(-loader.clips.num_samples // loader.stride)
    count = min(config.statistics_batches, epoch)

    def batches() -> Iterator[Any]:
        with progress("teacher statistics") as update:
            for number in range(count):
                yield next(loader).to(world.device)
                if world.ranks.rank == 0:
                    update(number + 1, count)

    with precision(config.amp, world.device).autocast():
        moments = stage.estimate(batches())
    loader.close()
    for name, found in moments.items():
        # means over ranks serve as sums: only ratios of the three are used
        found.count, found.sum, found.outer = (
            all_mean(found.count),
            all_mean(found.sum),
            all_mean(found.outer),
        )
        stage.standardisers[name].fit(found)


def export_distilled(stage: Distill, config: DistillConfig) -> None:
    """student.safetensors, head.safetensors (its output in the teacher's own units), statistics.safetensors."""
    run = Path(config.out)
    made = record_of("distill", config.student, config)
    for key, taught in config.teachers.items():
        record = {**made, "teacher": assemble.provenance_of(taught), "teacher_key": key}
        head = stage.heads[key].with_last(stage.standardisers[key].folded)
        exports.export_head(run / "head.safetensors", head, record)
        exports.export_backbone(run / "statistics.safetensors", stage.standardisers[key], record)
    exports.export_backbone(run / "student.safetensors", stage.student, made)


def verdict(scores: dict[str, float]) -> str:
    """One line that says how well the student speaks the teacher's tokens."""
    if not scores:
        return "no held-out videos (data.heldout 0): nothing to judge by"
    won = scores["cosine"] - scores["cosine_floor"]
    judged = "learned the teacher's tokens" if won > 0.1 and scores["r2"] > 0.1 else "did NOT learn much"
    return (
        f"verdict: the student {judged}: held-out cosine {scores['cosine']:.3f} "
        f"(mean token {scores['cosine_floor']:.3f}, shuffled {scores['cosine_shuffled']:.3f}), "
        f"R² {scores['r2']:.3f} (mean token 0)"
    )


def jepa_train(config: JepaConfig) -> Path:
    """Stage 2: teach the future. Returns the run folder: ``student.safetensors`` and ``teacher.safetensors``."""
    config.student = component_of(config)
    assemble.check_component("backbone", config.student)
    for term in config.objectives.values():
        assemble.check_component("objective", term)
    with world_of(config) as world:
        videos = assemble.videos_of(config, world.ranks)
        student = assemble.encoder_of(Component(config.init) if config.init else config.student)
        timeline = Timeline(*(frames // config.tubelet for frames in vars(config.spans).values()))
        check_grid(student, config, timeline)
        chosen = vars(config.predictor)
        predictor = Predictor(student.embed_dim, **chosen)
        objectives = assemble.objectives_of(config.objectives, student.embed_dim, timeline)
        stage = Jepa(
            student,
            predictor,
            objectives,
            timeline,
            momentum_of(config, world.log),
            config.teacher_context,
            config.normalise_target,
            config.seed,
        )
        check_masks(stage, config)
        stage.to(world.device)
        parts = {"student": student, "predictor": predictor}
        watch = Watch(**vars(config.collapse))
        loop_of(stage, parts, config, world, videos, watch).run()
        if world.ranks.rank == 0:
            made = record_of("jepa", config.student, config)
            exports.export_backbone(Path(config.out) / "student.safetensors", stage.student, made)
            exports.export_backbone(Path(config.out) / "teacher.safetensors", stage.teacher, made)
    return Path(config.out)


def component_of(config: JepaConfig) -> Component:
    """The student to build: that of --init, which must be the one named if one is named."""
    if not config.init:
        return config.student
    path = exports.locate(config.init)
    if path is None:
        raise UserError(f"--init {config.init}: there is no such run folder or .safetensors file")
    made = exports.read_record(path)["backbone"]
    found = Component(made["name"], made["options"])
    if config.student.name and config.student != found:
        raise UserError(
            f"--init {config.init} holds {found.name} with {found.options}, but the student is set to "
            f"{config.student.name} with {config.student.options}: leave --student out"
        )
    return found


def check_grid(student: nn.Module, config: JepaConfig, timeline: Timeline) -> None:
    """The student's tubelets are those the spans are counted in."""
    try:
        grid = student.grid(config.data.num_frames, *config.data.shape)
    except ValueError as problem:
        raise UserError(f"{config.student.name}: {problem}") from problem
    if grid.t != sum(timeline):
        raise UserError(
            f"{config.student.name} makes {grid.t} tubelets of {config.data.num_frames} frames, but tubelet="
            f"{config.tubelet} makes {sum(timeline)}: type --tubelet {config.data.num_frames // grid.t}"
        )


def check_masks(stage: Jepa, config: JepaConfig) -> None:
    """An impossible mask is refused now, with the grid and the numbers, and not at the first step."""
    grid = stage.student.grid(config.data.num_frames, *config.data.shape)
    for view in stage.views:
        view.split(grid, Draw(config.seed, torch.zeros(1, dtype=torch.int64)))


def momentum_of(config: JepaConfig, log: RunLog) -> Any:
    """The teacher's momentum by step, its half-life resolved to steps and said."""
    if config.ema.half_life is None:
        return functools.partial(ema_momentum, total=config.steps, fixed=config.ema.momentum)
    steps = resolve(config.ema.half_life, config.steps, "ema.half_life")
    momentum = ema_momentum(0, config.steps, half_life=steps)
    log.say(f"teacher: EMA half-life {steps} steps (momentum {momentum:.5f})")
    return functools.partial(ema_momentum, total=config.steps, half_life=steps)


def record_of(stage: str, student: Component, config: Run) -> dict[str, Any]:
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
        "backbone": assemble.provenance_of(student),
        "clip": clip,
        "data": {"source": data.source, "root": data.root, "files": data.files},
        "steps": config.steps,
    }


def loop_of(
    stage: nn.Module,
    parts: dict[str, nn.Module],
    config: Run,
    world: World,
    videos: assemble.Videos,
    watch: Watch | None = None,
) -> Loop:
    """Optimizer, DDP, loop; restored where the run is gone on with."""
    if config.checkpointing:
        assemble.set_checkpointing(parts)
    chosen = config.optimizer
    optimizer = make_optimizer(stage, chosen.betas, chosen.weight_decay, chosen.decay_all)
    forward = wrap(stage, world.device, config.compile)
    torch.manual_seed(config.seed + 1 + world.ranks.rank)  # drop path differs between ranks, weights do not
    how = precision(config.amp, world.device)
    loop = Loop(
        stage,
        forward,
        optimizer,
        how,
        videos.loader,
        videos.heldout,
        config,
        world.log,
        world.ranks,
        world.device,
        watch,
    )
    if world.state:
        loop.restore(world.state)
    world.log.say(
        f"student {config.student.name}, {assemble.size_of(parts['student'])}; {world.device.type} {config.amp}, "
        f"{torch.get_num_threads()} threads, {world.ranks.world} rank(s)"
    )
    world.log.say(videos.words())
    warmup = resolve(chosen.warmup, config.steps, "optimizer.warmup")
    batch = config.batch_size * config.accumulate * world.ranks.world
    world.log.say(
        f"steps {loop.done} to {config.steps}, {batch} clips a step, warm-up {warmup} steps to lr {chosen.peak(batch):.2e}"
    )
    return loop
