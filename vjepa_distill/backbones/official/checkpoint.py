"""Reads one of V-JEPA's checkpoints: which version it is, its encoder and predictor, and what they imply."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from vjepa_distill.backbones.official.names import (
    V1,
    V2,
    V21,
    converted,
    depth_of,
    hf_encoder,
    official_encoder,
    stripped,
)
from vjepa_distill.backbones.official.predictor import Predictor, hf_predictor_of, official_predictor_of
from vjepa_distill.backbones.official.source import fetched
from vjepa_distill.backbones.official.tables import recognised
from vjepa_distill.backbones.sizes import SIZES
from vjepa_distill.errors import UserError

# The average of the encoder, which V-JEPA's own evaluations use; 2.1's distilled models call it ema_encoder.
TARGETS = ("target_encoder", "ema_encoder")


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint holds, under our names."""

    source: str
    version: str
    part: str
    """Which of its encoders this is."""
    encoder: dict[str, Tensor]
    shape: dict[str, Any]
    """By the names of VideoViT.shape; heads None where the file does not tell."""
    predictor: Predictor
    notes: tuple[str, ...]
    """What of the encoder has no place here: for the log."""


def read(source: str, which: str = "target", rope: str | None = None) -> Checkpoint:
    """The encoder (its EMA "target", or the trained "encoder" itself) and predictor of a checkpoint.

    source: a .pt file, a folder of transformers' form, or hf-hub:OWNER/NAME; see ``fetched``.
    rope: what the model has, which decides where an encoder alone could be V-JEPA 1's or 2's.
    UserError, in one line, for what is incomplete, has parts we do not know, or needs pickle.
    """
    found, config = fetched(source)
    parts = {name: value for name, value in found.items() if isinstance(value, Mapping)}
    if not {*TARGETS, "encoder"} & parts.keys():
        if "predictor" in parts:
            raise UserError(f"{source} holds {', '.join(sorted(parts))}, and no encoder")
        state = stripped({name: value for name, value in found.items() if isinstance(value, Tensor)})
        if which != "target":
            raise UserError(
                f"{source} holds one encoder and does not say which it was: leave which={which} out"
            )
        if any(name.startswith(("encoder.", "vjepa2.encoder.")) for name in state):
            return _hf(source, state, config)
        return _official(source, "the one encoder", state, {}, rope)
    targets = [name for name in (TARGETS if which == "target" else ("encoder",)) if name in parts]
    if not targets:
        other = "encoder" if which == "target" else "target"
        raise UserError(
            f"{source} holds {', '.join(parts)}, and no "
            f"{' or '.join(TARGETS) if which == 'target' else 'encoder'}: type which: {other}"
        )
    theirs = stripped(parts.get("predictor", {}))
    return _official(source, targets[0], stripped(parts[targets[0]]), theirs, rope)


def _hf(source: str, state: Mapping[str, Tensor], config: Mapping[str, Any]) -> Checkpoint:
    """transformers' VJEPA2Model, or VJEPA2ForVideoClassification, whose head has no place here."""
    state = {name.removeprefix("vjepa2."): value for name, value in state.items()}
    _refuse_other_parts(source, config)
    mine, theirs = (
        {n.removeprefix(part): v for n, v in state.items() if n.startswith(part)}
        for part in ("encoder.", "predictor.")
    )
    heads = sorted(n for n in state if n.startswith(("pooler.", "classifier.")))
    rest = {n: v for n, v in state.items() if not n.startswith(("encoder.", "predictor.", *heads))}
    encoder = converted({**mine, **rest}, hf_encoder(depth_of(mine, "layer")), f"{source}: its encoder")
    shape = _shape(source, encoder, config.get("num_attention_heads")) | {"rope": "vjepa2"}
    notes = (f"no place here: {_listed(heads)}",) if heads else ()
    predictor = hf_predictor_of(source, theirs, config.get("pred_num_attention_heads"))
    return Checkpoint(source, V2, "the one encoder", encoder, shape, predictor, notes)


