"""The desk of the videos: from settings to an index, clips, a loader and held-out batches."""

from __future__ import annotations

import functools
import hashlib
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from vjepa_distill import registry
from vjepa_distill.data import format1, listing
from vjepa_distill.data.clips import Recipe, VideoClips
from vjepa_distill.data.heldout import HeldOut
from vjepa_distill.data.index import Index
from vjepa_distill.data.loader import Loader
from vjepa_distill.data.quarantine import listed
from vjepa_distill.data.scan import build_index
from vjepa_distill.data.world import write_world
from vjepa_distill.distributed import Ranks
from vjepa_distill.errors import UserError
from vjepa_distill.files import cache_folder
from vjepa_distill.progress import progress
from vjepa_distill.protocols import Decoder
from vjepa_distill.runs.first import from_first
from vjepa_distill.settings import Data, Run
from vjepa_distill.settings.run import FORMAT


def decoder_of(data: Data) -> Decoder:
    """The decoder by its registered name."""
    return registry.create("decoder", _decoder_name(data))


def check(data: Data) -> None:
    """Refuse an unknown decoder before any data is read."""
    registry.check_options("decoder", _decoder_name(data), {})


def _decoder_name(data: Data) -> str:
    return "pyav" if data.decoder == "auto" else data.decoder


def recipe_of(data: Data, train: bool, format: int = FORMAT) -> Recipe:
    """How clips are cut: augmented for training, else the centre crop; as settings of that format mean it."""
    height, width = data.shape
    crop: Literal["random", "center", "format 1"] = data.crop if train else "center"
    if crop == "random" and format == 1:
        crop = "format 1"
    return Recipe(
        data.num_frames, height, width, data.sampling, data.fps, crop, data.scale, data.aspect, data.flip
    )


def index_of(data: Data, decoder: Decoder, format: int = FORMAT) -> Index:
    """The index of the videos, made by rank 0 with a progress bar and handed to all."""
    return from_first(functools.partial(_scanned, data, decoder, format))


def _scanned(data: Data, decoder: Decoder, format: int) -> Index:
    if data.source == "world":
        make_world(data)
    with progress("scanning videos") as update:
        return build_index(
            data.root,
            data.files,
            decoder=decoder,
            cache=Path(data.index) if data.index else cache_file(data, decoder, format),
            workers=os.cpu_count() or 1,
            progress=update,
            timeout=data.timeout,
            find=format1.find if format == 1 else listing.find,
        )


def make_world(data: Data) -> None:
    """Write the toy world where there is none yet."""
    root = Path(os.path.expanduser(data.root))
    if (root / "labels.csv").exists():
        return
    if any(root.glob("videos/*")):
        raise UserError(
            f"--data.source world would write into {data.root}, which holds other videos: "
            "give another --data.root"
        )
    with progress("writing the toy world") as update:
        write_world(root, data.world_videos, 0, data.num_frames, min(data.shape), progress=update)


def cache_file(data: Data, decoder: Decoder, format: int = FORMAT) -> Path:
    """Where the index of this folder is kept between runs, however the folder is typed."""
    root = Path(data.root).absolute() if format == 1 else Path(os.path.expanduser(data.root)).resolve()
    key = repr((str(root), data.files, decoder.name, *(["real"] if format > 1 else [])))
    return cache_folder() / f"index-{hashlib.sha256(key.encode()).hexdigest()[:16]}.json"


FORMAT1 = (
    "settings of format 1: videos are held out and random crops drawn as they were then, when crops came out "
    "distorted; a new run does as today with --format 2"
)


@dataclass
class Videos:
    """What a run reads."""

    index: Index
    decoder: Decoder
    loader: Loader
    heldout: HeldOut | list[Any]
    format: int = FORMAT
    """Of the run's settings."""

    def words(self) -> list[str]:
        """For the first lines of a run."""
        train = self.loader.clips
        return [
            f"{len(train.entries)} videos ({train.num_samples} clips an epoch), "
            f"{len(self.index.good) - len(train.entries)} held out, {len(self.index.bad)} unreadable; "
            f"decoder {self.decoder.name} {self.decoder.version}",
            *duplicates_words(self.index),
            FORMAT1 if self.format == 1 else crop_words(train.recipe),
        ]


def duplicates_words(index: Index) -> list[str]:
    """One line where names of one and the same file were left out."""
    again = {name: f"the same as {kept}" for name, kept in index.duplicates.items()}
    return [f"{len(again)} listed twice and left out: {listed(again, 3)}"] if again else []


def crop_words(recipe: Recipe) -> str:
    """How training clips differ from held-out ones, in one line."""
    if recipe.crop == "center":
        return "training clips are cut as held-out ones: the largest box in the middle of the picture"
    (least, most), (low, high) = recipe.scale, recipe.aspect
    mean, stretch = math.sqrt(low * high), max(high, 1 / low)
    smallest, largest = (most * stretch) ** -0.5, (stretch / least) ** 0.5  # in the mean of both axes
    usual = f", on average by {mean:.2f}" if abs(mean - 1) > 0.01 else ""
    return (
        f"training crops: {least:.0%} to {most:.0%} of the largest box of their shape, objects "
        f"{smallest:.2f} to {largest:.2f} times as large as in held-out clips, "
        f"stretched by at most about {stretch:.2f}{usual}"
    )


def of_run(config: Run, ranks: Ranks) -> Videos:
    """Index, training loader and held-out batches."""
    data, decoder = config.data, decoder_of(config.data)
    index = index_of(data, decoder, config.format)
    refuse_too_many_bad(index, data)
    train, held = index.split(data.heldout)
    clips = VideoClips(train, index.root, recipe_of(data, True, config.format), decoder, config.seed)
    loader = loader_of(config, clips, ranks)
    if not held:
        return Videos(index, decoder, loader, [], config.format)
    fixed = VideoClips(held, index.root, recipe_of(data, train=False), decoder, config.seed, shuffle=False)
    heldout = HeldOut(fixed, config.batch_size, data.heldout_clips)
    return Videos(index, decoder, loader, heldout, config.format)


def refuse_too_many_bad(index: Index, data: Data) -> None:
    """A folder of which more than the allowed share cannot be read is not trained on silently."""
    if len(index.bad) > data.max_bad * len(index.entries):
        reasons = {entry.path: entry.why for entry in index.bad}
        share = len(index.bad) / len(index.entries)
        raise UserError(
            f"{len(index.bad)} of {len(index.entries)} files cannot be read ({listed(reasons, 3)}): "
            f"more than data.max_bad={data.max_bad}. Mend them, or type "
            f"--data.max_bad {share + 0.005:.2f} to leave them out"
        )


def loader_of(config: Run, clips: VideoClips, ranks: Ranks) -> Loader:
    """An endless loader of this rank's share, from position 0."""
    data = config.data
    return Loader(clips, config.batch_size, ranks.rank, ranks.world, data.workers, data.timeout, data.max_bad)
