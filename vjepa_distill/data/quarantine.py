"""The files that turned out bad during a run: by name, with the reason, and never too many."""

from __future__ import annotations

from collections.abc import Iterable

from vjepa_distill.errors import UserError


class Quarantine:
    """Bad files by relative path. A file in here is not opened again."""

    def __init__(self, reasons: Iterable[tuple[str, str]] = ()) -> None:
        self.reasons = dict(reasons)

    def __contains__(self, path: str) -> bool:
        return path in self.reasons

    def __len__(self) -> int:
        return len(self.reasons)

    def add(self, path: str, why: str) -> None:
        """The first reason given is kept."""
        self.reasons.setdefault(path, why)

    def state(self) -> list[list[str]]:
        """Plain lists, for a checkpoint."""
        return [[path, why] for path, why in sorted(self.reasons.items())]

    def check(self, videos: int, max_bad: float) -> None:
        """UserError once more than the share `max_bad` of `videos` is in here."""
        if len(self) <= max_bad * videos:
            return
        share = len(self) / max(1, videos)
        raise UserError(
            f"{len(self)} of {videos} videos ({share:.1%}) turned out bad, data.max_bad = {max_bad:.1%} "
            f"allows fewer: {listed(self.reasons)}. Remove or mend them, or go on without: --data.max_bad "
            f"{min(1.0, share * 1.5):.2g}"
        )


def listed(reasons: dict[str, str], most: int = 5) -> str:
    """The first few bad files with their reasons, for a message."""
    first = "; ".join(f"{path} ({why})" for path, why in sorted(reasons.items())[:most])
    return first + (f"; and {len(reasons) - most} more" if len(reasons) > most else "")
