"""The settings of stage 2."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from vjepa_distill.settings.checks import not_negative, positive, positive_or_null, require, share
from vjepa_distill.settings.lengths import resolve
from vjepa_distill.settings.plain import settle
from vjepa_distill.settings.run import Component, Run


@dataclass
class Spans:
    """The timeline of a clip in frames."""

    now: int = 4
    """What the student sees of SOON's and EVENTUALLY's questions."""
    soon: int = 16
    """The near future, predicted token by token."""
    eventually: int = 64
    """The far future, predicted as one embedding."""


@dataclass
class PredictorConfig:
    """The predictor of masked and future tokens."""

    width: int = 384
    depth: int = 12
    heads: int | None = None
    """null: one a 64 channels."""
    context_positions: bool = True
    """Add positions to the context tokens again."""
    project_positions: bool = False
    """Positions of the student's width through a Linear layer, as in the scaffold."""
    rope: Literal["rotary", "vjepa2"] | None = None
    """Turn queries and keys by their position instead of adding it; vjepa2 for V-JEPA 2's weights alone."""
    anchor: Literal["kernel", "anomaly", "none"] = "kernel"
    """Predict the change from a smoothed copy of what was seen, which is none at first; anomaly: the copy of
    how it differs from what is usual in its cell; none: the tokens themselves."""

    def __post_init__(self) -> None:
        settle(self)
        positive(self, "predictor.width")
        not_negative(self, "predictor.depth")
        positive_or_null(self, "predictor.heads")


@dataclass
class Ema:
    """How the teacher follows the student."""

    half_life: float | None = 0.05
    """After so much of the run (or so many steps) half of the old teacher is left."""
    momentum: tuple[float, float] | None = None
    """Instead: fixed momentum, (start, end) of the run."""

    def __post_init__(self) -> None:
        settle(self)
        require(
            (self.half_life is None) != (self.momentum is None),
            f"ema.half_life={self.half_life} and ema.momentum={self.momentum}: "
            "give one, and null for the other",
        )
        if self.momentum is not None:
            share(self, "ema.momentum")


@dataclass
class Targets:
    """Whose tokens are foretold."""

    kind: Literal["ema", "frozen", "student"] = "ema"
    """A copy of the student that follows it; one that holds still; or the student itself (with sigreg)."""
    name: str = ""
    """frozen: another encoder, registered, `file.py:Class` or a run; empty: the student as it starts."""
    options: dict[str, Any] = field(default_factory=dict)
    """Options of its factory, e.g. weights: PATH."""
    standardise: Literal["channel", "phi-s", "global", "layernorm", "none"] = "channel"
    """How the tokens of another encoder are brought to a common scale, as in stage 1."""
    statistics_batches: int = 32
    """Batches from which its statistics are estimated, before the first step."""

    def __post_init__(self) -> None:
        settle(self)
        positive(self, "targets.statistics_batches")
        require(
            not self.name or self.kind == "frozen",
            f"targets.name={self.name} is another encoder, which holds still: type --targets.kind frozen",
        )
        require(
            bool(self.name) or not self.options,
            f"targets.options={self.options} without targets.name: type --targets.name NAME",
        )

    @property
    def other(self) -> Component | None:
        """The other encoder, if there is one."""
        return Component(self.name, self.options) if self.name else None


@dataclass
class Collapse:
    """When the teacher's tokens have become alike: warn, then stop."""

    rank: float = 3.0
    """Floor of the effective rank (RankMe)."""
    std: float = 0.05
    """Floor of the per-dimension standard deviation."""
    warn: int = 3
    """Log lines below a floor before a warning."""
    stop: int = 10
    """Log lines below a floor before the run stops; 0: never."""

    def __post_init__(self) -> None:
        settle(self)
        positive(self, "collapse.warn")
        not_negative(self, "collapse.rank", "collapse.std", "collapse.stop")


@dataclass
class JepaConfig(Run):
    """Teach an encoder the future: tri-temporal JEPA (stage 2)."""

    init: str | None = None
    """A distilled run (or its student.safetensors) to start from, or V-JEPA's official weights with their
    predictor: a .pt file, a folder of transformers' form, or hf-hub:facebook/vjepa2-vitl-fpc64-256."""
    spans: Spans = field(default_factory=Spans)
    tubelet: int = 2
    """Frames of one tubelet of the student."""
    predictor: PredictorConfig = field(default_factory=PredictorConfig)
    targets: Targets = field(default_factory=Targets)
    ema: Ema = field(default_factory=Ema)
    teacher_context: Literal["full", "segment", "prefix"] = "full"
    """What the teacher sees: the whole clip, each span on its own, or nothing later than the span."""
    normalise_target: bool = True
    """LayerNorm without affine over the teacher's tokens."""
    collapse: Collapse = field(default_factory=Collapse)

    WEIGHTS: ClassVar[dict[str, float]] = {"now": 1.0, "soon": 1.0, "eventually": 0.25}

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_spans()
        self.trouble.check_collapse(self.collapse.stop, still=self.targets.kind == "frozen")
        if self.ema.half_life is not None:
            resolve(self.ema.half_life, self.steps, "ema.half_life")

    def _check_spans(self) -> None:
        spans = {"now": self.spans.now, "soon": self.spans.soon, "eventually": self.spans.eventually}
        total = sum(spans.values())
        words = " + ".join(str(n) for n in spans.values())
        require(
            total == self.data.num_frames,
            f"spans {words} = {total} frames, but data.num_frames is {self.data.num_frames}: make them equal",
        )
        positive(self, "tubelet")
        for name, frames in spans.items():
            require(
                frames >= 0 and frames % self.tubelet == 0,
                f"spans.{name}={frames} frames do not divide into tubelets of {self.tubelet}: "
                f"use {frames // self.tubelet * self.tubelet} "
                f"or {(frames // self.tubelet + 1) * self.tubelet}",
            )
        require(spans["now"] > 0, "spans.now=0: the student must see something; use at least one tubelet")
        for name in ("soon", "eventually"):
            require(
                spans[name] > 0 or not self.objectives[name].weight,
                f"spans.{name}=0 leaves its objective nothing to predict: "
                f"type --objectives.{name}.weight 0, or a span",
            )
