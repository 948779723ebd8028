"""The settings of stage 1."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from vjepa_distill.settings.checks import positive, positive_or_null, require
from vjepa_distill.settings.plain import settle
from vjepa_distill.settings.run import Component, Run


@dataclass
class Head:
    """The distillation head."""

    kind: Literal["mlp", "linear"] = "mlp"
    """LN-Linear-GELU-Linear, or LN-Linear."""
    hidden: int | None = None
    """Width between the two Linear layers; null: twice the larger of student and teacher."""

    def __post_init__(self) -> None:
        settle(self)
        positive_or_null(self, "head.hidden")


@dataclass
class DistillConfig(Run):
    """Match a pretrained teacher's tokens (stage 1)."""

    teachers: dict[str, Component] = field(default_factory=dict)
    """The teacher under a name of your own, e.g. main: {name: timm/vit_tiny_patch16_224}."""
    head: Head = field(default_factory=Head)
    """Maps student tokens to teacher tokens."""
    standardise: Literal["channel", "phi-s", "global", "layernorm", "none"] = "channel"
    """How teacher tokens are brought to a common scale."""
    statistics_batches: int = 100
    """Batches the statistics are estimated on before the first step."""

    WEIGHTS: ClassVar[dict[str, float]] = {"match": 1.0}

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            len(self.teachers) == 1,
            f"{len(self.teachers)} teachers given, 1 is needed: "
            "type e.g. --teachers.main.name timm/vit_tiny_patch16_224",
        )
        for key, teacher in self.teachers.items():
            require(bool(teacher.name), f"teacher {key!r} has no name: type --teachers.{key}.name NAME")
        positive(self, "statistics_batches")
        self.trouble.check_collapse(0, still=True)
