"""The run of stage 2: an encoder learns the future from a slowly following copy of itself."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from vjepa_distill.errors import UserError
from vjepa_distill.protocols import Backbone, Draw, ModuleLike, Timeline
from vjepa_distill.runs import encoders, exports, forecaster, initial, targets, videos
from vjepa_distill.runs.shared import estimate, export_best, loop_of, make_steps, record_of, world_of
from vjepa_distill.settings import JepaConfig
from vjepa_distill.settings.lengths import resolve
from vjepa_distill.settings.plain import settings
from vjepa_distill.stages.jepa import Jepa
from vjepa_distill.training.health import Watch
from vjepa_distill.training.log import RunLog
from vjepa_distill.training.schedule import ema_momentum


def jepa_train(config: JepaConfig | Mapping[str, Any]) -> Path:
    """Stage 2: teach the future. Returns the run folder: ``student`` and ``teacher.safetensors``.

    config: a JepaConfig, or its settings as nested dictionaries, as in YAML. UserError for bad input.
    """
    config = settings(JepaConfig, config, "config")
    start = initial.start_of(config)
    config.student, config.predictor = start.student, start.settings
    encoders.check([config.student], config.objectives)
    targets.check(config)
    videos.check(config.data)
    with world_of(config) as world:
        data = videos.of_run(config, world.ranks)
        student = encoders.build(start.encoder)
        if start.words:
            world.log.say(start.words)
        other = targets.other_of(config, world.log)
        width = other.teacher.embed_dim if other else student.embed_dim
        timeline = encoders.timeline_of(config)
        cells = check_grid(student, config, timeline)
        layers = encoders.layer_widths(student, config.data.clip)
        objectives = encoders.objectives(config.objectives, student.embed_dim, timeline, width, layers)
        predictor = start.predictor(student, width, cells)
        stage = Jepa(
            student,
            predictor,
            objectives,
            timeline,
            momentum_of(config, world.log),
            config.teacher_context,
            config.normalise_target,
            config.seed,
            config.targets.kind,
            other,
        )
        check_masks(stage, config)
        stage.to(world.device)
        encoders.try_out(config.student.name, student, config.data.clip, world.device, True, world.how)
        targets.try_out(stage, config, world)
        if other and world.state is None:
            estimate(stage, config.targets.statistics_batches, config, world, data)
        parts: dict[str, ModuleLike] = {"student": student, "predictor": predictor}
        still = config.targets.kind == "frozen"  # what holds still cannot collapse
        watch = None if still else Watch(**vars(config.collapse))
        loop = loop_of(stage, parts, config, world, data, watch)
        export = functools.partial(export_taught, stage, config, data)
        make_steps(loop, export)
        if world.ranks.rank == 0:
            export(Path(config.out), {})
        export_best(loop, export)
    return Path(config.out)


def export_taught(
    stage: Jepa, config: JepaConfig, data: videos.Videos, folder: Path, more: dict[str, Any]
) -> None:
    """The encoders (a teacher that is a copy, too) and the forecaster; `more` goes into their records."""
    made = record_of("jepa", config.student, stage.student, config) | more
    exports.export_backbone(folder / "student.safetensors", stage.student, made)
    if config.targets.kind != "student" and not config.targets.name:
        exports.export_backbone(folder / "teacher.safetensors", stage.teacher, made)
    forecaster.export_forecaster(folder, stage, config, made, data)


def check_grid(student: Backbone, config: JepaConfig, timeline: Timeline) -> tuple[int, int]:
    """The student's tubelets are those the spans are counted in. Returns its cells, (h, w)."""
    grid = encoders.grid_of(config.student.name, student, config.data.clip)
    if grid.t != sum(timeline):
        raise UserError(
            f"{config.student.name} makes {grid.t} tubelets of {config.data.num_frames} frames, but tubelet="
            f"{config.tubelet} makes {sum(timeline)}: type --tubelet {config.data.num_frames // grid.t}"
        )
    return grid.h, grid.w


def check_masks(stage: Jepa, config: JepaConfig) -> None:
    """An impossible mask is refused now, with the grid and the numbers, and not at the first step."""
    grid = stage.student.grid(*config.data.clip)
    for view in stage.views:
        view.split(grid, Draw(config.seed, torch.zeros(1, dtype=torch.int64)))


STILL = {
    "frozen": "the student as the run started, which holds still",
    "student": "the student itself, without gradient",
}
"""Teachers that do not follow by EMA."""


def momentum_of(config: JepaConfig, log: RunLog) -> Callable[[int], float]:
    """The momentum of an EMA teacher by step, its half-life resolved to steps; who teaches is said."""
    if config.targets.kind != "ema":
        if not config.targets.name:
            log.say(f"teacher: {STILL[config.targets.kind]}")
        return functools.partial(ema_momentum, total=config.steps, fixed=(1.0, 1.0))
    if config.ema.half_life is None:
        return functools.partial(ema_momentum, total=config.steps, fixed=config.ema.momentum)
    steps = resolve(config.ema.half_life, config.steps, "ema.half_life")
    momentum = ema_momentum(0, config.steps, half_life=steps)
    log.say(f"teacher: EMA half-life {steps} steps (momentum {momentum:.5f})")
    return functools.partial(ema_momentum, total=config.steps, half_life=steps)
