"""How a gradient becomes an update: AdamW and its learning rate over the run."""

from __future__ import annotations

from dataclasses import dataclass

from vjepa_distill.settings.checks import not_negative, positive, positive_or_null, require, share
from vjepa_distill.settings.plain import settle


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
        positive(self, "optimizer.lr")
        positive_or_null(self, "optimizer.clip")
        require(
            (self.lr_batch or 0) >= 0, f"optimizer.lr_batch={self.lr_batch}: give a number of clips, or null"
        )
        not_negative(self, "optimizer.student", "optimizer.weight_decay", "optimizer.warmup")
        share(self, "optimizer.betas", below=True)
        share(self, "optimizer.final")

    def peak(self, batch: int) -> float:
        """The peak rate for a global batch of so many clips."""
        return self.lr * (batch / self.lr_batch) ** 0.5 if self.lr_batch else self.lr
