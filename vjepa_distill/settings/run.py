"""Every setting of a run, typed, with its constraints beside it; nothing here imports torch.

Order of precedence: these defaults, then YAML (``--config``), then the command line. A length of the run
(warm-up, EMA half-life) below 1 is a fraction of the run, from 1 on a number of steps.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from vjepa_distill.errors import UserError
from vjepa_distill.settings.lengths import resolve
from vjepa_distill.settings.plain import settle

FORMAT = 1


def require(holds: bool, message: str) -> None:
    """One clear line when a constraint does not hold."""
    if not holds:
        raise UserError(message)


def positive(owner: object, *names: str) -> None:
    """Every named field is above 0."""
    for name in names:
        require(getattr(owner, name) > 0, f"{name}={getattr(owner, name)}: give a number above 0")


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
class Head:
    """The distillation head."""

    kind: Literal["mlp", "linear"] = "mlp"
    """LN-Linear-GELU-Linear, or LN-Linear."""
    hidden: int | None = None
    """Width between the two Linear layers; null: twice the larger of student and teacher."""


@dataclass
class Data:
    """Where clips come from and how they are cut."""

    source: Literal["files", "world"] = "files"
    """Your video files, or a synthetic toy world written under root (asked for by name, never a fallback)."""
    root: str = "data"
    """The folder of the data set."""
    files: list[str] = field(default_factory=lambda: ["videos/*.mp4"])
    """Globs or paths, relative to root or absolute."""
    num_frames: int = 84
    """T: frames of a clip."""
    size: int | list[int] = 224
    """H and W of a clip in pixels: one number, or [height, width]."""
    sampling: Literal["uniform", "fps"] = "uniform"
    """Frames spread evenly over the whole video, or at a fixed rate from a random start."""
    fps: float | None = None
    """Frames per second of sampling fps."""
    crop: Literal["random", "center"] = "random"
    """Random resized crop, or the centre of the picture."""
    scale: tuple[float, float] = (0.5, 1.0)
    """Share of the picture's area that a random crop takes."""
    aspect: tuple[float, float] = (0.75, 1.3333)
    """Width / height of a random crop, relative to the clip's own."""
    flip: float = 0.5
    """Probability of a horizontal flip."""
    decoder: str = "auto"
    """auto (pyav), pyav, decord, torchcodec, or a plugin's."""
    workers: int = 0
    """Processes that read video beside the training process."""
    timeout: float = 60.0
    """Seconds after which a file that does not answer is given up."""
    max_bad: float = 0.01
    """Share of files that may turn out bad during training before the run stops."""
    heldout: float = 0.05
    """Share of the videos (by a stable hash of the path) kept out of training for the held-out scores."""
    heldout_clips: int = 64
    """Held-out clips that are scored, at most."""
    world_videos: int = 256
    """How many videos source world writes."""
    index: str | None = None
    """Where the index of the files is kept; null: in the user's cache folder."""

    def __post_init__(self) -> None:
        settle(self)
        positive(self, "num_frames", "timeout")
        height, width = self.shape
        require(min(height, width) > 0, f"data.size={self.size}: give pixels above 0")
        require(
            self.sampling != "fps" or bool(self.fps and self.fps > 0),
            f"data.sampling=fps needs data.fps above 0, not {self.fps}: type e.g. --data.fps 8",
        )
        require(0 <= self.heldout < 1, f"data.heldout={self.heldout}: give a share of at least 0 and below 1")
        require(0 <= self.flip <= 1, f"data.flip={self.flip}: give a probability between 0 and 1")
        low, high = self.scale
        require(
            0 < low <= high <= 1, f"data.scale={list(self.scale)}: give [low, high] with 0 < low <= high <= 1"
        )
        require(0 <= self.max_bad <= 1, f"data.max_bad={self.max_bad}: give a share between 0 and 1")
        require(
            0 < self.aspect[0] <= self.aspect[1], f"data.aspect={list(self.aspect)}: give [low, high] above 0"
        )
        require(self.heldout_clips >= 0, f"data.heldout_clips={self.heldout_clips}: give 0 or more")
        require(self.workers >= 0, f"data.workers={self.workers}: give 0 or more")

    @property
    def clip(self) -> tuple[int, int, int]:
        """Frames, height and width of a clip."""
        return self.num_frames, *self.shape

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        sides = [self.size, self.size] if isinstance(self.size, int) else self.size
        require(len(sides) == 2, f"data.size={self.size}: give one number, or [height, width]")
        return sides[0], sides[1]


