"""What the settings of every training run have in common.

Order of precedence: these defaults, then YAML (``--config``), then the command line. A length of the run
(warm-up, EMA half-life) below 1 is a fraction of the run, from 1 on a number of steps.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from vjepa_distill.settings.checks import not_negative, positive, positive_or_null, require
from vjepa_distill.settings.data import Data
from vjepa_distill.settings.lengths import resolve
from vjepa_distill.settings.optimizer import Optimizer
from vjepa_distill.settings.plain import settle
from vjepa_distill.settings.trouble import Trouble

FORMAT = 2
"""Of a run's settings. 1: videos held out by the path as typed, crops that distort: `data.format1`."""


def check_format(found: int) -> None:
    """UserError for settings of a newer version."""
    require(
        found <= FORMAT,
        f"this configuration has format {found}, this version reads up to {FORMAT}: upgrade vjepa-distill",
    )


@dataclass
class Component:
    """Something from the registry, and its options."""

    name: str = ""
    """Registered name (`vjepa-distill backbones list`), `file.py:Class`, or a run folder."""
    options: dict[str, Any] = field(default_factory=dict)
    """Options of its factory, e.g. depth: 6 or weights: PATH."""


@dataclass
class Term:
    """One objective and how much it counts."""

    weight: float | None = None
    """Its λ in the sum; 0 leaves it out; null: its default (eventually 0.25, all others 1)."""
    name: str = ""
    """Registered name; empty: the key it stands under."""
    options: dict[str, Any] = field(default_factory=dict)
    """Options of its factory."""

    def __post_init__(self) -> None:
        require((self.weight or 0) >= 0, f"weight={self.weight}: an objective's weight is 0 or more")


@dataclass
class Run:
    """What every training run has."""

    student: Component = field(default_factory=Component)
    """The encoder to train; without a name vjepa/base, or with --init that of the run."""
    data: Data = field(default_factory=Data)
    optimizer: Optimizer = field(default_factory=Optimizer)
    objectives: dict[str, Term] = field(default_factory=dict)
    """The losses by name; those not mentioned keep their default."""
    trouble: Trouble = field(default_factory=Trouble)
    """What follows where training goes wrong."""
    out: str = ""
    """The run folder that is written."""
    steps: int = 10000
    """Updates of the weights."""
    batch_size: int = 16
    """Clips in one forward pass of one process."""
    accumulate: int = 1
    """Forward passes to one update."""
    seed: int = 0
    """Keys the weights, the order of the data, crops and masks."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: cuda where there is one."""
    amp: Literal["bf16", "fp16", "fp32"] = "bf16"
    """Precision of matrix products; fp16 (CUDA alone) with loss scaling."""
    compile: bool = False
    """torch.compile."""
    checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third more time."""
    threads: int | None = None
    """CPU threads of torch; null: torch's own choice. Resuming bit for bit needs the same number."""
    log_every: int = 10
    """Steps between lines of the log."""
    eval_every: int = 200
    """Steps between held-out scores; 0: only at the end."""
    save_every: int = 500
    """Steps between checkpoints; 0: only at the end."""
    keep: int = 2
    """Checkpoints kept beside the final one."""
    resume: bool = False
    """Go on with the run in the folder."""
    overwrite: bool = False
    """Empty the folder first."""
    format: int = FORMAT
    """Version that these settings are of: what they mean stays as it was then."""

    WEIGHTS: ClassVar[dict[str, float]] = {}
    """The stage's own objectives and their default weights."""

    def __post_init__(self) -> None:
        settle(self)
        check_format(self.format)
        positive(self, "steps", "batch_size", "accumulate", "log_every")
        not_negative(self, "eval_every", "save_every", "keep")
        positive_or_null(self, "threads")
        require(bool(self.out), "no run folder given: type --out runs/NAME")
        require(
            not (self.resume and self.overwrite), "--resume and --overwrite contradict each other: type one"
        )
        require(
            self.warmup_steps < self.steps,
            f"the warm-up of {self.warmup_steps} steps is not shorter than the run of {self.steps}: "
            "give optimizer.warmup as a fraction such as 0.05, or more steps",
        )
        if not self.student.name and not getattr(self, "init", None):
            self.student.name = "vjepa/base"
        self.objectives = {**{name: Term() for name in self.WEIGHTS}, **self.objectives}
        for name, term in self.objectives.items():
            term.name = term.name or name
            term.weight = self.WEIGHTS.get(name, 1.0) if term.weight is None else term.weight
        require(
            any(term.weight for term in self.objectives.values()),
            "every objective has weight 0: give one a weight",
        )

    @property
    def warmup_steps(self) -> int:
        """Steps of the warm-up; a fraction of a very short run may be none."""
        if self.optimizer.warmup < 1:
            return round(self.optimizer.warmup * self.steps)
        return resolve(self.optimizer.warmup, self.steps, "optimizer.warmup")
