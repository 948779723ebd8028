"""What each part must be, and nothing that is one: Backbone, Objective, Stage, Decoder, and what they get."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, Self, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from vjepa_distill.tokens import Grid


class ModuleLike(Protocol):
    """What is used of ``torch.nn.Module``: a contract cannot derive from a class, so it is said once more."""

    def parameters(self, recurse: bool = True) -> Iterator[Tensor]: ...

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True) -> Any: ...

    def requires_grad_(self, requires_grad: bool = True) -> Self: ...

    def eval(self) -> Self: ...

    def to(self, device: str | torch.device) -> Self: ...


@runtime_checkable
class Backbone(ModuleLike, Protocol):
    """A video encoder: any ``torch.nn.Module`` with these three members.

    Normalisation of the pixels happens inside, because models differ. Class and register tokens stay inside.
    ``keep`` is inside because an encoder that mixes first and selects afterwards leaks the answer to a masked
    prediction; one that cannot drop tokens is wrapped in ``backbones.hidden.Hidden``.

    May carry ``rebuild_options``, a mapping of plain values: options from which its factory builds the same
    architecture with no file and no network. For one whose shape was read from elsewhere (a config beside the
    weights, a hub). A run stores them with its student, over the options it was asked for by.
    """

    embed_dim: int

    def grid(self, T: int, H: int, W: int) -> Grid:
        """The token grid of a clip of T frames of H by W pixels; ValueError, in words, for other sizes."""

    def __call__(self, clip: Tensor, keep: Tensor | None = None) -> Tensor:
        """clip float RGB [B, 3, T, H, W] in [0, 1], keep int64 [B, K] or None -> [B, K or L, embed_dim].

        ``keep`` ascends in every row, so that an encoder that reads tokens one after the other finds them in
        their order.
        """


@runtime_checkable
class Recomputing(Protocol):
    """A part that can recompute its activations in the backward pass instead of keeping them."""

    def set_checkpointing(self, on: bool) -> None:
        """Switch it on or off."""


@runtime_checkable
class Described(Protocol):
    """A backbone that says of itself what its pixels and numbers cannot, for ``backbones show``."""

    def describe(self) -> dict[str, str]:
        """In words, whichever apply: "sizes" it takes, "normalisation", where its "weights" are from
        ("random" where untrained) and their "licence" ("unknown" where nothing says so).
        """


@runtime_checkable
class Layered(Protocol):
    """A backbone that also hands out tokens from inside, for deep supervision and for measuring drift."""

    def layer_tokens(self, clip: Tensor, keep: Tensor | None = None) -> list[Tensor]:
        """As a call, but of a few chosen layers [B, K or L, D_i]; the last one is the output.

        Those before the last come as they are between the blocks, without a norm.
        """


class Timeline(NamedTuple):
    """How many tubelets of a clip are NOW, SOON and EVENTUALLY, in this order."""

    now: int
    soon: int
    eventually: int


class Split(NamedTuple):
    """A view of a batch: which tokens the student may see, and which are asked of it."""

    keep: Tensor
    """int64 [B, K], ascending in every row."""
    rest: Tensor
    """int64 [B, M], ascending in every row."""


class Draw(NamedTuple):
    """The key of every random choice in a batch: the run's seed and each row's place in the data."""

    seed: int
    position: Tensor
    """int64 [B]"""


class View(Hashable, Protocol):
    """What the student may see, as a frozen value: objectives with the same view share one student pass."""

    def split(self, grid: Grid, draw: Draw) -> Split: ...


@dataclass
class Batch:
    """What a stage is handed."""

    clip: Tensor
    """uint8 [B, 3, T, H, W] until it reaches the device, then float in [0, 1]."""
    position: Tensor
    """int64 [B]: the row's place in the endless order of the data; keys every random draw."""
    video: Tensor
    """int64 [B]: which file the row is from, so that one video is never its own negative."""
    extras: dict[str, Any] = field(default_factory=dict)
    """What a task brings besides pixels: actions, timestamps, cameras, labels."""

    def to(self, device: torch.device) -> Batch:
        """The same batch on the device, its clip as float in [0, 1]."""
        clip = self.clip.to(device, non_blocking=True)
        if clip.dtype == torch.uint8:
            clip = clip.float().div_(255)
        return Batch(clip, self.position.to(device), self.video.to(device), self.extras)


