"""The predictor of a V-JEPA checkpoint, with the one of its mask tokens that was trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import Tensor

from vjepa_distill.backbones.official.names import (
    V1,
    V21,
    converted,
    depth_of,
    hf_predictor,
    official_predictor,
)
from vjepa_distill.backbones.official.tables import recognised
from vjepa_distill.errors import UserError

NONE = "it holds no predictor"


class Predictor(NamedTuple):
    """The predictor of a checkpoint, or why there is none that has a place here."""

    words: str
    """For the log."""
    state: dict[str, Tensor] | None = None
    settings: Mapping[str, Any] = {}
    """By the names of heads.Predictor; without heads where the file does not tell."""


def hf_predictor_of(source: str, theirs: dict[str, Tensor], heads: int | None) -> Predictor:
    """From the state of transformers' VJEPA2Predictor."""
    if not theirs:
        return Predictor(NONE)
    tokens = theirs.pop("embeddings.mask_tokens", None)
    ours = converted(theirs, hf_predictor(depth_of(theirs, "layer")), f"{source}: its predictor")
    return _with_token(source, ours, tokens, heads, "vjepa2")


def official_predictor_of(
    source: str, theirs: dict[str, Tensor], version: str, shape: Mapping[str, Any]
) -> Predictor:
    """From the state of facebookresearch/jepa's or vjepa2's own; untested on the real files.

    V-JEPA 1's positions are counted on any grid, for its own code has no predictor for another.
    """
    if not theirs:
        return Predictor(NONE)
    if version == V21:
        return Predictor("the predictor of V-JEPA 2.1 predicts other levels, or another teacher's tokens")
    if any(name.startswith("action_encoder.") for name in theirs):
        return Predictor("its predictor is conditioned on a robot's actions")
    position = theirs.pop("predictor_pos_embed", None)
    names = sorted((n for n in theirs if n.startswith("mask_tokens.")), key=lambda n: int(n.split(".")[1]))
    tokens = [theirs.pop(name) for name in names]
    table = official_predictor(depth_of(theirs, "predictor_blocks"))
    ours = converted(theirs, table, f"{source}: its predictor")
    if version == V1:
        if position is None:
            raise UserError(f"{source}: its predictor misses predictor_pos_embed")
        if recognised(position, f"{source}: predictor_pos_embed")[0] != "thirds":
            return Predictor("its predictor shares its width between t, h, w in another way than ours")
        return _with_token(source, ours, tokens, shape["heads"], None)
    return _with_token(source, ours, tokens, None, "vjepa2")


def _with_token(
    source: str, ours: dict[str, Tensor], tokens: Any, heads: int | None, rope: str | None
) -> Predictor:
    """With the mask token that was trained: the others are as they were initialised, 0."""
    if tokens is None or not len(tokens):
        raise UserError(f"{source}: its predictor misses its mask tokens")
    width, depth = ours["embed.weight"].shape[0], depth_of(ours, "blocks")
    if depth and ours["blocks.0.mlp.0.weight"].shape[0] != 4 * width:
        return Predictor("its predictor's MLPs are not 4 times as wide as its tokens")
    if rope and width == 384:
        heads = heads or 12  # of every predictor that V-JEPA 2 published
    norms = [float(token.float().norm()) for token in tokens]
    best = max(range(len(norms)), key=norms.__getitem__)
    ours["mask_token"] = tokens[best].flatten().clone()
    note = f"mask token {best} of {len(norms)}, norms {' '.join(f'{n:.3g}' for n in norms)}"
    settings: dict[str, Any] = {"width": width, "depth": depth, "rope": rope, "anchor": "none"}
    settings |= {"context_positions": True, "project_positions": False} | ({"heads": heads} if heads else {})
    return Predictor(note, ours, settings)
