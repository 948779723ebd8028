"""What each tensor is called in V-JEPA's official files, in transformers' form, and here."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from vjepa_distill.errors import UserError

V1, V2, V21 = "V-JEPA 1", "V-JEPA 2", "V-JEPA 2.1"

# A table says {their name: our name}; "…#0" to "#2" are the thirds of a fused query-key-value projection.
Table = dict[str, str]

BLOCK = {"norm1": "norm1", "norm2": "norm2", "attn.proj": "attention.proj", "attn.qkv": "attention.qkv"}
OFFICIAL = {**BLOCK, "mlp.fc1": "mlp.0", "mlp.fc2": "mlp.2"}
QKV = {f"attention.{part}": f"attention.qkv#{i}" for i, part in enumerate(("query", "key", "value"))}
HF = {"norm1": "norm1", "norm2": "norm2", **QKV, "attention.proj": "attention.proj"}
HF |= {"mlp.fc1": "mlp.0", "mlp.fc2": "mlp.2"}


def official_encoder(depth: int, norm: str = "norm") -> Table:
    """The encoder of facebookresearch/jepa and vjepa2; norm: what their final LayerNorm is called."""
    return _both({"patch_embed.proj": "patches", norm: "norm"}) | _blocks("blocks", OFFICIAL, depth)


def official_predictor(depth: int) -> Table:
    """The predictor of facebookresearch/jepa and vjepa2, but for its mask tokens."""
    outer = {"predictor_embed": "embed", "predictor_norm": "norm", "predictor_proj": "out"}
    return _both(outer) | _blocks("predictor_blocks", OFFICIAL, depth)


def hf_encoder(depth: int) -> Table:
    """transformers' VJEPA2Encoder."""
    outer = {"embeddings.patch_embeddings.proj": "patches", "layernorm": "norm"}
    return _both(outer) | _blocks("layer", HF, depth)


def hf_predictor(depth: int) -> Table:
    """transformers' VJEPA2Predictor, but for its mask tokens."""
    outer = {"embeddings.predictor_embeddings": "embed", "layernorm": "norm", "proj": "out"}
    return _both(outer) | _blocks("layer", HF, depth)


def depth_of(names: Iterable[str], blocks: str) -> int:
    """How many blocks of that prefix there are: the highest number, so that a gap is found as missing."""
    found = (re.match(rf"{blocks}\.(\d+)\.", name) for name in names)
    return max((int(match[1]) + 1 for match in found if match), default=0)


def stripped(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Without the prefixes that DDP, torch.compile and V-JEPA's own wrapper put before a name."""
    return {re.sub(r"^((module|backbone|_orig_mod)\.)+", "", name): value for name, value in state.items()}


def converted(state: Mapping[str, Tensor], table: Table, what: str) -> dict[str, Tensor]:
    """Their tensors under our names, all of them and nothing else; UserError names up to 3 that differ."""
    for words, names in (("misses", table.keys() - state), ("has no place here for", state.keys() - table)):
        if names:
            shown = ", ".join(sorted(names)[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
            raise UserError(f"{what} {words} {shown}: give a complete, unchanged V-JEPA checkpoint")
    ours = {table[name]: value for name, value in state.items()}
    fused = {name.replace("#0", "") for name in ours if "#0" in name}
    for name in sorted(fused):
        before, _, last = name.rpartition(".")
        ours[name] = torch.cat([ours.pop(f"{before}#{part}.{last}") for part in range(3)])
    return ours


def to_hf(
    encoder: Mapping[str, Tensor], predictor: Mapping[str, Tensor] | None = None, mask_tokens: int = 10
) -> dict[str, Tensor]:
    """Our state dicts under the names of transformers' VJEPA2Model.

    For an encoder with ``rope: vjepa2`` and a predictor with the same: transformers has no other. Every mask
    token becomes the predictor's one, for transformers predicts with the second.
    """
    both = {"encoder.": _back(encoder, hf_encoder(depth_of(encoder, "blocks")))}
    if predictor is not None:
        rest = {name: value for name, value in predictor.items() if name != "mask_token"}
        both["predictor."] = _back(rest, hf_predictor(depth_of(rest, "blocks")))
        token = predictor["mask_token"].view(1, 1, 1, -1).repeat(mask_tokens, 1, 1, 1)
        both["predictor."]["embeddings.mask_tokens"] = token
    return {prefix + name: value for prefix, state in both.items() for name, value in state.items()}


def _back(state: Mapping[str, Tensor], table: Table) -> dict[str, Tensor]:
    theirs = {}
    for name, ours in table.items():
        whole, part = re.sub(r"#\d", "", ours), re.search(r"#(\d)", ours)
        theirs[name] = state[whole].chunk(3)[int(part[1])].clone() if part else state[whole]
    return theirs


def _both(names: Table) -> Table:
    return {f"{a}.{last}": f"{b}.{last}" for a, b in names.items() for last in ("weight", "bias")}


def _blocks(prefix: str, names: Table, depth: int) -> Table:
    numbered = {f"{prefix}.{i}.{a}": f"blocks.{i}.{b}" for i in range(depth) for a, b in names.items()}
    return _both(numbered)
