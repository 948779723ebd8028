"""Whose tokens a run of stage 2 foretells, from its settings."""

from __future__ import annotations

from typing import Any

from vjepa_distill.errors import UserError
from vjepa_distill.modules.standardise import Standardiser
from vjepa_distill.runs import encoders, exports
from vjepa_distill.settings import JepaConfig
from vjepa_distill.stages.targets import Other
from vjepa_distill.training.log import RunLog


def check(config: JepaConfig) -> None:
    """Targets that nobody can learn from are refused before any data is read."""
    if config.targets.other:
        encoders.check([config.targets.other], {})
    own = config.targets.kind == "frozen" and not config.targets.name
    if own and not config.init and encoders.untrained(config.student):
        raise UserError(
            "targets.kind=frozen foretells the student as it starts, which has random weights: type "
            "--init RUN, --targets.name NAME, or --targets.kind ema"
        )


def other_of(config: JepaConfig, log: RunLog) -> Other | None:
    """The other encoder whose tokens are foretold; the log says so where it leaves no anchor."""
    component, anchored = config.targets.other, config.predictor.anchor != "none"
    if component is None:
        if config.targets.kind == "student" and not _regularised(config):
            log.say(
                "WARNING: targets.kind student without the objective sigreg collapses: type "
                "--objectives.sigreg.weight 1"
            )
        return None
    teacher: Any = encoders.build(component)
    standardiser = Standardiser(teacher.embed_dim, config.targets.standardise)
    head = head_for(config) if anchored else None
    log.say(f"targets: {component.name}, {encoders.size_of(teacher)}, frozen")
    if anchored and head is None:
        log.say(
            f"predictor.anchor none: the run to start from has no head for the tokens of {component.name}"
        )
        config.predictor.anchor = "none"
    elif head:
        log.say(f"anchor: the student's tokens through the head that {config.init} distilled")
    return Other(teacher, standardiser, head)


def head_for(config: JepaConfig) -> Any:
    """The head that the run to start from distilled for these very targets; None where there is none."""
    path = exports.locate(config.init) if config.init else None
    beside = path.with_name("head.safetensors") if path else None
    if path is None or beside is None or not beside.is_file():
        return None
    if exports.read_record(path).get("stage") != "distill" or config.targets.other is None:
        return None
    taught = exports.read_record(beside)["teacher"]
    wanted = encoders.provenance_of(config.targets.other)
    same = all(taught.get(key) == wanted.get(key) for key in ("name", "options"))
    return exports.load_head(path) if same else None


def _regularised(config: JepaConfig) -> bool:
    return any(term.name == "sigreg" and term.weight for term in config.objectives.values())
