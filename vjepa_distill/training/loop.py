"""The loop around the training step: learning rate, log, held-out scores, checkpoints, stop and resume."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from vjepa_distill.data.loader import Loader
from vjepa_distill.distributed import Ranks, all_mean, any_true, barrier, gather_object
from vjepa_distill.protocols import Batch, Stage
from vjepa_distill.settings import Run
from vjepa_distill.training import checkpoint
from vjepa_distill.training.health import Watch, measure
from vjepa_distill.training.log import RunLog
from vjepa_distill.training.optim import Precision, set_rate
from vjepa_distill.training.rng import rng_state, set_rng_state
from vjepa_distill.training.schedule import learning_rate
from vjepa_distill.training.step import Diverged, Outcome, train_step

OVERFLOWS = 40
"""fp16 overflows in a row that are lived with: the scale starts at 2^16 and is halved at each."""


class Interrupted(Exception):
    """Someone asked the run to stop, and it was saved."""


@dataclass
class Loop:
    """Everything a run consists of, handed over part by part; ``run()`` makes its steps."""

    stage: Stage
    forward: Callable[[Batch], dict[str, torch.Tensor]]
    optimizer: torch.optim.Optimizer
    precision: Precision
    loader: Loader
    heldout: Sequence[Batch]
    config: Run
    log: RunLog
    ranks: Ranks
    device: torch.device
    watch: Watch | None = None
    done: int = 0
    scores: dict[str, float] = field(default_factory=dict, init=False)
    """The last held-out scores."""
    asked_to_stop: bool = field(default=False, init=False)

    def run(self) -> None:
        """Make the steps that are left. Raises Interrupted after saving when SIGTERM or Ctrl-C came."""
        total = self.config.steps
        peak = self.config.optimizer.peak(self.config.batch_size * self.config.accumulate * self.ranks.world)
        self._restart_clock()
        with stop_signals(self):
            for step in range(self.done, total):
                rate = learning_rate(
                    step, total, self.config.warmup_steps, peak, peak * self.config.optimizer.final
                )
                set_rate(self.optimizer, rate)
                outcome = self._update(step)
                self.done = step + 1
                self.log.advance(self.done)
                self._report(outcome, rate)
                self._save_when_due()
                if any_true(self.asked_to_stop):
                    self.save(checkpoint.path_for(self.config.out, self.done))
                    raise Interrupted
        self.save(checkpoint.path_for(self.config.out))
        self.log.say(f"peak memory {peak_memory(self.device):.1f} GiB")

    def _update(self, step: int) -> Outcome:
        """One step; one that fp16 had to skip does not count and is made again with the next batches."""
        weights = {name: term.weight for name, term in self.config.objectives.items() if term.weight}
        for _ in range(OVERFLOWS):
            batches = [self._next() for _ in range(self.config.accumulate)]
            with self.precision.guard("step"):
                outcome = train_step(
                    self.forward,
                    self.stage,
                    self.optimizer,
                    self.precision.scaler,
                    batches,
                    weights,
                    self.config.optimizer.clip,
                    self.precision.autocast,
                    step,
                )
            if outcome.stepped:
                return outcome
        raise Diverged(
            f"fp16 gradients overflowed {OVERFLOWS} times at step {step}, however low the scale: use bf16"
        )

    def _next(self) -> Batch:
        before = time.perf_counter()
        batch = next(self.loader)
        self.waited += time.perf_counter() - before
        return batch.to(self.device)

    def _report(self, outcome: Outcome, rate: float) -> None:
        """A line of the log, and held-out scores, where they are due."""
        last = self.done == self.config.steps
        values: dict[str, float] = {}
        if last or self.done % self.config.log_every == 0:
            values = self._measured(outcome) | {"lr": rate} | self._timing()
        if last or (self.config.eval_every and self.done % self.config.eval_every == 0):
            self.scores = self.evaluate()
            values |= {f"heldout/{name}": value for name, value in self.scores.items()}
            self._restart_clock()
        if values:
            self.log.metrics(self.done, values)
        if self.watch and "rank" in values and (words := self.watch.update(values["rank"], values["std"])):
            self.log.say(words)

    def _measured(self, outcome: Outcome) -> dict[str, float]:
        """Losses and notes, the mean over ranks; rank and spread of the teacher's tokens of all ranks."""
        named = {**outcome.losses, **self.stage.notes}
        means = all_mean(torch.stack([value.float() for value in named.values()])).tolist()
        return dict(zip(named, means, strict=True)) | measure(self.stage.tokens) | {"norm": outcome.norm}

    def _restart_clock(self) -> None:
        self.since, self.since_step, self.waited = time.perf_counter(), self.done, 0.0

    def _timing(self) -> dict[str, float]:
        """Seconds a step, and the share of them spent waiting for video."""
        spent, steps = time.perf_counter() - self.since, max(1, self.done - self.since_step)
        waited = self.waited
        self._restart_clock()
        return {"s/step": spent / steps, "wait": waited / spent}

    def evaluate(self) -> dict[str, float]:
        """The stage's scores on the held-out clips, each rank its share of the batches."""
        if not self.heldout:
            return {}
        count, world = len(self.heldout), self.ranks.world
        mine = range(self.ranks.rank, count, world) if count >= world else range(count)
        with self.precision.guard("evaluate"), self.precision.autocast():
            scores = self.stage.evaluate(self.heldout[i].to(self.device) for i in mine)
        counted = torch.tensor([*scores.values(), 1.0], dtype=torch.float64, device=self.device) * len(mine)
        *sums, total = all_mean(counted).tolist()
        return {name: value / total for name, value in zip(scores, sums, strict=True)}

    def _save_when_due(self) -> None:
        if (
            self.config.save_every
            and self.done % self.config.save_every == 0
            and self.done < self.config.steps
        ):
            self.save(checkpoint.path_for(self.config.out, self.done))
            if self.ranks.rank == 0:
                checkpoint.prune(self.config.out, self.config.keep)

    def save(self, path: Path) -> None:
        """Everything that an exact continuation needs, atomically; all ranks call."""
        ranks = gather_object({"rng": rng_state(), "loader": self.loader.state_dict()})
        if self.ranks.rank == 0:
            checkpoint.save(path, self._state(ranks))
        barrier()

    def _state(self, ranks: list[dict[str, Any]]) -> dict[str, Any]:
        quarantine = {path: why for rank in ranks for path, why in rank["loader"]["quarantine"]}
        return {
            "step": self.done,
            "stage": self.stage.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.precision.scaler.state_dict(),
            "loader": {**ranks[0]["loader"], "quarantine": [list(row) for row in sorted(quarantine.items())]},
            "watch": self.watch.state_dict() if self.watch else {},
            "rng": [rank["rng"] for rank in ranks],
            "threads": torch.get_num_threads(),
            "world": self.ranks.world,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """The other half of ``save``: strict, and in words where the continuation cannot be exact."""
        self.stage.load_state_dict(state["stage"], strict=True)
        self.optimizer.load_state_dict(state["optimizer"])
        self.precision.scaler.load_state_dict(state["scaler"])
        self.loader.load_state_dict(state["loader"])
        if self.watch and state["watch"]:
            self.watch.load_state_dict(state["watch"])
        self.done = state["step"]
        if len(state["rng"]) == self.ranks.world:
            set_rng_state(state["rng"][self.ranks.rank])
        for what, here in (("threads", torch.get_num_threads()), ("world", self.ranks.world)):
            if state[what] != here:
                self.log.say(
                    f"resumed with {what}={here} instead of {state[what]}: close, but not bit for bit"
                )


def peak_memory(device: torch.device) -> float:
    """GiB: what torch held on the GPU at most, or what this process held of the machine's memory."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    if sys.platform == "win32":  # has no getrusage
        return float("nan")
    import resource

    unit = 1 if sys.platform == "darwin" else 1024  # getrusage counts bytes there and KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


@contextmanager
def stop_signals(loop: Loop) -> Iterator[None]:
    """SIGTERM and Ctrl-C ask the loop to stop after the current step; a second one stops at once."""

    def ask(number: int, frame: Any) -> None:
        loop.asked_to_stop = True
        signal.signal(number, before[signal.Signals(number)])
        loop.log.say("stopping after this step; once more to stop at once")

    before = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
