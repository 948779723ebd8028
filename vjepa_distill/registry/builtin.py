"""What comes with vjepa-distill, offered through the hooks every plugin uses; nothing here imports torch."""

from __future__ import annotations

import ast
from pathlib import Path

from vjepa_distill.registry.hookspecs import Register, hookimpl

BACKBONES = Path(__file__).parents[1] / "backbones"


@hookimpl
def register_backbones(register: Register) -> None:
    """What the files of backbones/ say they offer, each in its own ``OFFERS``."""
    for file in sorted(BACKBONES.glob("*.py")):
        place = f"vjepa_distill.backbones.{file.stem}"
        for name, offer in offers_of(file.read_text(encoding="utf-8")).items():
            models = f"{place}:{offer['models']}" if "models" in offer else None
            register(name, f"{place}:{offer['target']}", summary=offer["summary"], models=models)


def offers_of(source: str) -> dict[str, dict[str, str]]:
    """The literal that a file assigns to ``OFFERS``; read and not run, for running it would import torch."""
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "OFFERS":
            return ast.literal_eval(node.value)
    return {}


@hookimpl
def register_objectives(register: Register) -> None:
    """The three losses of the tri-temporal JEPA, what sharpens them, and token matching for distillation."""
    temporal = "vjepa_distill.objectives.temporal"
    register("now", f"{temporal}:Now", summary="predict the hidden tokens of the present")
    register("soon", f"{temporal}:Soon", summary="predict the tokens that come next")
    register("eventually", f"{temporal}:Eventually", summary="tell this clip's far future from other clips'")
    sharper = "vjepa_distill.objectives"
    register("context", f"{sharper}.context:Context", summary="predict what was seen, too, at several layers")
    register("dynamics", f"{sharper}.dynamics:Dynamics", summary="say how each place changes; motion counts")
    register("retain", f"{sharper}.retain:Retain", summary="hold on to what the tokens of the start said")
    register("sigreg", f"{sharper}.sigreg:SIGReg", summary="keep tokens Gaussian, against collapse")
    register("match", "vjepa_distill.objectives.match:Match", summary="match the teacher's tokens one by one")


@hookimpl
def register_decoders(register: Register) -> None:
    """Three ways to read a video file; ``auto`` in a config means pyav."""
    decoders = "vjepa_distill.data.decoders"
    register(
        "pyav", f"{decoders}.pyav:PyAV", summary="indexed PyAV: exact on every format tried; the default"
    )
    register(
        "decord",
        f"{decoders}.decord:Decord",
        summary="decord: no AV1, wheels for Linux x86-64 and Windows only",
    )
    register(
        "torchcodec",
        f"{decoders}.torchcodec:TorchCodec",
        summary="torchcodec, exact mode: needs FFmpeg's libraries",
    )
