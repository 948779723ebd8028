"""From settings to parts: the index of the videos, clips and loaders, encoders, objectives."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch

from vjepa_distill import registry
from vjepa_distill.data.clips import Recipe, VideoClips
from vjepa_distill.data.heldout import HeldOut
from vjepa_distill.data.index import Index
from vjepa_distill.data.loader import Loader
from vjepa_distill.data.quarantine import listed
from vjepa_distill.data.scan import build_index
from vjepa_distill.data.world import write_world
from vjepa_distill.distributed import Ranks, broadcast_object
from vjepa_distill.errors import UserError, accident, out_of_memory
from vjepa_distill.files import cache_folder
from vjepa_distill.progress import progress
from vjepa_distill.protocols import Backbone, Decoder, ModuleLike, Recomputing, Timeline
from vjepa_distill.runs import exports
from vjepa_distill.settings.config import Component, Data, Run, Term
from vjepa_distill.tokens import Grid
from vjepa_distill.training.optim import Precision

CONTRACT = "to see what it promises, and how to mend it, type vjepa-distill backbones check"


def device_of(name: str) -> torch.device:
    """auto, cpu or cuda; UserError where CUDA is asked for and absent."""
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: torch finds no CUDA device here; type --device cpu or auto")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def decoder_of(data: Data) -> Decoder:
    """The decoder by its registered name."""
    return registry.create("decoder", _decoder_name(data))


def check_decoder(data: Data) -> None:
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


def videos_of(config: Run, ranks: Ranks) -> Videos:
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


def encoder_of(component: Component) -> Backbone:
    """A registered backbone, a file's class, or the student of a run; UserError for what is no backbone."""
    encoder: Any = exports.load_backbone(component.name, options=component.options or None)
    width, grid = getattr(encoder, "embed_dim", None), getattr(encoder, "grid", None)
    if not (isinstance(encoder, torch.nn.Module) and isinstance(width, int) and callable(grid)):
        raise UserError(
            f"{component.name} makes a {type(encoder).__name__}: expected a torch.nn.Module with an integer "
            f"embed_dim and a method grid(T, H, W); {CONTRACT} {component.name}"
        )
    return cast(Backbone, encoder)


def grid_of(name: str, encoder: Backbone, clip: tuple[int, int, int]) -> Grid:
    """The grid of an encoder's tokens; UserError, which names it, for a clip that it does not take."""
    try:
        grid: Any = encoder.grid(*clip)
    except ValueError as problem:
        raise UserError(f"{name}: {problem}") from problem
    if not isinstance(grid, Grid):
        raise UserError(
            f"{name}: its grid gives a {type(grid).__name__}, not a vjepa_distill.Grid; {CONTRACT} {name}"
        )
    return grid


@torch.no_grad()
def try_out(
    name: str,
    encoder: Any,
    clip: tuple[int, int, int],
    device: torch.device,
    masked: bool,
    how: Precision,
) -> None:
    """One clip through an encoder before a run begins: what comes must be the tokens that its grid promises.

    masked: keep a few of the cells alone, as a student must be able to; else the whole clip.
    how: the run's precision, whose kernels are tried along with the encoder.
    UserError, which sends to the contract, for whatever else comes or is raised.
    """
    mode = encoder.training
    try:
        length = grid_of(name, encoder, clip).length
        keep = torch.arange(min(4, length), device=device)[None] if masked else None
        with how.guard(f"try out {name}"), how.autocast():
            tokens = encoder.eval()(torch.zeros(1, 3, *clip, device=device), keep)
        due = (1, length if keep is None else keep.shape[1], encoder.embed_dim)
        came = tuple(tokens.shape) if isinstance(tokens, torch.Tensor) else type(tokens).__name__
        if came != due:
            raise UserError(
                f"{name} gives {came} where {due} is due for {clip[0]} frames of {clip[1]} x {clip[2]}; "
                f"{CONTRACT} {name}"
            )
    except UserError:
        raise
    except Exception as problem:
        if out_of_memory(problem):
            raise
        raise UserError(f"{name} does not run: {accident(problem, 200)}; {CONTRACT} {name}") from problem
    encoder.train(mode)


def untrained(component: Component) -> bool:
    """Whether an encoder comes with the weights it was initialised with, as far as its settings tell."""
    given = any(component.options.get(name) for name in exports.FIRST_VALUES)
    return not given and exports.locate(component.name) is None


def provenance_of(component: Component, built: object = None) -> dict[str, Any]:
    """What an export says about how to build this encoder again.

    built: the encoder; its ``rebuild_options`` (``protocols.Backbone``) stand over those it was asked for by.
    """
    path = exports.locate(component.name)
    if path is not None:
        return exports.read_record(path)["backbone"]
    options = {**component.options, **getattr(built, "rebuild_options", {})}
    return registry.provenance("backbone", component.name, options)


def check_component(kind: str, component: Component | Term) -> None:
    """Refuse unknown names and options before any data is read."""
    if kind == "backbone" and exports.locate(component.name) is not None:
        return
    registry.check_options(kind, component.name, component.options)


def objectives_of(terms: dict[str, Term], embed_dim: int, timeline: Timeline | None) -> dict[str, Any]:
    """Every objective whose weight is not 0."""
    return {key: create_in_words(term, embed_dim, timeline) for key, term in terms.items() if term.weight}


def create_in_words(term: Term, embed_dim: int, timeline: Timeline | None) -> Any:
    """One objective; what its constructor refuses becomes one line."""
    try:
        return registry.create("objective", term.name, embed_dim=embed_dim, timeline=timeline, **term.options)
    except (ValueError, TypeError) as problem:
        raise UserError(f"objective {term.name!r} with {term.options}: {problem}") from problem


def set_checkpointing(parts: Mapping[str, object]) -> None:
    """Activation checkpointing in every part; UserError for one that has none."""
    for name, part in parts.items():
        if not isinstance(part, Recomputing):
            raise UserError(
                f"--checkpointing true: the {name} ({type(part).__name__}) has no set_checkpointing(on)"
            )
        part.set_checkpointing(True)


def size_of(module: ModuleLike) -> str:
    """Parameters in millions."""
    return f"{sum(p.numel() for p in module.parameters()) / 1e6:.1f} M parameters"
