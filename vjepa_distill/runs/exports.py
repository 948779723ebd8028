"""What a run hands on: its models as safetensors files that say how to build them, and the way back."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Literal

import safetensors
import safetensors.torch
import torch
from torch import nn

from vjepa_distill import registry
from vjepa_distill.errors import UserError, brief, one_of
from vjepa_distill.files import write_atomic
from vjepa_distill.modules.heads import Projector
from vjepa_distill.protocols import Backbone, ModuleLike

_log = logging.getLogger(__name__)

FORMAT = 1
WHICH = ("student", "teacher")
KEY = "vjepa_distill"  # of the JSON record among a safetensors file's metadata
# Options that only say where a backbone's first values come from: an export holds the values, and the file
# they came from may be gone. A plugin's backbone that names its own so can be exported the same way.
FIRST_VALUES = ("weights", "pretrained")


def export_backbone(path: Path | str, backbone: ModuleLike, record: Mapping[str, Any]) -> Path:
    """Writes a model's tensors as safetensors, its record as JSON in the metadata.

    record["backbone"] is registry.provenance of what to build; the rest ("stage", clip size, ...) is kept.
    """
    text = json.dumps({"format": FORMAT, **record})
    # Clones: safetensors refuses tensors that share memory, such as the slices of a fused projection.
    state = backbone.state_dict()
    tensors = {name: value.detach().cpu().contiguous().clone() for name, value in state.items()}
    return write_atomic(path, lambda file: file.write(safetensors.torch.save(tensors, {KEY: text})))


def export_head(path: Path | str, head: Projector, record: Mapping[str, Any]) -> Path:
    """Writes a distillation head beside its student: the same, with how to build it under "head"."""
    return export_backbone(path, head, {**record, "head": head.record})


def read_record(path: Path | str) -> dict[str, Any]:
    """What an exported file says about itself. UserError if it is not one of ours, damaged or newer."""
    path = Path(path)
    try:
        with safetensors.safe_open(str(path), framework="pt") as file:
            record = json.loads((file.metadata() or {})[KEY])
    except (OSError, safetensors.SafetensorError) as problem:
        raise UserError(f"{path} cannot be read as safetensors: {problem}") from problem
    except KeyError:
        raise UserError(f"{path} was not exported by vjepa-distill: its metadata has no {KEY!r}") from None
    if record["format"] > FORMAT:
        raise UserError(
            f"{path} has format {record['format']}, this version reads up to {FORMAT}: "
            "pip install --upgrade vjepa-distill"
        )
    return record


def locate(source: Path | str, which: str = "student") -> Path | None:
    """The exported file that a run folder or file name stands for; None for a registered name."""
    one_of("which", which, WHICH)
    if not isinstance(source, str | Path):
        raise UserError(f"source={source!r}: give a run folder, an exported file, or a registered name")
    path = Path(source)
    if path.is_dir():
        if not (path / f"{which}.safetensors").is_file():
            raise UserError(f"{path} holds no {which}.safetensors{_why_absent(path)}")
        return path / f"{which}.safetensors"
    if path.suffix == ".safetensors":
        if not path.is_file():
            raise UserError(f"there is no file {path}")
        return path
    return None


def _why_absent(run: Path) -> str:
    """What a folder is that lacks an encoder: of a run that has not ended, of one that made none, of none."""
    if (run / "student.safetensors").is_file():
        return ": the targets of that run were no copy of its student"
    if not (run / "config.yaml").is_file():
        return " and no config.yaml: it is no run's folder"
    best = run / "best"
    also = f", or give {best}" if (best / "student.safetensors").is_file() else ""
    return f", which a run writes at its end: finish it with --resume{also}"


def clip_of(source: Path | str) -> dict[str, Any]:
    """How a run cut its clips, as settings of `Data` by name; empty for a registered name."""
    path = locate(source)
    clip = dict(read_record(path).get("clip", {})) if path else {}
    return {"size": [clip.pop("height"), clip.pop("width")], **clip} if clip else {}


def need_clip(source: Path | str, given: Collection[str]) -> None:
    """UserError for a registered name where none of the given settings of `Data` says what its clips are."""
    if locate(source) is not None:
        return
    _known(str(source))
    if not {"num_frames", "size"} & set(given):
        raise UserError(
            f"{source} is no run, which would bring its clips: type --data.num_frames N --data.size PIXELS"
        )


def load_backbone(
    source: Path | str,
    which: str = "student",
    options: Mapping[str, Any] | None = None,
    random_weights: bool = False,
) -> Backbone:
    """The encoder of a run (its "student", or "teacher": the average of the student), of a file, or by name.

    options: for a registered name only. random_weights: build it and load nothing, the floor of every probe.
    UserError where the plugin that made it is missing (it says what to install) or the tensors do not fit.
    """
    path = locate(source, which)
    if path is None:
        chosen = dict(options or {})
        _known(str(source))
        return registry.create("backbone", str(source), **_without_first_values(chosen, random_weights))
    if options:
        raise UserError(f"options {sorted(options)}: {path} brings its own, leave them out")
    made = read_record(path)["backbone"]
    if words := registry.missing(made):
        raise UserError(words)
    if words := registry.changed(made):
        _log.warning("%s: its file has changed since the run: %s", path, words)
    backbone = registry.create("backbone", made["name"], **_without_first_values(made["options"], True))
    return backbone if random_weights else fill(backbone, path)


def load_head(source: Path | str) -> Projector:
    """The distillation head of a run: student tokens to teacher tokens, in the teacher's own units.

    UserError where there is none, or where it no longer fits: the student was trained on (stage "jepa").
    """
    student = locate(source)
    stage = read_record(student).get("stage", "unknown") if student else "none (a registered name)"
    if student is None or stage != "distill":
        raise UserError(
            f"--space teacher needs a run of distill, and the stage of {source} is {stage}: no head fits its "
            "tokens. Type --space backbone, or give the distill run"
        )
    path = student.with_name("head.safetensors")
    return fill(Projector(**read_record(path)["head"]), path)


def load_encoder(
    source: Path | str, space: Literal["backbone", "teacher"] = "backbone", **how: Any
) -> nn.Module:
    """What encode runs: load_backbone(source, **how), for the teacher's space with the head upon it."""
    head = load_head(source) if space == "teacher" else None  # first: it refuses before the long load
    backbone: Any = load_backbone(source, **how)  # a module by contract, which its type cannot say
    return backbone if head is None else nn.Sequential(backbone, head)


def fingerprint(module: nn.Module) -> str:
    """A short hash of all tensors of a model: the same name only for the same values."""
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def _known(name: str) -> None:
    """UserError for what is neither a run nor a name; a file that no run exported may be official weights."""
    try:
        registry.resolve("backbone", name)
    except UserError as problem:
        if Path(name).is_file():
            raise UserError(
                f"{name} is no .safetensors that a run exported; weights of others are an option of the "
                "model that they fit, as vjepa/large with weights: FILE"
            ) from None
        families = {known.partition("/")[0] for known in registry.catalogue("backbone")}
        if name.partition("/")[0] not in families:
            raise UserError(f"there is no run folder or exported file {name}, and {problem}") from None
        raise


def _without_first_values(options: Mapping[str, Any], drop: bool) -> dict[str, Any]:
    return {name: value for name, value in options.items() if not (drop and name in FIRST_VALUES)}


def fill(module: Any, path: Path) -> Any:
    """The module with the tensors of an exported file; UserError where they do not fit."""
    try:
        module.load_state_dict(safetensors.torch.load_file(path), strict=True)
    except RuntimeError as problem:
        reason = brief(problem, 400)
        raise UserError(f"{path} does not fit the model it names: {reason}") from problem
    return module
