"""The desk of the encoders: from settings to encoders and objectives, each tried before a run begins."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

import torch

from vjepa_distill import registry
from vjepa_distill.errors import UserError, accident, out_of_memory
from vjepa_distill.protocols import Backbone, Layered, ModuleLike, Recomputing, Timeline
from vjepa_distill.runs import exports
from vjepa_distill.settings import Component, JepaConfig, Term
from vjepa_distill.tokens import Grid
from vjepa_distill.training.optim import Precision

BROUGHT = ("embed_dim", "timeline", "target_dim", "layers")
"""What an objective is called with besides its options: ``objectives`` gives them."""
CONTRACT = "to see what it promises, and how to mend it, type vjepa-distill backbones check"


def device_of(name: str) -> torch.device:
    """auto, cpu or cuda; UserError where CUDA is asked for and absent."""
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: torch finds no CUDA device here; type --device cpu or auto")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def build(component: Component) -> Backbone:
    """A registered backbone, a file's class, or the student of a run; UserError for what is no backbone."""
    encoder: Any = exports.load_backbone(component.name, options=component.options or None)
    width, grid = getattr(encoder, "embed_dim", None), getattr(encoder, "grid", None)
    if not (isinstance(encoder, torch.nn.Module) and isinstance(width, int) and callable(grid)):
        raise UserError(
            f"{component.name} makes a {type(encoder).__name__}: expected a torch.nn.Module with an integer "
            f"embed_dim and a method grid(T, H, W); {CONTRACT} {component.name}"
        )
    return cast(Backbone, encoder)


def timeline_of(config: JepaConfig) -> Timeline:
    """NOW, SOON and EVENTUALLY in tubelets."""
    return Timeline(*(frames // config.tubelet for frames in vars(config.spans).values()))


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


def check(components: Iterable[Component], terms: Mapping[str, Term]) -> None:
    """Refuse unknown names and options of encoders and objectives before any data is read."""
    for component in components:
        if exports.locate(component.name) is None:
            registry.check_options("backbone", component.name, component.options)
    for term in terms.values():
        registry.check_options("objective", term.name, term.options, brought=BROUGHT)


def objectives(
    terms: dict[str, Term],
    embed_dim: int,
    timeline: Timeline | None,
    target_dim: int | None = None,
    layers: Sequence[int] = (),
) -> dict[str, Any]:
    """Every objective whose weight is not 0.

    target_dim: width of the targets, where it is not the student's. layers: widths of those it offers.
    """
    width = target_dim or embed_dim
    given = {"target_dim": width, "layers": tuple(layers)}
    made = {}
    for key, term in terms.items():
        if not term.weight:
            continue
        takes = registry.options_of("objective", term.name)
        if width != embed_dim and "target_dim" not in takes:
            raise UserError(
                f"objective {term.name!r} takes no target_dim, so its targets are {embed_dim} wide as the "
                f"student, and not {width}: type --objectives.{key}.weight 0, or other targets"
            )
        brought = {name: value for name, value in given.items() if name in takes}
        made[key] = create_in_words(term, {"embed_dim": embed_dim, "timeline": timeline, **brought})
    return made


def create_in_words(term: Term, given: Mapping[str, Any]) -> Any:
    """One objective; what its constructor refuses becomes one line."""
    try:
        return registry.create("objective", term.name, **{**given, **term.options})
    except (ValueError, TypeError) as problem:
        raise UserError(f"objective {term.name!r} with {term.options}: {problem}") from problem


@torch.no_grad()
def layer_widths(encoder: Backbone, clip: tuple[int, int, int]) -> list[int]:
    """The widths of the layers that an encoder offers, the output's last; none where it offers none."""
    if not isinstance(encoder, Layered):
        return []
    module: Any = encoder
    mode = module.training
    module.eval()  # no statistics of a black clip
    shown = encoder.layer_tokens(torch.zeros(1, 3, *clip), torch.zeros(1, 1, dtype=torch.int64))
    module.train(mode)
    return [tokens.shape[-1] for tokens in shown]


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
