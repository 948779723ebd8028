"""What a checkpoint holds of a loop, and the two ways back to one: an exact resume, and a rollback."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from vjepa_distill.distributed import barrier, gather_object
from vjepa_distill.training import checkpoint
from vjepa_distill.training.rng import rng_state, set_rng_state

if TYPE_CHECKING:
    from vjepa_distill.training.loop import Loop


def save(loop: Loop, path: Path) -> None:
    """Everything that an exact continuation needs, atomically; all ranks call."""
    ranks = gather_object({"rng": rng_state(), "loader": loop.loader.state_dict()})
    if loop.ranks.rank == 0:
        checkpoint.save(path, _state(loop, ranks))
    barrier()


def _state(loop: Loop, ranks: list[dict[str, Any]]) -> dict[str, Any]:
    quarantine = {path: why for rank in ranks for path, why in rank["loader"]["quarantine"]}
    return {
        "step": loop.done,
        "stage": loop.stage.state_dict(),
        "optimizer": loop.optimizer.state_dict(),
        "scaler": loop.precision.scaler.state_dict(),
        "loader": {**ranks[0]["loader"], "quarantine": [list(row) for row in sorted(quarantine.items())]},
        "watch": loop.watch.state_dict() if loop.watch else {},
        "trouble": loop.trouble.state_dict(),
        "standing": loop.standing.state_dict(),
        "sound": loop.sound,
        "rng": [rank["rng"] for rank in ranks],
        "threads": torch.get_num_threads(),
        "world": loop.ranks.world,
    }


def restore(loop: Loop, state: dict[str, Any]) -> None:
    """The other half of ``save``: strict, and in words where the continuation cannot be exact."""
    _train_from(loop, state)
    loop.loader.load_state_dict(state["loader"])
    loop.trouble.load_state_dict(state.get("trouble", {}))
    loop.standing.load_state_dict(state.get("standing", {}))
    _compare_with_the_best_there_is(loop)
    if len(state["rng"]) == loop.ranks.world:
        set_rng_state(state["rng"][loop.ranks.rank])
    for what, here in (("threads", torch.get_num_threads()), ("world", loop.ranks.world)):
        if state[what] != here:
            loop.log.say(f"resumed with {what}={here} instead of {state[what]}: close, but not bit for bit")


def go_back(loop: Loop, state: dict[str, Any]) -> None:
    """Weights, optimizer, watch and step of an earlier, sound moment.

    The data, the random generators and the count of troubles stay where they are: the same clips would lead
    to the same trouble. The best so far stays the best: it was sound when it was kept.
    """
    _train_from(loop, state)
    loop.trouble.load_state_dict({"losses": state["trouble"]["losses"], "spiked": False, "in_a_row": 0})


def _train_from(loop: Loop, state: dict[str, Any]) -> None:
    loop.stage.load_state_dict(state["stage"], strict=True)
    loop.stage.skip_step()  # what objectives noted of updates that this state does not know
    loop.optimizer.load_state_dict(state["optimizer"])
    loop.precision.scaler.load_state_dict(state["scaler"])
    if loop.watch and state["watch"]:
        loop.watch.load_state_dict(state["watch"])
    loop.steady, loop.countable = state.get("sound", True), True
    loop.done = state["step"]


def _compare_with_the_best_there_is(loop: Loop) -> None:
    """The best is what lies in its file: one kept after the checkpoint that is resumed is lived again."""
    path = checkpoint.best_of(loop.config.out)
    there = checkpoint.load(path, mmap=True)["standing"] if path.is_file() else {}
    loop.standing.load_state_dict({**loop.standing.state_dict(), "best": there.get("best")})
