"""The loop around the training step: learning rate, log, held-out scores, trouble, stop."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from vjepa_distill.data.loader import Loader
from vjepa_distill.distributed import Ranks, all_mean, any_true, broadcast_object
from vjepa_distill.protocols import Batch, Stage
from vjepa_distill.settings import Run
from vjepa_distill.training import checkpoint, keeping
from vjepa_distill.training.clock import Clock
from vjepa_distill.training.health import Collapsed, Watch, measure
from vjepa_distill.training.heldout import Standing, evaluate
from vjepa_distill.training.log import RunLog
from vjepa_distill.training.optim import Precision, set_rate
from vjepa_distill.training.schedule import learning_rate
from vjepa_distill.training.signals import peak_memory, stop_signals
from vjepa_distill.training.step import Diverged, Outcome, train_step
from vjepa_distill.training.trouble import Troubles

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
    standing: Standing = field(default_factory=Standing, init=False)
    """The best of all held-out scores."""
    trouble: Troubles = field(init=False)
    """What went wrong so far."""
    steady: bool = field(default=True, init=False)
    """Whether the tokens were above their floors when they were last looked at."""
    countable: bool = field(default=True, init=False)
    """Whether all of the last held-out scores were numbers."""
    asked_to_stop: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        self.clock = Clock()
        self.trouble = Troubles(self.config.trouble, self.log.say)
        if self.watch and self.config.trouble.collapse == "warn":
            self.watch.stop = 0
        self.weights = {
            name: term.weight or 0.0 for name, term in self.config.objectives.items() if term.weight
        }

    def run(self) -> None:
        """Make the steps that are left. Raises Interrupted after saving when SIGTERM or Ctrl-C came."""
        self.clock.restart(self.done)
        with stop_signals(self._ask_to_stop):
            while self.done < self.config.steps:
                self._step(self.done)
                if any_true(self.asked_to_stop):
                    self.save(checkpoint.path_for(self.config.out, self.done))
                    raise Interrupted
        self.save(checkpoint.path_for(self.config.out))
        self.log.say(f"peak memory {peak_memory(self.device):.1f} GiB")

    def _ask_to_stop(self) -> None:
        self.asked_to_stop = True
        self.log.say("stopping after this step; once more to stop at once")

    def _step(self, step: int) -> None:
        """An update, and what is due after it; or where the settings say so, back to a sound checkpoint."""
        total, chosen = self.config.steps, self.config.optimizer
        peak = chosen.peak(self.config.batch_size * self.config.accumulate * self.ranks.world)
        rate = learning_rate(step, total, self.config.warmup_steps, peak, peak * chosen.final)
        rate *= self.trouble.rate
        set_rate(self.optimizer, rate)
        try:
            outcome = self._update(step)
            self.done = step + 1
            self.log.advance(self.done)
            self._report(outcome, rate)
        except (Diverged, Collapsed) as problem:
            self._roll_back(problem)
            return
        self._save_when_due()

    def _update(self, step: int) -> Outcome | None:
        """One update of the weights; None where it was left out, which counts as a step all the same."""
        try:
            outcome = self._tried(step)
        except Diverged as problem:
            self.stage.skip_step()
            if not self.trouble.skips(problem):
                raise
            self.log.say(f"{problem}: step {step + 1} makes no update")
            return None
        self.trouble.passed()
        return outcome

    def _tried(self, step: int) -> Outcome:
        """One step; one that fp16 had to skip does not count and is made again with the next batches."""
        for _ in range(OVERFLOWS):
            batches = [self._next() for _ in range(self.config.accumulate)]
            with self.precision.guard("step"):
                outcome = train_step(
                    self.forward,
                    self.stage,
                    self.optimizer,
                    self.precision.scaler,
                    batches,
                    self.weights,
                    self.config.optimizer.clip,
                    self.precision.autocast,
                    step,
                    self.trouble.judge,
                )
            if outcome.stepped:
                return outcome
        raise Diverged(
            f"fp16 gradients overflowed {OVERFLOWS} times at step {step}, however low the scale: use bf16"
        )

    def _next(self) -> Batch:
        with self.clock.waiting():
            batch = next(self.loader)
        return batch.to(self.device)

    def _roll_back(self, problem: Diverged | Collapsed) -> None:
        """Weights, optimizer and step from the last sound checkpoint; the data goes on with other clips.

        Raises the problem where the settings ask for no rollback, and where there is nothing to go back to.
        """
        self.trouble.count_rollback(problem)
        out, reached = self.config.out, self.done
        path = broadcast_object(self._last_sound(reached) if self.ranks.rank == 0 else None)
        if path is None:
            raise type(problem)(f"{problem}; no sound checkpoint to roll back to") from problem
        keeping.go_back(self, checkpoint.load(path))
        self.trouble.returned = self.done
        self.log.say(
            f"{problem}. Rolled back from step {reached} to {self.done} ({path.name}), on with other clips "
            f"at {self.trouble.rate:g} of the rate "
            f"({self.trouble.rollbacks} of {self.config.trouble.max_rollbacks} rollbacks)"
        )
        self.log.rewind(self.done)
        if self.ranks.rank == 0:
            checkpoint.forget_after(out, self.done)
        self.save(checkpoint.path_for(out, self.done))
        self.clock.restart(self.done)

    def _last_sound(self, reached: int) -> Path | None:
        """The checkpoint to go back to; the last choice is one whose next step has just failed again."""
        out, at_once = self.config.out, reached == self.trouble.returned
        before = checkpoint.last_sound(out, reached - 1) if at_once else None
        return before or checkpoint.last_sound(out, reached)

    def _report(self, outcome: Outcome | None, rate: float) -> None:
        """A line of the log, held-out scores and a look at the tokens, where they are due."""
        last = self.done == self.config.steps
        logging = last or self.done % self.config.log_every == 0
        judging = last or self._due(self.config.eval_every)
        health: dict[str, float] = {}
        if logging or (self.watch and (judging or self._due(self.config.save_every))):
            health = measure(self.stage.tokens)
        if health and self.watch:
            self.steady = self.watch.fine(health["rank"], health["std"])
        values: dict[str, float] = {}
        if logging:
            values = (
                self._measured(outcome, health)
                | {"lr": rate}
                | self.trouble.counts
                | self.clock.timing(self.done)
            )
        if judging:
            values |= {f"heldout/{name}": value for name, value in self._judge().items()}
            self.clock.restart(self.done)
        if values:
            self.log.metrics(self.done, values)
        if logging and self.watch and (words := self.watch.update(health["rank"], health["std"])):
            self.log.say(words)

    def _due(self, every: int) -> bool:
        return bool(every) and self.done % every == 0

    def _measured(self, outcome: Outcome | None, health: dict[str, float]) -> dict[str, float]:
        """Losses and notes, the mean over ranks; rank and spread of the teacher's tokens of all ranks."""
        if outcome is None:
            return health
        named = {**outcome.losses, **self.stage.notes}
        means = all_mean(torch.stack([value.float() for value in named.values()])).tolist()
        return dict(zip(named, means, strict=True)) | health | {"norm": outcome.norm}

    def evaluate(self) -> dict[str, float]:
        """The stage's scores on the held-out clips, and the one that they make; none without such clips."""
        if not self.heldout:
            return {}
        watched = self.watch is not None
        found = evaluate(self.stage, self.heldout, self.ranks, self.device, self.precision, watched)
        return self.standing.scored(self.stage, found, self.weights)

    def _judge(self) -> dict[str, float]:
        """The held-out scores now; the best so far is kept."""
        self.scores = self.evaluate()
        self.countable = not any(math.isnan(score) for score in self.scores.values())
        if self.scores and self.standing.take(self.done, self.scores["score"], self.sound):
            self.save(checkpoint.best_of(self.config.out))
        return self.scores

    @property
    def sound(self) -> bool:
        """Whether nothing was wrong when it was last looked: no floor broken, no score without a number, no
        spike in the last update."""
        return self.steady and self.countable and not self.trouble.spiked

    def _save_when_due(self) -> None:
        if self._due(self.config.save_every) and self.done < self.config.steps:
            self.save(checkpoint.path_for(self.config.out, self.done))
            if self.ranks.rank == 0:
                out, needed = self.config.out, self.config.trouble.rolls_back
                spare = checkpoint.last_sound(out, self.done) if needed else None
                checkpoint.prune(out, self.config.keep, spare)

    def save(self, path: Path) -> None:
        """Everything that an exact continuation needs, atomically; all ranks call."""
        keeping.save(self, path)

    def restore(self, state: dict) -> None:
        """The other half of ``save``: strict, and in words where the continuation cannot be exact."""
        keeping.restore(self, state)
