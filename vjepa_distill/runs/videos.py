"""The desk of the videos: from settings to an index, clips, a loader and held-out batches."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vjepa_distill import registry
from vjepa_distill.data.clips import Recipe, VideoClips
from vjepa_distill.data.heldout import HeldOut
from vjepa_distill.data.index import Index
from vjepa_distill.data.loader import Loader
from vjepa_distill.data.quarantine import listed
from vjepa_distill.data.scan import build_index
from vjepa_distill.data.world import write_world
from vjepa_distill.distributed import Ranks, broadcast_object
from vjepa_distill.errors import UserError
from vjepa_distill.files import cache_folder
from vjepa_distill.progress import progress
from vjepa_distill.protocols import Decoder
from vjepa_distill.settings import Data, Run


def decoder_of(data: Data) -> Decoder:
    """The decoder by its registered name."""
    return registry.create("decoder", _decoder_name(data))


def check(data: Data) -> None:
    """Refuse an unknown decoder before any data is read."""
    registry.check_options("decoder", _decoder_name(data), {})


def _decoder_name(data: Data) -> str:
    return "pyav" if data.decoder == "auto" else data.decoder


def recipe_of(data: Data, train: bool) -> Recipe:
    """How clips are cut: augmented for training, else the centre crop."""
    height, width = data.shape
    crop = data.crop if train else "center"
    return Recipe(
        data.num_frames, height, width, data.sampling, data.fps, crop, data.scale, data.aspect, data.flip
    )


def index_of(data: Data, decoder: Decoder, rank: int = 0) -> Index:
    """The index of the videos, made by rank 0 with a progress bar and handed to all."""
    if rank == 0:
        if data.source == "world":
            make_world(data)
        with progress("scanning videos") as update:
            index = build_index(
                data.root,
                data.files,
                decoder=decoder,
                cache=Path(data.index) if data.index else cache_file(data, decoder),
                workers=os.cpu_count() or 1,
                progress=update,
                timeout=data.timeout,
            )
    return broadcast_object(index if rank == 0 else None)


def make_world(data: Data) -> None:
    """Write the toy world where there is none yet."""
    if (Path(data.root) / "labels.csv").exists():
        return
    if any(Path(data.root).glob("videos/*")):
        raise UserError(
            f"--data.source world would write into {data.root}, which holds other videos: "
            "give another --data.root"
        )
    with progress("writing the toy world") as update:
        write_world(data.root, data.world_videos, 0, data.num_frames, min(data.shape), progress=update)


def cache_file(data: Data, decoder: Decoder) -> Path:
    """Where the index of this folder is kept between runs."""
    key = repr((str(Path(data.root).absolute()), data.files, decoder.name))
    return cache_folder() / f"index-{hashlib.sha256(key.encode()).hexdigest()[:16]}.json"


@dataclass
class Videos:
    """What a run reads."""

    index: Index
    decoder: Decoder
    loader: Loader
    heldout: HeldOut | list[Any]

    def words(self) -> str:
        """For the first lines of a run."""
        train = self.loader.clips
        return (
            f"{len(train.entries)} videos ({train.num_samples} clips an epoch), "
            f"{len(self.index.good) - len(train.entries)} held out, {len(self.index.bad)} unreadable; "
            f"decoder {self.decoder.name} {self.decoder.version}"
        )


def of_run(config: Run, ranks: Ranks) -> Videos:
    """Index, training loader and held-out batches."""
    data, decoder = config.data, decoder_of(config.data)
    index = index_of(data, decoder, ranks.rank)
    refuse_too_many_bad(index, data)
    train, held = index.split(data.heldout)
    clips = VideoClips(train, index.root, recipe_of(data, train=True), decoder, config.seed)
    loader = loader_of(config, clips, ranks)
    if not held:
        return Videos(index, decoder, loader, [])
    fixed = VideoClips(held, index.root, recipe_of(data, train=False), decoder, config.seed, shuffle=False)
    return Videos(index, decoder, loader, HeldOut(fixed, config.batch_size, data.heldout_clips))


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
