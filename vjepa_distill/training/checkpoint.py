"""What a run keeps for itself: atomic checkpoints that hold all an exact resume needs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from vjepa_distill.errors import UserError
from vjepa_distill.files import write_atomic

FORMAT = 1


def path_for(run: Path | str, step: int | None = None) -> Path:
    """Where the checkpoint after `step` steps lies; None is the one at the end of the run."""
    return Path(run) / "checkpoints" / f"ckpt_{'final' if step is None else step}.pt"


def best_of(run: Path | str) -> Path:
    """Where the checkpoint with the best held-out score lies; ``latest`` and ``prune`` do not know it."""
    return Path(run) / "checkpoints" / "ckpt_best.pt"


def save(path: Path | str, state: Mapping[str, Any]) -> Path:
    """Writes tensors and plain types atomically, with "format": 1; TypeError for what load could not read."""
    _check_plain(state, "state")
    return write_atomic(path, lambda file: torch.save({**state, "format": FORMAT}, file))


def load(path: Path | str, mmap: bool = False) -> dict[str, Any]:
    """Reads what save wrote, on the CPU. UserError for a damaged file, a stranger's, or a newer format."""
    path = Path(path)
    if not path.is_file():
        raise UserError(f"there is no checkpoint {path}")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except Exception as problem:  # torch, pickle and zip each have their own errors for the same damage
        reason = str(problem).splitlines()[0][:200] if str(problem) else type(problem).__name__
        raise UserError(
            f"{path} is damaged ({reason}): delete it, --resume takes the one before"
        ) from problem
    if not isinstance(state, dict) or "format" not in state:
        raise UserError(f"{path} is no checkpoint of vjepa-distill: it carries no format number")
    if state["format"] > FORMAT:
        raise UserError(
            f"{path} has format {state['format']}, this version reads up to {FORMAT}: "
            "pip install --upgrade vjepa-distill"
        )
    return state


def latest(run: Path | str) -> Path | None:
    """The checkpoint with the most steps, None if there is none; a final one is looked into for its "step".

    The final one is not always the last: a run may have been continued with more steps and then interrupted.
    """
    steps = {path: step for step, path in _numbered(run)}
    if path_for(run).is_file():
        steps[path_for(run)] = load(path_for(run), mmap=True).get("step", max(steps.values(), default=0))
    return max(reversed(steps), key=steps.__getitem__) if steps else None


def last_sound(run: Path | str, step: int) -> Path | None:
    """The last checkpoint up to `step` that says of itself that nothing was wrong ("sound"), the best too.

    None if there is none; damaged ones do not count.
    """
    found = [(number, path) for number, path in _numbered(run) if number <= step]
    best = best_of(run)
    if best.is_file() and (state := _readable(best)) and state["step"] <= step:
        found.append((state["step"], best))
    newest = sorted(found, key=lambda one: one[0], reverse=True)
    return next((path for _, path in newest if (_readable(path) or {}).get("sound") is True), None)


def _readable(path: Path) -> dict[str, Any] | None:
    try:
        return load(path, mmap=True)
    except UserError:
        return None


def prune(run: Path | str, keep: int, spare: Path | None = None) -> None:
    """Deletes all but the last `keep` numbered checkpoints, and the one to spare; 0 keeps them all."""
    for _, path in _numbered(run)[:-keep] if keep else []:
        if path != spare:
            path.unlink()


def forget_after(run: Path | str, step: int) -> None:
    """Deletes the numbered checkpoints beyond a step that the run went back to."""
    for number, path in _numbered(run):
        if number > step:
            path.unlink()


def _numbered(run: Path | str) -> list[tuple[int, Path]]:
    files = (Path(run) / "checkpoints").glob("*.pt")
    found = ((re.fullmatch(r"ckpt_(\d+)\.pt", path.name), path) for path in files)
    return sorted((int(match[1]), path) for match, path in found if match)


def _check_plain(value: Any, place: str) -> None:
    """Refuses at save what `weights_only` would refuse at load, hours later, when it is needed."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            _check_plain(inner, f"{place}[{key!r}]")
    elif type(value) in (list, tuple):
        for number, inner in enumerate(value):
            _check_plain(inner, f"{place}[{number}]")
    elif not (isinstance(value, torch.Tensor) or type(value) in (bool, int, float, str, type(None))):
        raise TypeError(
            f"{place} is a {type(value).__name__}: a checkpoint holds tensors and plain types only"
        )
