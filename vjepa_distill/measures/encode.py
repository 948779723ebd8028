"""Frozen features of a folder of videos: one row a clip, file names beside the rows, safe to interrupt."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from vjepa_distill.data.loader import Loader
from vjepa_distill.data.quarantine import listed
from vjepa_distill.errors import UserError
from vjepa_distill.files import write_atomic
from vjepa_distill.measures.parts import Parts
from vjepa_distill.protocols import Batch
from vjepa_distill.training.optim import Guarding, trusting

FORMAT = 1


def encode(
    encoder: nn.Module,
    loader: Loader,
    out: Path | str,
    record: Mapping[str, Any],
    *,
    pool: Literal["mean", "none"] = "mean",
    device: str | torch.device = "cpu",
    autocast: torch.dtype | None = None,
    guard: Guarding = trusting,
    bad: Mapping[str, str] | None = None,
    overwrite: bool = False,
    part_rows: int = 128,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Writes "features" float32 [N, D] (pool mean: over tokens) or [N, L, D] (none) to a safetensors file.

    Beside it, with the ending .json: "files" (one name a row, in order), "bad" (name: why), and the record.
    Interrupted, the same call goes on where it was. Rows are in the order of the loader's clips, which must
    not be shuffled; a file that fails while it is read becomes a line in "bad" and no row.

    encoder: clip [B, 3, T, H, W] in [0, 1] to tokens [B, L, D]; it is put into eval mode.
    record: JSON of all that decides the numbers (source, fingerprint of the weights, recipe, space ...); a
        result, finished or not, with another record is refused (UserError) unless `overwrite`.
    autocast: torch.bfloat16 for mixed precision, whose wrong kernels `guard` keeps out.
    bad: files that the index already refused, to be listed too.
    progress: called with (clips done, clips in all).
    """
    if loader.clips.shuffle or loader.world != 1:
        raise ValueError("rows are in file order: encode needs clips with shuffle=False on a single rank")
    out, record = Path(out), {"format": FORMAT, **record, "pool": pool, "autocast": str(autocast)}
    if not overwrite and (done := finished(out, record)):
        return done
    parts = Parts(out.with_name(out.name + ".parts"), record, overwrite)
    loader.clips.quarantine.reasons.update(parts.bad)
    loader.position = parts.done
    encoder = encoder.to(device).eval()
    try:
        for batch in batches(loader, progress):
            rows = own_rows(batch, loader)
            with guard("encode"):
                tokens = _tokens(encoder, batch.clip[rows], pool, torch.device(device), autocast)
            files = [batch.extras["path"][row] for row in rows]
            _check_finite(tokens, files)
            parts.add(tokens, files, loader.clips.quarantine.reasons, done=loader.position)
            if parts.waiting >= part_rows:
                parts.flush()
    finally:
        parts.flush()  # also after Ctrl-C: what is encoded is kept
        loader.close()
    return _finish(out, parts, {**record, "bad": {**(bad or {}), **parts.bad}})


def finished(out: Path | str, record: Mapping[str, Any]) -> dict[str, Any] | None:
    """What lies beside features of the same record; None if there are none, UserError if made otherwise."""
    out, beside = Path(out), Path(out).with_suffix(".json")
    if not (out.exists() and beside.exists()):
        return None
    found = json.loads(beside.read_text(encoding="utf-8"))
    differ = [key for key in record if found.get(key) != json.loads(json.dumps(record[key]))]
    if differ:
        raise UserError(f"{out} was made with another {', '.join(differ)}: --overwrite, or another --out")
    return found


def batches(loader: Loader, progress: Callable[[int, int], None] | None) -> Any:
    """The loader's batches until every clip has been asked for once."""
    total = loader.clips.num_samples
    while loader.position < total:
        yield next(loader)
        if progress:
            progress(min(loader.position, total), total)


def own_rows(batch: Batch, loader: Loader) -> list[int]:
    """Rows of a batch that show the file of their own position.

    The others are repeats: the loader's order begins anew after the last clip, and puts the next readable
    file in the place of a bad one. Right for training; in a table of features they would count twice.
    """
    samples = loader.clips.samples
    own = enumerate(zip(batch.position.tolist(), batch.extras["path"], strict=True))
    return [row for row, (k, path) in own if k < len(samples) and samples[k].entry.path == path]


@torch.inference_mode()
def _tokens(
    encoder: nn.Module, clip: Tensor, pool: str, device: torch.device, autocast: torch.dtype | None
) -> Tensor:
    """clip uint8 [b, 3, T, H, W] -> float32 [b, D] or [b, L, D] on the CPU; the mean is taken in fp32."""
    if not len(clip):
        return torch.empty(0)
    nothing = torch.empty(len(clip), dtype=torch.int64)
    batch = Batch(clip, nothing, nothing).to(device)
    with torch.autocast(device.type, autocast, enabled=autocast is not None):
        tokens = encoder(batch.clip)
    tokens = tokens.float()
    return (tokens.mean(dim=1) if pool == "mean" else tokens).cpu()


def _check_finite(tokens: Tensor, files: list[str]) -> None:
    for row, file in zip(tokens, files, strict=False):
        if not row.isfinite().all():
            raise UserError(f"the features of {file} are not finite: try --amp fp32, check the weights")


def _finish(out: Path, parts: Parts, record: dict[str, Any]) -> dict[str, Any]:
    """Joins the parts; the JSON first, so that features never lie there without their names."""
    if not parts.files:
        raise UserError(f"not one video could be encoded: {listed(record['bad'])}")
    record["files"] = parts.files
    out.unlink(missing_ok=True)
    text = json.dumps(record, indent=1)
    write_atomic(out.with_suffix(".json"), lambda file: file.write(text.encode()))
    write_atomic(out, parts.join)
    parts.remove()
    return record
