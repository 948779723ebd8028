"""The run that makes a page to look at: what run folders hold, and a few of their held-out clips."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

import vjepa_distill
from vjepa_distill.errors import UserError
from vjepa_distill.files import write_atomic
from vjepa_distill.pages import page
from vjepa_distill.pages.contents import RunFacts
from vjepa_distill.runs import distill, encoders, scenes
from vjepa_distill.runs.folder import BEST, CONFIG, stored
from vjepa_distill.runs.written import comparison_of, evaluation_of, rows_of
from vjepa_distill.settings import DistillConfig, JepaConfig
from vjepa_distill.settings.plain import settings

MOST_CLIPS = 32


def report(
    runs: str | Path | Sequence[str | Path],
    out: str | Path | None = None,
    *,
    root: str | Path | None = None,
    clips: int = 6,
    device: Literal["auto", "cpu", "cuda"] = "auto",
) -> Path:
    """One HTML file that shows run folders of either stage: curves, tables, pictures. Returns its path.

    out: the file; else report.html in the first run's folder. root: where the videos are now, if not where
    the run read them; without them the page has no pictures, and says why. clips: how many held-out clips are
    shown; 0: none. UserError for a folder that is no run's, and for videos that are not under a given root.
    """
    given = [runs] if isinstance(runs, str | os.PathLike) else runs
    folders = list(dict.fromkeys(Path(run) for run in given))
    if not folders:
        raise UserError("no run given: type vjepa-distill report runs/NAME")
    if not 0 <= clips <= MOST_CLIPS:
        raise UserError(f"--clips {clips}: give a number from 0 to {MOST_CLIPS}")
    path, on = place(out, folders[0]), encoders.device_of(device)
    configs = [config_of(folder) for folder in folders]  # first: a wrong folder is refused before any work
    told = [facts_of(*one) for one in zip(folders, names(folders), configs, strict=True)]
    facts = []
    for folder, config, known in zip(folders, configs, told, strict=True):
        shown, why = scenes.clips_of(folder, config, root, clips, on)
        facts.append(replace(known, clips=shown, why_no_clips=why))
    text = page(facts, vjepa_distill.__version__)
    return write_atomic(path, lambda file: file.write(text.encode()))


def place(out: str | Path | None, first: Path) -> Path:
    """Where the page goes; what is no name of a page is refused, lest a run's own file be written over."""
    path = first / "report.html" if out is None else Path(out)
    if path.suffix.lower() not in (".html", ".htm") or path.is_dir():
        raise UserError(f"--out {path}: the report is one HTML file; type --out {path / 'report.html'}")
    return path


def config_of(folder: Path) -> DistillConfig | JepaConfig:
    """The settings that a run wrote down. UserError for a folder that is no run's."""
    if not folder.is_dir():
        raise UserError(f"there is no run folder {folder}: give one that distill or jepa-train wrote")
    told = stored(folder)
    if told is None:
        raise UserError(
            f"{folder} holds no {CONFIG}, so it is no run of ours: give one that distill or jepa-train wrote"
        )
    name = str(folder / CONFIG)
    if "teachers" in told:
        return settings(DistillConfig, told, name)
    return settings(JepaConfig, told, name)


def names(folders: Sequence[Path]) -> list[str]:
    """The last parts of each path, as many as tell it from the others."""
    parts = [folder.absolute().parts for folder in folders]
    for count in range(1, max(map(len, parts)) + 1):
        ends = ["/".join(part[-count:]) for part in parts]
        if len(set(ends)) == len(ends):
            return ends
    return [str(folder) for folder in folders]


def facts_of(folder: Path, name: str, config: DistillConfig | JepaConfig) -> RunFacts:
    """All that the page tells of a run but its pictures."""
    rows = rows_of(folder)
    facts = RunFacts(
        name=name,
        folder=str(folder),
        stage="distill" if isinstance(config, DistillConfig) else "jepa",
        steps=config.steps,
        facts=[*in_short(folder, config), *_best(folder, rows)],
        settings=(folder / CONFIG).read_text(encoding="utf-8"),
        rows=rows,
        floors=_floors(config),
        evaluation=evaluation_of(folder),
        comparison=comparison_of(folder),
        judged_by=_judged_by(config),
    )
    scores = facts.heldout
    if isinstance(config, DistillConfig) and {"cosine", "r2"} <= scores.keys():
        words = distill.verdict(scores).removeprefix("verdict: ")
        return replace(facts, verdict=words)
    return facts


def _judged_by(config: DistillConfig | JepaConfig) -> str:
    """What the score of a run's log is."""
    if isinstance(config, DistillConfig):
        return "Of distill: the held-out cosine."
    if config.targets.kind == "frozen":
        return "Of jepa-train with frozen targets: the held-out loss, its sign turned."
    return "Of jepa-train: the mean of skills, retrieval, rank and direction, each above its chance."


def _best(folder: Path, rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """The step whose exports lie in best/, where there are some."""
    scored = [(row["heldout/score"], row["step"]) for row in rows if row.get("heldout/score") is not None]
    if not scored or not (folder / BEST).is_dir():
        return []
    score, step = max(scored, key=lambda one: one[0])
    return [("best step", f"{step}, score {score:.3f}: {folder / BEST}")]


def _floors(config: DistillConfig | JepaConfig) -> dict[str, float]:
    if isinstance(config, DistillConfig):
        return {}
    return {"rank": config.collapse.rank, "std": config.collapse.std}


def in_short(folder: Path, config: DistillConfig | JepaConfig) -> list[tuple[str, str]]:
    """The settings that a reader asks for first."""
    data, (height, width) = config.data, config.data.shape
    batch = config.batch_size * config.accumulate
    rate = f"{data.fps:g} frames a second" if data.sampling == "fps" else "spread over the video"
    facts = [
        ("folder", str(folder)),
        ("student", _component(asdict(config.student))),
        *_beginning(config),
        ("objectives", ", ".join(f"{n} × {t.weight:g}" for n, t in config.objectives.items() if t.weight)),
        ("length", f"{config.steps} steps of {batch} clips in each process"),
        ("clips", f"{data.num_frames} frames of {height} × {width}, {rate}"),
        ("videos", f"{data.root}: {_several(data.files)}; {data.heldout:.0%} held out"),
        ("optimizer", f"lr {config.optimizer.lr:g}, student × {config.optimizer.student:g}, {config.amp}"),
    ]
    return [(name, words) for name, words in facts if words]


def _beginning(config: DistillConfig | JepaConfig) -> list[tuple[str, str]]:
    """Where it comes from: its teachers, or the run it started from, with the timeline."""
    if isinstance(config, DistillConfig):
        return [("teacher", _component(asdict(taught))) for taught in config.teachers.values()]
    spans = ", ".join(f"{name.upper()} {frames}" for name, frames in vars(config.spans).items())
    return [("starts from", config.init or "random weights"), ("frames", spans)]


def _several(files: Sequence[str]) -> str:
    return ", ".join(files) if len(files) < 4 else f"{len(files)} patterns, {files[0]} to {files[-1]}"


def _component(told: Mapping[str, Any]) -> str:
    options = ", ".join(f"{name}: {value}" for name, value in told["options"].items())
    return f"{told['name']} ({options})" if options else told["name"]