@dataclass
class Latents:
    """All that an objective gets of a step: what was seen, what is to be matched, and a way to predict."""

    grid: Grid
    target: Tensor
    """[B, L, D]: the teacher's tokens of the whole clip, without gradient."""
    splits: dict[View, Split]
    """For every view asked for: which tokens were kept and which are asked."""
    seen: dict[View, Tensor]
    """For every view asked for: the student's tokens [B, K, D]."""
    predict: Callable[[View, Tensor], Tensor]
    """(view, query [B, M]) gives the predicted target tokens [B, M, D] at those places."""
    video: Tensor
    """int64 [B], as in ``Batch``."""
    notes: dict[str, Tensor] = field(default_factory=dict)
    """Detached scalars an objective wants in the log (skill, accuracy): ``latents.note(name, value)``."""
    alone: Callable[[View], Tensor] | None = None
    """(view) gives the teacher's tokens [B, K, D] of what the view shows and of nothing else, without
    gradient: what a fair rival may know. None in stage 1, where nothing is foretold."""
    layers: Mapping[View, Sequence[Tensor]] = field(default_factory=dict)
    """For views of an objective that is ``deep``: the student's layers (``Layered``), the last one too."""

    def note(self, name: str, value: Tensor) -> None:
        """Put a scalar in the log beside the loss."""
        self.notes[name] = value.detach()


@runtime_checkable
class Objective(Protocol):
    """One named loss: an ``nn.Module`` that says which views it needs and returns one unweighted scalar.

    Built as ``target(embed_dim=D, timeline=Timeline | None, **options)``. May own weights (they join the
    optimizer) and may define ``after_step()``, called after every update of the weights. One that takes
    ``target_dim`` is handed the width of the targets, which is the student's unless another encoder makes
    them. One whose ``deep`` is true finds the student's layers in ``Latents.layers`` where there are any, and
    is handed their widths if it takes ``layers``.
    """

    def views(self) -> Sequence[View]:
        """The views whose student tokens this objective reads."""

    def __call__(self, latents: Latents) -> Tensor:
        """The unweighted loss: a scalar in at least fp32."""


class Stage(ModuleLike, Protocol):
    """What a run trains: any ``torch.nn.Module`` that makes losses of a batch."""

    notes: dict[str, Tensor]
    """What the last forward measured beside its losses: detached scalars by name."""
    tokens: Tensor
    """A sample of the teacher's tokens [N, D] of the last forward, for rank and spread."""

    def __call__(self, batch: Batch) -> dict[str, Tensor]:
        """Unweighted scalar losses by name."""

    def after_step(self, step: int) -> None:
        """Called after every update of the weights: where a teacher follows."""

    def skip_step(self) -> None:
        """Called instead where an update was not made (fp16 overflow)."""

    def evaluate(self, batches: Iterable[Batch]) -> dict[str, float]:
        """Scores on held-out batches by name; ``tokens`` are then those of the held-out clips."""

    def score(self, scores: Mapping[str, float]) -> float:
        """One number of what ``evaluate`` found, and of what the loop made of it: "loss" (the weighted sum)
        and, where the tokens are watched, "rank_kept"; higher is better. By it the best step is kept.
        """


class DecodeError(Exception):
    """A video that cannot be read, with the reason in words."""


@dataclass(frozen=True)
class VideoInfo:
    """What a scan of a file found out; training trusts this and never the container's own counts."""

    frames: int
    """How many frames will be shown."""
    fps: float
    width: int
    height: int
    """Of the displayed picture, rotation applied."""
    rotation: int
    codec: str
    times: tuple[float, ...]
    """Presentation time of every shown frame, in seconds, ascending."""


class Decoder(Protocol):
    """A video reader."""

    name: str
    version: str

    def scan(self, path: str) -> VideoInfo:
        """Find out what is in the file; DecodeError with the reason when it cannot be used."""

    def read(self, path: str, indices: Sequence[int], info: VideoInfo) -> np.ndarray:
        """The frames at these display-order indices, repeats allowed: uint8 RGB [N, H, W, 3], rotated."""
