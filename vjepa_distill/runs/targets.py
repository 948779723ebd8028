"""Whose tokens a run of stage 2 foretells, from its settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from vjepa_distill.errors import UserError
from vjepa_distill.modules.masks import Span
from vjepa_distill.modules.standardise import Standardiser
from vjepa_distill.runs import encoders, exports
from vjepa_distill.runs.shared import World
from vjepa_distill.settings import Component, JepaConfig
from vjepa_distill.stages.jepa import Jepa
from vjepa_distill.stages.targets import Other
from vjepa_distill.stages.teacher import fitting
from vjepa_distill.tokens import Grid
from vjepa_distill.training.log import RunLog


def check(config: JepaConfig) -> None:
    """Targets that nobody can learn from are refused before any data is read.

    Sets ``predictor.anchor`` to none where the copy that it needs cannot be had.
    """
    if config.targets.other:
        encoders.check([config.targets.other], {})
        if head_of(config) is None:
            config.predictor.anchor = "none"
    own = config.targets.kind == "frozen" and not config.targets.name
    if own and not config.init and encoders.untrained(config.student):
        raise UserError(
            "targets.kind=frozen foretells the student as it starts, which has random weights: type "
            "--init RUN, --targets.name NAME, or --targets.kind ema"
        )


def other_of(config: JepaConfig, log: RunLog) -> Other | None:
    """The other encoder whose tokens are foretold; the log says so where it leaves no anchor."""
    component = config.targets.other
    if component is None:
        if config.targets.kind == "student" and not _regularised(config):
            log.say(
                "WARNING: targets.kind student without the objective sigreg collapses: type "
                "--objectives.sigreg.weight 1"
            )
        return None
    teacher: Any = encoders.build(component)
    standardiser = Standardiser(teacher.embed_dim, config.targets.standardise)
    log.say(f"targets: {component.name}, {encoders.size_of(teacher)}, frozen")
    if encoders.untrained(component):
        log.say(f"WARNING: {component.name} has random weights: give its own by --targets.options, or a run")
    path = head_of(config)
    if path is None:
        log.say(f"predictor.anchor none: --init names no run that distilled the tokens of {component.name}")
    elif not fits(path, component, teacher):
        log.say(
            f"predictor.anchor none: {config.init} distilled other weights than those of {component.name}"
        )
        path, config.predictor.anchor = None, "none"
    if path is None or config.predictor.anchor == "none":
        return Other(teacher, standardiser)
    log.say(f"anchor: the student's tokens through the head that {config.init} distilled")
    return Other(teacher, standardiser, exports.load_head(path))


def try_out(stage: Jepa, config: JepaConfig, world: World) -> None:
    """Another encoder is shown the clip and every part of it that it will see, before a run begins."""
    if not config.targets.other:
        return
    name, teacher = config.targets.other.name, stage.teacher
    frames, height, width = config.data.clip
    grid = stage.student.grid(frames, height, width)
    spans = {shown for shown, _ in stage.pieces} | {Span(0, stage.timeline.now)}
    for span in sorted(spans, key=lambda span: (span.start - span.stop, span.start)):
        tubelets = span.stop - span.start
        part = tubelets * (frames // grid.t)
        try:
            size = fitting(teacher, part, height, width, Grid(tubelets, grid.h, grid.w))
        except ValueError as problem:
            also = "" if part == frames else f" (it is shown {part} frames by themselves, so also --spans)"
            raise UserError(f"targets.name {name}: {problem}{also}") from problem
        encoders.try_out(name, teacher, (part, *size), world.device, False, world.how)


def head_of(config: JepaConfig) -> Path | None:
    """The run to start from, if it distilled a head for targets of this name and these options."""
    path = exports.locate(config.init) if config.init else None
    beside = path.with_name("head.safetensors") if path else None
    if path is None or beside is None or not beside.is_file():
        return None
    if exports.read_record(path).get("stage") != "distill" or config.targets.other is None:
        return None
    taught = exports.read_record(beside)["teacher"]
    wanted = encoders.provenance_of(config.targets.other)
    same = all(taught.get(key) == wanted.get(key) for key in ("name", "options"))
    return path if same else None


def fits(path: Path, component: Component, teacher: nn.Module) -> bool:
    """Whether the head beside a student was distilled for this very encoder, with these weights."""
    weights = exports.read_record(path.with_name("head.safetensors"))["teacher"].get("weights")
    if weights is None:  # a head of before says nothing of them: the same file of weights, or none the same
        return exports.locate(component.name) is None and not encoders.untrained(component)
    return weights == exports.fingerprint(teacher)


def _regularised(config: JepaConfig) -> bool:
    return any(term.name == "sigreg" and term.weight for term in config.objectives.values())
