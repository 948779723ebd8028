"""What the report shows of a run: held-out clips, their tokens, what was hidden of them and foretold."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vjepa_distill.data.clips import VideoClips
from vjepa_distill.distributed import Ranks
from vjepa_distill.errors import UserError
from vjepa_distill.modules.masks import Span, Whole
from vjepa_distill.pages.contents import Clips, Mask, Segment
from vjepa_distill.progress import progress
from vjepa_distill.protocols import Batch, Draw, Timeline, View
from vjepa_distill.runs import encoders, exports, few, foresight, unusual, videos
from vjepa_distill.runs.forecaster import load_forecaster
from vjepa_distill.settings import DistillConfig, JepaConfig
from vjepa_distill.stages.measure import distinct_views
from vjepa_distill.tokens import Grid

NOT_KEPT = "This run kept no video out (data.heldout 0): the clips are of videos that it was trained on."
UNFINISHED = "Tokens are not shown: there is no student.safetensors, which a run exports at its end."
PLAIN_MOMENTS = 12
"""Frames shown of a clip whose tubelets are not known."""


def clips_of(
    folder: Path, config: DistillConfig | JepaConfig, root: str | Path | None, count: int, on: torch.device
) -> tuple[Clips | None, str]:
    """What is shown, or why nothing is. UserError where a root was given and has no such videos."""
    if not count:
        return None, "No pictures: --clips 0."
    try:
        clips, heldout = clips_held_out(config, root)
        batch = few.read(clips, few.spread(clips.num_samples, count), on)
    except (UserError, OSError) as problem:
        if root is not None:
            raise
        return None, (
            f"No pictures: {problem}. If the videos are elsewhere now, type "
            f"vjepa-distill report {folder} --data.root DIR"
        )
    return shown_of(folder, config, clips, batch, [] if heldout else [NOT_KEPT]), ""


def clips_held_out(config: DistillConfig | JepaConfig, root: str | Path | None) -> tuple[VideoClips, bool]:
    """The run's held-out clips, read as it reads them, and True; without any, training clips and False."""
    data = config.data
    data.source = "files"  # a world that is gone is not painted anew
    if root is not None:
        data.root, data.index = str(root), None
    if not Path(data.root).is_dir():
        raise UserError(f"there is no folder {data.root}")
    found = videos.of_run(config, Ranks())
    if isinstance(found.heldout, list):
        entries, recipe = found.loader.clips.entries, videos.recipe_of(data, train=False)
        return VideoClips(entries, found.index.root, recipe, found.decoder, config.seed, shuffle=False), False
    return found.heldout.clips, True


@torch.no_grad()
def shown_of(
    folder: Path, config: DistillConfig | JepaConfig, clips: VideoClips, batch: Batch, notes: list[str]
) -> Clips:
    """Frames, and with the run's encoder tokens, masks and forecasts; what cannot be made is noted."""
    names = list(batch.extras["path"])
    try:
        encoder: Any = exports.load_backbone(folder).to(batch.clip.device).eval()
        grid = encoders.grid_of(str(folder), encoder, config.data.clip)
        tokens = encoded(encoder, batch, grid)
    except UserError as problem:
        ended = (folder / "student.safetensors").exists()
        notes.append(f"Tokens are not shown: {problem}" if ended else UNFINISHED)
        return Clips(names, frames_of(batch, min(PLAIN_MOMENTS, config.data.num_frames)), notes=notes)
    timeline = timeline_of(config)
    segments = [Segment(name.upper(), n) for name, n in timeline._asdict().items() if n] if timeline else []
    masks = masks_of(config, encoder.embed_dim, timeline, grid, batch, notes)
    told = foretold(folder, timeline, clips, batch, notes) if timeline else {}
    return Clips(names, frames_of(batch, grid.t), tokens, segments, masks, notes=notes, **told)


def foretold(
    folder: Path, timeline: Timeline, clips: VideoClips, batch: Batch, notes: list[str]
) -> dict[str, Any]:
    """What the run's predictor says of these clips and of other videos; nothing, and a note, without one."""
    try:
        model = load_forecaster(folder).to(batch.clip.device)
        seen = foresight.foresee(model, timeline, batch, foresight.others(clips, batch))
        watched, among = unusual.most_surprising(model, clips, len(batch.clip))
    except UserError as problem:
        notes.append(f"Where SOON is wrong, what EVENTUALLY retrieves and surprise are not shown: {problem}.")
        return {}
    return {"foresight": seen, "watched": watched, "among": among}


def encoded(encoder: Any, batch: Batch, grid: Grid) -> np.ndarray:
    """The encoder's tokens [B, t, h, w, D], one clip after the other: few, and each may be long."""
    rows = []
    with progress("drawing clips") as update:
        for number, clip in enumerate(batch.clip):
            rows.append(encoder(clip[None]).float().cpu().unflatten(1, grid))
            update(number + 1, len(batch.clip))
    return torch.cat(rows).numpy()


def frames_of(batch: Batch, moments: int) -> np.ndarray:
    """uint8 [B, moments, H, W, 3]: the first frame of every tubelet."""
    length = batch.clip.shape[2]
    return few.frames(batch.clip, [moment * length // moments for moment in range(moments)])


def timeline_of(config: DistillConfig | JepaConfig) -> Timeline | None:
    """NOW, SOON and EVENTUALLY in tubelets; None for a run that has no such parts."""
    if isinstance(config, DistillConfig):
        return None
    return encoders.timeline_of(config)


def masks_of(
    config: DistillConfig | JepaConfig,
    width: int,
    timeline: Timeline | None,
    grid: Grid,
    batch: Batch,
    notes: list[str],
) -> list[Mask]:
    """What every view of the objectives hides of these clips, as it did in the run's held-out scores."""
    try:
        made = encoders.objectives(config.objectives, width, timeline)
        asked = {view: [key for key, one in made.items() if view in one.views()] for view in _views(made)}
        draw = Draw(config.seed, batch.position)
        splits = {view: view.split(grid, draw).keep for view in asked}
    except UserError as problem:
        notes.append(f"Masks are not shown: {problem}")
        return []
    if list(splits) == [Whole()]:
        notes.append("Nothing was hidden: the student sees every token.")
    return [
        Mask(title(view), f"Seen by {', '.join(asked[view])}.", hidden(keep, grid))
        for view, keep in splits.items()
        if view != Whole()
    ]


def _views(objectives: Any) -> Sequence[View]:
    return distinct_views(objectives.values())


def hidden(keep: torch.Tensor, grid: Grid) -> np.ndarray:
    """Kept tokens int64 [B, K] to the cells that are not: bool [B, t, h, w]."""
    free = torch.ones(len(keep), grid.length, dtype=torch.bool)
    return free.scatter_(1, keep.cpu(), False).unflatten(1, grid).numpy()


def title(view: View) -> str:
    """A view in words; one of a plugin by its own."""
    if isinstance(view, Span):
        return f"Tubelets {view.start + 1} to {view.stop} are seen"
    told = vars(view) if hasattr(view, "__dict__") else {}
    if {"count", "scale"} <= told.keys():
        return f"{told['count']} blocks of {told['scale']:.0%} of the picture are hidden"
    if "share" in told:
        return f"{told['share']:.0%} of the tokens are seen"
    return str(view)
