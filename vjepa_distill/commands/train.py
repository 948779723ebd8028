"""distill and jepa-train, once their arguments are parsed: run, and say in one line what went wrong."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vjepa_distill.errors import UserError, out_of_memory

MEMORY = (
    "out of memory. Try, in this order: --batch_size smaller with --accumulate larger; --checkpointing true; "
    "--amp bf16; jepa-train's --teacher_context segment; --data.size smaller; --data.num_frames smaller"
)


def train(name: str, config: Any) -> int:
    """distill or jepa-train; what can go wrong in a run becomes one line that says how to go on."""
    from vjepa_distill.runs.distill import distill
    from vjepa_distill.runs.jepa import jepa_train
    from vjepa_distill.training.health import Collapsed
    from vjepa_distill.training.loop import Interrupted
    from vjepa_distill.training.step import Diverged

    runners: dict[str, Callable[[Any], Path]] = {"distill": distill, "jepa-train": jepa_train}
    again = f"{launcher()} {name} --out {config.out} --resume"
    try:
        runners[name](config)
    except Interrupted:
        say(f"stopped and saved; go on with: {again}")
        return 130
    except (Diverged, Collapsed) as problem:
        say(f"{problem}. {_left(config.out, updated=isinstance(problem, Collapsed))}")
        let_the_first_speak()
        return 1
    except RuntimeError as problem:
        if not out_of_memory(problem):
            raise
        raise UserError(MEMORY) from problem
    say(f"done: {config.out}")
    return 0


def _left(run: str, updated: bool) -> str:
    """What a run that was ended by trouble leaves behind; updated: whether the step was judged after it."""
    from vjepa_distill.runs.folder import BEST
    from vjepa_distill.training.checkpoint import latest

    last, best = latest(run), Path(run) / BEST
    told = [] if updated else ["nothing was updated by that step"]
    told.append(f"the last checkpoint is {last}" if last else "no checkpoint to go on from had been saved")
    if best.is_dir():
        told.append(f"the best step's encoder is in {best}")
    words = "; ".join(told)
    return words[0].upper() + words[1:]


def launcher() -> str:
    """How this run was started: the same number of processes is what an exact continuation needs."""
    world = os.environ.get("LOCAL_WORLD_SIZE")  # set by torchrun
    return f"torchrun --nproc_per_node {world} -m vjepa_distill" if world else "vjepa-distill"


def let_the_first_speak() -> None:
    """Wait a little on all ranks but the first: torchrun ends the others as soon as one has failed."""
    if os.environ.get("RANK", "0") != "0":
        time.sleep(2)


def say(words: str) -> None:
    """To the screen, once: from rank 0 where torchrun started several."""
    if os.environ.get("RANK", "0") == "0":
        print(words, file=sys.stderr)
