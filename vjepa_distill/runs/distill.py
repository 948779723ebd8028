"""The run of stage 1: a student learns to speak a teacher's tokens."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vjepa_distill import registry
from vjepa_distill.errors import UserError
from vjepa_distill.modules.heads import Projector
from vjepa_distill.modules.standardise import Standardiser
from vjepa_distill.protocols import Backbone
from vjepa_distill.runs import encoders, exports, videos
from vjepa_distill.runs.shared import estimate, export_best, loop_of, make_steps, record_of, world_of
from vjepa_distill.settings import Component, DistillConfig
from vjepa_distill.settings.plain import settings
from vjepa_distill.stages.distill import Distill
from vjepa_distill.stages.teacher import fitting


def distill(config: DistillConfig | Mapping[str, Any]) -> Path:
    """Stage 1: match the teacher's tokens. Returns the run folder, which holds ``student.safetensors``.

    config: a DistillConfig, or its settings as nested dictionaries, as in YAML. UserError for bad input.
    """
    config = settings(DistillConfig, config, "config")
    (key, taught), *_ = config.teachers.items()
    encoders.check([config.student, taught], config.objectives)
    videos.check(config.data)
    with world_of(config) as world:
        data = videos.of_run(config, world.ranks)
        student = encoders.build(config.student)
        teacher = encoders.build(taught)
        head = Projector(student.embed_dim, teacher.embed_dim, config.head.kind, config.head.hidden)
        objectives = encoders.objectives(config.objectives, teacher.embed_dim, None)
        standardiser = Standardiser(teacher.embed_dim, config.standardise)
        stage = Distill(student, {key: teacher}, {key: head}, {key: standardiser}, objectives, config.seed)
        world.log.say(f"teacher {taught.name}, {encoders.size_of(teacher)}")
        if encoders.untrained(taught):
            world.log.say(f"WARNING: the teacher has random weights. Type {weights_for(key, taught)}")
        shown = check_grids(student, teacher, config)
        stage.to(world.device)
        encoders.try_out(config.student.name, student, config.data.clip, world.device, True, world.how)
        encoders.try_out(taught.name, teacher, shown, world.device, False, world.how)
        if world.state is None:
            estimate(stage, config.statistics_batches, config, world, data)
        loop = loop_of(stage, {"student": student}, config, world, data)
        export = functools.partial(export_distilled, stage, config)
        make_steps(loop, export)
        if world.ranks.rank == 0:
            export(Path(config.out), {})
        world.log.say(verdict(loop.scores or loop.evaluate()))
        export_best(loop, export)
    return Path(config.out)


def check_grids(student: Backbone, teacher: Backbone, config: DistillConfig) -> tuple[int, int, int]:
    """The clip that the teacher is shown; one that it or the student does not take is refused by name."""
    frames, height, width = config.data.clip
    grid = encoders.grid_of(config.student.name, student, config.data.clip)
    (taught,) = config.teachers.values()
    try:
        return frames, *fitting(teacher, frames, height, width, grid)
    except ValueError as problem:
        raise UserError(f"{taught.name}: {problem}") from problem


def weights_for(key: str, taught: Component) -> str:
    """What to type for a teacher with weights: the options that its own factory takes them by."""
    takes = registry.options_of("backbone", taught.name)
    ways = {"pretrained": "pretrained true", "weights": "weights FILE"}
    typed = [f"--teachers.{key}.options.{words}" for option, words in ways.items() if option in takes]
    return " or ".join([*typed, f"a run folder as --teachers.{key}.name"])


def export_distilled(stage: Distill, config: DistillConfig, folder: Path, more: dict[str, Any]) -> None:
    """student.safetensors, head.safetensors (its output in the teacher's units), statistics.safetensors.

    folder: where to · more: goes into their records.
    """
    made = record_of("distill", config.student, stage.student, config) | more
    for key, taught in config.teachers.items():
        teacher: Any = stage.teachers[key]
        record = {
            **made,
            "teacher": encoders.provenance_of(taught) | {"weights": exports.fingerprint(teacher)},
            "teacher_key": key,
        }
        head = stage.heads[key].with_last(stage.standardisers[key].folded)
        exports.export_head(folder / "head.safetensors", head, record)
        exports.export_backbone(folder / "statistics.safetensors", stage.standardisers[key], record)
    exports.export_backbone(folder / "student.safetensors", stage.student, made)


VERDICTS = (
    (0.4, "speaks the teacher's tokens"),
    (0.05, "has learned part of the teacher's tokens"),
    (-float("inf"), "did NOT learn the teacher's tokens"),
)
"""By the least held-out R². A small student of 500 robot videos reached 0.12 in 1100 steps, and its
mean-pooled features were better than the teacher's in a k-NN probe: part of the tokens can be enough."""


def verdict(scores: dict[str, float]) -> str:
    """One line that says how well the student speaks the teacher's tokens."""
    if not scores:
        return "no held-out videos (data.heldout 0): nothing to judge by"
    judged = next(words for least, words in VERDICTS if scores["r2"] >= least)
    return (
        f"verdict: the student {judged}: held-out cosine {scores['cosine']:.3f} "
        f"(mean token {scores['cosine_floor']:.3f}, shuffled {scores['cosine_shuffled']:.3f}), "
        f"R² {scores['r2']:.3f} (mean token 0)"
    )
