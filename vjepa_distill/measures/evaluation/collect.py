"""Every video read once, every view of it through every encoder, and what is kept of the tokens."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vjepa_distill.data.loader import Loader
from vjepa_distill.errors import UserError
from vjepa_distill.measures.encode import batches, own_rows
from vjepa_distill.measures.evaluation.drift import Drift, layers_of
from vjepa_distill.measures.evaluation.health import sampled
from vjepa_distill.measures.evaluation.variants import Views, in_other_orders
from vjepa_distill.tokens import Grid

ROOM = 2**29
"""Bytes for the tokens that an attentive probe reads of one encoder."""


class Pooled(NamedTuple):
    """What is kept of a view, each [B, D] in fp32."""

    mean: Tensor
    """Over all tokens."""
    change: Tensor
    """Last third of the tubelets less the first."""
    spread: Tensor
    """Standard deviation over tubelets."""


def pooled(tokens: Tensor, tubelets: int) -> Pooled:
    """Of tokens [B, L, D] in (t, h, w) order."""
    x = tokens.float().unflatten(1, (tubelets, -1)).mean(dim=2)
    third = max(1, tubelets // 3)
    change = x[:, -third:].mean(dim=1) - x[:, :third].mean(dim=1)
    return Pooled(x.mean(dim=1), change, x.std(dim=1, correction=0))


class Watching(Protocol):
    """Who else looks at the clips as they pass, such as the measure of the horizon."""

    def add(self, clip: Tensor, files: list[str]) -> None:
        """clip uint8 [B, 3, T, H, W], and whose they are."""


@dataclass
class Kept:
    """What is kept of one encoder."""

    grid: Grid
    views: dict[str, list[Pooled]] = field(default_factory=dict)
    sample: list[Tensor] = field(default_factory=list)
    tokens: list[Tensor] = field(default_factory=list)
    cells: tuple[int, int] = (0, 0)
    """Rows and columns that `tokens` were pooled to."""

    def view(self, name: str) -> Pooled:
        """Of all clips, each [N, D]."""
        return Pooled(*(torch.cat(parts) for parts in zip(*self.views[name], strict=True)))


@dataclass
class Collected:
    """All that a pass over the videos gives."""

    files: list[str]
    kept: dict[str, Kept]
    drift: Drift | None


def collect(
    encoders: Mapping[str, nn.Module],
    grids: Mapping[str, Grid],
    loader: Loader,
    *,
    device: torch.device,
    autocast: Callable[[], AbstractContextManager],
    guard: Callable[[str], AbstractContextManager],
    tokens: bool = False,
    watching: Watching | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Collected:
    """The views of every readable video, one after the other, through all encoders.

    encoders: by name; of "this" and "start" the drift between them is kept. tokens: keep those of the clip,
    normed, in half precision, for an attentive probe; averaged over cells where they would not fit `ROOM`.
    UserError where features are not finite.
    """
    views: Any = loader.clips
    count = views.num_samples
    found = Collected([], {name: Kept(grids[name]) for name in encoders}, None)
    if "start" in encoders:
        found.drift = Drift(count)
    for encoder in encoders.values():
        encoder.to(device).eval()
    try:
        for batch in batches(loader, progress):
            rows = own_rows(batch, loader)
            if not rows:
                continue
            files = [batch.extras["path"][row] for row in rows]
            cuts = cut(batch.clip[rows], views, batch.video[rows].tolist())
            with guard("evaluate"), torch.inference_mode(), autocast():
                _through(encoders, cuts, found, device, count, tokens)
            _check_finite(found.kept, files)
            if watching:
                watching.add(cuts["clip"], files)
            found.files += files
    finally:
        loader.close()
    return found


def cut(shown: Tensor, views: Views, video: list[int]) -> dict[str, Tensor]:
    """The views by name from the frames of all [B, 3, (2 + k) T, H, W]; "0.5 s" is the first half second."""
    clip, half, *early = shown.split(views.recipe.num_frames, dim=2)
    first = {f"{tau:g} s": view for tau, view in zip(views.seconds, early, strict=True)}
    return {"clip": clip, "half": half, **in_other_orders(clip, video), **first}


def _through(
    encoders: Mapping[str, nn.Module],
    cuts: Mapping[str, Tensor],
    found: Collected,
    device: torch.device,
    count: int,
    tokens: bool,
) -> None:
    layers: dict[str, list[Tensor]] = {}
    compared = ("this", "start") if found.drift else ()
    for view, clip in cuts.items():
        pixels = clip.to(device).float().div_(255)
        for name, encoder in encoders.items():
            kept = found.kept[name]
            if view == "clip":
                give = (
                    layers_of(encoder) if name in compared else lambda clip, encoder=encoder: [encoder(clip)]
                )
                layers[name] = give(pixels)
            z = (layers[name][-1] if view == "clip" else encoder(pixels)).float()
            kept.views.setdefault(view, []).append(Pooled(*(x.cpu() for x in pooled(z, kept.grid.t))))
            if view == "clip":
                kept.sample.append(sampled(z, kept.grid.t, count, len(found.files)).cpu())
            if view == "clip" and tokens:
                kept.tokens.append(_for_attention(z, kept, count))
    if found.drift:
        found.drift.add(layers["this"], layers["start"])


def _for_attention(tokens: Tensor, kept: Kept, count: int) -> Tensor:
    """[B, L, D] averaged over cells until those of all clips fit, normed, fp16 on the CPU."""
    t, h, w = kept.grid
    each = ROOM // (2 * count * t * tokens.shape[-1])
    shrink = 1
    while -(-h // shrink) * -(-w // shrink) > max(each, 1):
        shrink += 1
    kept.cells = (-(-h // shrink), -(-w // shrink))
    if shrink > 1:
        volume = tokens.unflatten(1, kept.grid).flatten(0, 1).permute(0, 3, 1, 2)
        tokens = F.adaptive_avg_pool2d(volume, kept.cells).flatten(2).transpose(1, 2)
        tokens = tokens.unflatten(0, (-1, t)).flatten(1, 2)
    return F.layer_norm(tokens, tokens.shape[-1:]).half().cpu()


def _check_finite(kept: Mapping[str, Kept], files: list[str]) -> None:
    for name, one in kept.items():
        for pooled_views in one.views.values():
            for row, file in zip(pooled_views[-1].mean, files, strict=True):
                if not row.isfinite().all():
                    raise UserError(
                        f"the features of {file} ({name}) are not finite: try --amp fp32, check the weights"
                    )
