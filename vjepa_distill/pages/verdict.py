"""What a run came to, in one sentence and a few numbers, each beside what it has to beat."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from vjepa_distill.pages.contents import RunFacts
from vjepa_distill.pages.numbers import short


@dataclass(frozen=True)
class Tile:
    """One number, what it is compared with, and whether it is better: None where that is not the question."""

    title: str
    value: str
    rival: str
    better: bool | None = None


def tiles(run: RunFacts) -> list[Tile]:
    """The held-out numbers that count."""
    makers = {"distill": _distilled, "jepa": _taught}
    return [*makers[run.stage](run.heldout), *_rank(run)]


def _distilled(scores: dict[str, float]) -> Iterator[Tile]:
    if {"cosine", "cosine_floor"} <= scores.keys():
        cosine, floor = scores["cosine"], scores["cosine_floor"]
        yield Tile("cosine to the teacher", f"{cosine:.3f}", f"the mean token, {floor:.3f}", cosine > floor)
    if "r2" in scores:
        yield Tile("R²", f"{scores['r2']:.3f}", "the mean token, 0", scores["r2"] > 0)


def _taught(scores: dict[str, float]) -> Iterator[Tile]:
    rivals = {"soon": "repeating the last tubelet", "now": "the mean token"}
    for name, rival in rivals.items():
        if f"{name}/skill" in scores:
            skill = scores[f"{name}/skill"]
            signed = f"{skill:+.3f}".replace("-", "−")
            yield Tile(f"{name.upper()} skill", signed, f"{rival}, 0", skill > 0)
    if "direction" in scores:
        # of few clips it is noise, which `evaluate` has intervals for: no verdict
        yield Tile("direction of play", f"{scores['direction']:.2f}", "chance 0.5; rough, of few clips")
    found, chance = scores.get("eventually/retrieval"), scores.get("eventually/chance")
    if found is not None and chance is not None:
        yield Tile("EVENTUALLY found", f"{found:.2f}", f"chance, {chance:.3f}", found > chance)


def _rank(run: RunFacts) -> Iterator[Tile]:
    rank = next((row["rank"] for row in reversed(run.rows) if row.get("rank") is not None), None)
    floor = run.floors.get("rank")
    if rank is not None and floor is None:
        yield Tile("effective rank", f"{rank:.0f}", "")
    elif rank is not None and floor is not None:
        yield Tile("effective rank", f"{rank:.0f}", f"the floor of collapse, {short(floor)}", rank > floor)


def sentence(run: RunFacts) -> str:
    """The verdict: the run's own words, or what its last held-out scores say."""
    if not run.rows:
        return "Nothing is in its log, metrics.jsonl: the run has only begun, or the file is lost."
    if not run.heldout:
        return "It has no held-out scores yet, so there is nothing to judge by."
    if run.verdict:
        return run.verdict[:1].upper() + run.verdict[1:]
    better = [_subject(tile) for tile in _taught(run.heldout) if tile.better]
    worse = [_subject(tile) for tile in _taught(run.heldout) if tile.better is False]
    told = [f"{_listed(better)} above the rival"] if better else []
    told += [f"{_listed(worse)} not above the rival"] if worse else []
    return "On held-out videos: " + ("; ".join(told) or "no score that has a rival") + "."


def _subject(tile: Tile) -> str:
    return tile.title.removesuffix(" skill").removesuffix(" found")


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]
