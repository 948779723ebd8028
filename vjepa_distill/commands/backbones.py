"""backbones: list the encoders, hold one to the contract, or show what one is and costs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from vjepa_distill.commands import check, listing, show
from vjepa_distill.errors import UserError

SUMMARY = "List the encoders that are registered, hold one to the contract, or show what it is and costs."
ACTIONS = {
    "list": "list [PREFIX]: those registered, or of a family those that begin so (list timm/vit_tiny).",
    "check": "check NAME: every claim of the contract, and how to mend what does not hold.",
    "show": "show NAME: parameters, tokens, FLOPs, memory and speed here, normalisation, licence.",
}


def add_arguments(parser: Any) -> None:
    """The options of backbones."""
    add = parser.add_argument
    add("action", choices=list(ACTIONS), help=" ".join(ACTIONS.values()))
    add(
        "name",
        nargs="?",
        default="",
        help="A registered name, file.py:Class, a run folder or an exported .safetensors.",
    )
    add("--options", type=dict[str, Any], default={}, help="Its options, e.g. '{depth: 2}'.")
    add(
        "--clip",
        type=int,
        nargs=3,
        metavar=("T", "H", "W"),
        help="Frames, height and width to try it with (default: what the encoder takes).",
    )
    add("--compile", action="store_true", help="check: torch.compile and torch.export, too (minutes).")
    add("--json", action="store_true", help="Machine-readable.")


def run(chosen: Any) -> int:
    """list, check or show."""
    if chosen.action == "list":
        return listing.list_backbones(chosen)
    if not chosen.name:
        raise UserError(f"type vjepa-distill backbones {chosen.action} NAME; backbones list shows the names")
    source = find(chosen.name, chosen.options)
    return check.run(source, chosen) if chosen.action == "check" else show.run(source, chosen)


@dataclass(frozen=True)
class Source:
    """An encoder that someone named, not built yet."""

    name: str
    build: Callable[[], Any]
    fresh: Callable[[], Any]
    """The same, of other first values: its own where they are drawn, else without the stored ones."""
    origin: dict[str, str]
    """Name, distribution, version and plugin it is from."""
    weights: str = ""
    """Where a stored one's values are from; empty for a registered one, which says so itself."""
    clip: tuple[int, int, int] | None = None
    """What a run trained it on."""
    options: dict[str, Any] = field(default_factory=dict)

    def built(self) -> Any:
        """The encoder; UserError where what is made is no module."""
        from torch import nn

        module = self.build()
        if not isinstance(module, nn.Module):
            raise UserError(f"{self.name} makes a {type(module).__name__}: a backbone is a torch.nn.Module")
        return module


def find(name: str, options: dict[str, Any]) -> Source:
    """What stands behind a registered name, ``file.py:Class``, a run folder or an exported file."""
    from vjepa_distill import registry
    from vjepa_distill.runs import exports

    path = exports.locate(name)
    if path is None:
        registry.check_options("backbone", name, options)
        made = registry.provenance("backbone", name, options)

        def build() -> Any:
            return registry.create("backbone", name, **options)

        return Source(name, build, build, made, options=options)
    record = exports.read_record(path)
    cut = record.get("clip")
    return Source(
        name,
        lambda: exports.load_backbone(name, options=options),
        lambda: exports.load_backbone(name, random_weights=True),
        record["backbone"],
        f"{path} (stage {record.get('stage', 'unknown')})",
        (cut["num_frames"], cut["height"], cut["width"]) if cut else None,
        record["backbone"]["options"],
    )
