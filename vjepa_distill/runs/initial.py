"""What jepa-train starts from: --init names a run of ours, or V-JEPA's official weights."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from vjepa_distill.backbones import official
from vjepa_distill.errors import UserError, brief
from vjepa_distill.modules.heads import Predictor
from vjepa_distill.protocols import Backbone
from vjepa_distill.runs import exports
from vjepa_distill.settings import Component, JepaConfig, PredictorConfig


@dataclass
class Start:
    """The models that a run begins with, known before any is built."""

    student: Component
    """What an export of this run says about how to build its encoder."""
    encoder: Component
    """What is built: the same, or the run that --init names."""
    settings: PredictorConfig
    found: official.Predictor | None = None
    """The predictor of official weights."""
    words: str = ""
    """For the log."""

    def predictor(
        self, student: Backbone, target_dim: int | None = None, cells: tuple[int, int] | None = None
    ) -> Predictor:
        """The predictor of a student on a grid of (h, w) cells, with its first values.

        target_dim: where targets are another's.
        """
        predictor = Predictor(student.embed_dim, **vars(self.settings), target_dim=target_dim, cells=cells)
        if self.found and self.found.state:
            try:
                predictor.load_state_dict(self.found.state, strict=True)
            except RuntimeError as problem:
                reason = brief(problem, 300)
                raise UserError(f"{self.student.options['weights']}: its predictor: {reason}") from problem
        return predictor


def start_of(config: JepaConfig) -> Start:
    """What --init stands for; it must agree with the student and the predictor that are set."""
    if not config.init:
        return Start(config.student, config.student, config.predictor)
    if official.is_official(config.init):
        return _from_official(config, config.init)
    path = exports.locate(config.init)
    if path is None:
        raise UserError(
            f"--init {config.init}: there is no such run folder or .safetensors file, and official weights "
            "are a .pt file, a folder with config.json, or hf-hub:OWNER/NAME"
        )
    made = exports.read_record(path)["backbone"]
    found = Component(made["name"], made["options"])
    if config.student.name and config.student != found:
        raise UserError(
            f"--init {config.init} holds {found.name} with {found.options}, but the student is set to "
            f"{config.student.name} with {config.student.options}: leave --student out"
        )
    return Start(found, Component(config.init), config.predictor)


def _from_official(config: JepaConfig, source: str) -> Start:
    given = config.student
    if given.options.get("weights", source) != source:
        raise UserError(f"--init {source} and student.options.weights {given.options['weights']}: give one")
    checkpoint = official.read(source, given.options.get("which", "target"), given.options.get("rope"))
    name, needed = official.component(checkpoint.shape)
    if given.name:
        needed = {}  # what the named model lacks is said when the weights are loaded into it
    elif checkpoint.shape["heads"] is None and "heads" not in given.options:
        raise UserError(
            f"--init {source} does not tell its number of attention heads: type --student.options.heads N"
        )
    student = Component(given.name or name, {**needed, **given.options, "weights": source})
    settings = _settings(config.predictor, checkpoint.predictor, source)
    words = official.predictor_words(checkpoint)
    return Start(student, student, settings, checkpoint.predictor, words)


def _settings(given: PredictorConfig, found: official.Predictor, source: str) -> PredictorConfig:
    """Those of the predictor in the weights; a setting that is no default must be the same as there."""
    if found.state is None:
        return given
    usual, settings = PredictorConfig(), dict(found.settings)
    for field in fields(given):
        typed: Any = getattr(given, field.name)
        held = settings.setdefault(field.name, typed)
        if typed not in (held, getattr(usual, field.name)):
            raise UserError(
                f"--init {source} brings a predictor with {field.name}={held}, but predictor.{field.name}="
                f"{typed}: leave that out, or start without its predictor: type --student.options.weights "
                f"{source} in place of --init"
            )
    if settings["heads"] is None:
        raise UserError(
            f"--init {source} does not tell the attention heads of its predictor: type --predictor.heads N"
        )
    return PredictorConfig(**settings)