@dataclass
class Optimizer:
    """AdamW with linear warm-up and cosine decay."""

    lr: float = 5e-4
    """Peak learning rate at a batch of lr_batch clips."""
    lr_batch: int | None = 256
    """The rate is scaled by sqrt(batch / lr_batch); null: never scaled."""
    student: float = 1.0
    """The student's rate as a share of the predictor's and heads'; below 1 it forgets less of --init."""
    betas: tuple[float, float] = (0.9, 0.95)
    """AdamW's betas."""
    weight_decay: float = 0.04
    """Constant; on matrices alone unless decay_all."""
    decay_all: bool = False
    """Decay norms, biases and tokens too."""
    warmup: float = 0.05
    """Length of the linear warm-up."""
    final: float = 0.0
    """Where the cosine ends, as a share of the peak."""
    clip: float | None = 1.0
    """Largest norm of the gradient; null: no clipping."""

    def __post_init__(self) -> None:
        settle(self)
        positive(self, "lr")
        require(self.student >= 0, f"optimizer.student={self.student}: give a share of 0 or more")
        require(self.warmup >= 0, f"optimizer.warmup={self.warmup}: give a fraction of the run, or steps")
        require(
            self.clip is None or self.clip > 0, f"optimizer.clip={self.clip}: give a norm above 0, or null"
        )
        require(self.weight_decay >= 0, f"optimizer.weight_decay={self.weight_decay}: give 0 or more")
        require(all(0 <= b < 1 for b in self.betas), f"optimizer.betas={list(self.betas)}: give two below 1")
        require(0 <= self.final <= 1, f"optimizer.final={self.final}: give a share of the peak, 0 to 1")

    def peak(self, batch: int) -> float:
        """The peak rate for a global batch of so many clips."""
        return self.lr * (batch / self.lr_batch) ** 0.5 if self.lr_batch else self.lr


@dataclass
class Run:
    """What every training run has."""

    student: Component = field(default_factory=Component)
    """The encoder to train; without a name vjepa/base, or with --init that of the run."""
    data: Data = field(default_factory=Data)
    optimizer: Optimizer = field(default_factory=Optimizer)
    objectives: dict[str, Term] = field(default_factory=dict)
    """The losses by name; those not mentioned keep their default."""
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
    """Version of this file's layout."""

    WEIGHTS: ClassVar[dict[str, float]] = {}
    """The stage's own objectives and their default weights."""

    def __post_init__(self) -> None:
        settle(self)
        require(
            self.format <= FORMAT,
            f"this configuration has format {self.format}, this version reads up to {FORMAT}: "
            "upgrade vjepa-distill",
        )
        positive(self, "steps", "batch_size", "accumulate", "log_every")
        for name in ("eval_every", "save_every", "keep"):
            require(getattr(self, name) >= 0, f"{name}={getattr(self, name)}: give 0 or more")
        require(
            self.threads is None or self.threads > 0,
            f"threads={self.threads}: give a number above 0, or null",
        )
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


@dataclass
class Ema:
    """How the teacher follows the student."""

    half_life: float | None = 0.05
    """After so much of the run (or so many steps) half of the old teacher is left."""
    momentum: tuple[float, float] | None = None
    """Instead: fixed momentum, (start, end) of the run."""

    def __post_init__(self) -> None:
        require(
            (self.half_life is None) != (self.momentum is None),
            f"ema.half_life={self.half_life} and ema.momentum={self.momentum}: "
            "give one, and null for the other",
        )


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