def _refuse_other_parts(source: str, config: Mapping[str, Any]) -> None:
    known = {"hidden_act": "gelu", "layer_norm_eps": 1e-6, "qkv_bias": True, "in_chans": 3}
    for name, value in known.items():
        if config.get(name, value) != value:
            raise UserError(f"{source}: its config.json has {name}={config[name]!r}, here it is {value!r}")


def _official(
    source: str, part: str, state: dict[str, Tensor], theirs: dict[str, Tensor], rope: str | None
) -> Checkpoint:
    """facebookresearch/jepa's and vjepa2's own: untested on the real files, tested on their key lists."""
    levels = depth_of(state, "norms_block")
    position = state.pop("pos_embed", None)
    version = V21 if levels else _version(position, theirs, rope)
    notes = []
    spare = [n for n in state if n.startswith(("patch_embed_img.", "img_mod_embed"))]
    spare += [n for n in state if n.startswith("norms_block.") and int(n.split(".")[1]) < levels - 1]
    if version == V21 and spare:
        state = {name: value for name, value in state.items() if name not in spare}
        notes.append(f"no place here (still images, deep supervision): {_listed(sorted(spare))}")
    if version == V21 and "video_mod_embed" in state:  # one vector for every token, as a bias is
        bias = state["patch_embed.proj.bias"]
        state["patch_embed.proj.bias"] = bias + state.pop("video_mod_embed").flatten().to(bias.dtype)
        notes.append("video_mod_embed is added to the bias of the patches")
    norm = f"norms_block.{levels - 1}" if levels else "norm"
    table = official_encoder(depth_of(state, "blocks"), norm)
    encoder = converted(state, table, f"{source}: its encoder")
    shape = _shape(source, encoder, None)
    if version == V1:
        assert position is not None, "a version without rotary positions is told by its table"
        split, grid = recognised(position, f"{source}: pos_embed")
        shape |= {"sincos": split, "trained_grid": list(grid)}
    else:
        side = 256 // shape["patch"]
        shape |= {"rope": "vjepa2"} if version == V2 else {"rope": "rotary", "trained_grid": [0, side, side]}
        if position is not None:
            notes.append("no place here: pos_embed, for positions are rotary")
    predictor = official_predictor_of(source, theirs, version, shape)
    return Checkpoint(source, version, part, encoder, shape, predictor, tuple(notes))


def _version(position: Tensor | None, predictor: Mapping[str, Tensor], rope: str | None) -> str:
    """V-JEPA 2's files still hold V-JEPA 1's table; their predictors differ, 10 mask tokens against 2."""
    if position is None:
        return V2
    tokens = depth_of((f"{name}." for name in predictor), "mask_tokens")
    if tokens:
        return V2 if tokens == 10 else V1
    return V2 if rope == "vjepa2" else V1


def _shape(source: str, encoder: Mapping[str, Tensor], heads: int | None) -> dict[str, Any]:
    """What the tensors say of the architecture; positions as counted cells, added."""
    patches = encoder["patches.weight"]
    if patches.ndim != 5 or patches.shape[1] != 3 or patches.shape[3] != patches.shape[4]:
        raise UserError(
            f"{source}: its patches have the weight {list(patches.shape)}, expected [D, 3, t, p, p]: this is "
            "no encoder of RGB video"
        )
    width, depth = patches.shape[0], depth_of(encoder, "blocks")
    known = [size.heads for size in SIZES.values() if (size.depth, size.width) == (depth, width)]
    return {
        "depth": depth,
        "width": width,
        "heads": heads or (known[0] if known else None),
        "hidden": encoder["blocks.0.mlp.0.weight"].shape[0] if depth else 0,
        "tubelet": patches.shape[2],
        "patch": patches.shape[3],
        "rope": None,
        "sincos": None,
        "trained_grid": [0, 0, 0],
    }


def _listed(names: list[str]) -> str:
    return ", ".join(names) if len(names) <= 12 else f"{', '.join(names[:12])} and {len(names) - 12} more"
