"""V-JEPA's official state dicts as their repositories lay them out, and their mathematics, written once more.

Names and shapes are those of facebookresearch/jepa (V-JEPA 1) and facebookresearch/vjepa2 (2 and 2.1).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

MEAN = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1, 1)
STD = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1, 1)
Make = Callable[..., Tensor]
State = dict[str, Tensor]


def random_tensor(*shape: int) -> Tensor:
    return torch.randn(*shape) * (0.2 if len(shape) > 1 else 0.1)


def weightless(*shape: int) -> Tensor:
    """A tensor of that shape with one number in memory and in a file."""
    return torch.zeros(()).expand(shape)


def linear(name: str, make: Make, *shape: int) -> State:
    return {f"{name}.weight": make(*shape), f"{name}.bias": make(shape[0])}


def norm(name: str, make: Make, width: int) -> State:
    return {f"{name}.weight": 1 + make(width), f"{name}.bias": make(width)}


def blocks(prefix: str, make: Make, depth: int, width: int, hidden: int) -> State:
    state: State = {}
    for i in range(depth):
        here = f"{prefix}.{i}"
        state |= norm(f"{here}.norm1", make, width) | norm(f"{here}.norm2", make, width)
        state |= linear(f"{here}.attn.qkv", make, 3 * width, width)
        state |= linear(f"{here}.attn.proj", make, width, width)
        state |= linear(f"{here}.mlp.fc1", make, hidden, width)
        state |= linear(f"{here}.mlp.fc2", make, width, hidden)
    return state


def encoder(
    version: str, make: Make, depth: int, width: int, hidden: int, patch: int, table: Tensor | None = None
) -> State:
    state = linear("patch_embed.proj", make, width, 3, 2, patch, patch)
    state |= blocks("blocks", make, depth, width, hidden)
    if table is not None:
        state["pos_embed"] = table
    if version != "2.1":
        return state | norm("norm", make, width)
    state |= linear("patch_embed_img.proj", make, width, 3, 1, patch, patch)
    state |= {"img_mod_embed": make(1, 1, width), "video_mod_embed": make(1, 1, width)}
    for level in range(4):
        state |= norm(f"norms_block.{level}", make, width)
    return state


def predictor(
    make: Make, depth: int, dim: int, width: int, tokens: int, table: Tensor | None = None, out: int = 0
) -> State:
    state = linear("predictor_embed", make, width, dim) | norm("predictor_norm", make, width)
    state |= linear("predictor_proj", make, out or dim, width)
    state |= blocks("predictor_blocks", make, depth, width, 4 * width)
    state |= {f"mask_tokens.{i}": torch.zeros(1, 1, width) for i in range(tokens)}
    if table is not None:
        state["predictor_pos_embed"] = table
    return state


def wrapped(state: State) -> State:
    """As DDP around V-JEPA's mask wrapper names them."""
    return {f"module.backbone.{name}": value for name, value in state.items()}


def official_table(grid: tuple[int, int, int], dim: int, uniform: bool) -> Tensor:
    """V-JEPA's 3D sin-cos table [1, L, D], token by token in numpy's double precision."""
    third = int(np.ceil(dim / 6) * 2)
    widths = (third, third, third) if uniform else (dim // 2, dim // 4, dim // 4)
    rows = []
    for place in np.ndindex(*grid):
        parts = []
        for position, width in zip(place, widths, strict=True):
            angle = position / 10000 ** (np.arange(width // 2) / (width / 2))
            parts += [np.sin(angle), np.cos(angle)]
        rows.append(np.concatenate(parts)[:dim])
    return torch.from_numpy(np.stack(rows)).float()[None]


def turned(x: Tensor, places: Tensor, rope: str) -> Tensor:
    """Queries or keys [B, heads, L, d] of tokens at (t, h, w) places [B, L, 3], channel by channel."""
    dim = x.shape[-1]
    part = 2 * ((dim // 3) // 2)
    out = x.clone()
    for axis in range(3):
        position = places[..., axis].unsqueeze(1)
        for j in range(part):
            number = j % (part // 2) if rope == "vjepa2" else j // 2
            angle = position * 10000.0 ** (-number / (part / 2))
            here, other = axis * part + j, axis * part + (j + 1 if j % 2 == 0 else j - 1)
            sign = -1 if j % 2 == 0 else 1
            out[..., here] = x[..., here] * angle.cos() + sign * x[..., other] * angle.sin()
    return out


def through_blocks(
    state: State, prefix: str, x: Tensor, heads: int, places: Tensor | None, rope: str
) -> Tensor:
    depth = len([name for name in state if name.startswith(prefix) and name.endswith("norm1.weight")])
    for i in range(depth):
        get = {name.removeprefix(f"{prefix}.{i}."): v for name, v in state.items()}
        width = x.shape[-1]
        y = F.layer_norm(x, (width,), get["norm1.weight"], get["norm1.bias"], 1e-6)
        y = y @ get["attn.qkv.weight"].T + get["attn.qkv.bias"]
        q, k, v = (part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in y.split(width, dim=-1))
        if places is not None:
            q, k = turned(q, places, rope), turned(k, places, rope)
        scores = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(-1)
        y = (scores @ v).transpose(1, 2).flatten(2)
        x = x + y @ get["attn.proj.weight"].T + get["attn.proj.bias"]
        y = F.layer_norm(x, (width,), get["norm2.weight"], get["norm2.bias"], 1e-6)
        y = F.gelu(y @ get["mlp.fc1.weight"].T + get["mlp.fc1.bias"])
        x = x + y @ get["mlp.fc2.weight"].T + get["mlp.fc2.bias"]
    return x


def encode(
    version: str,
    state: State,
    clip: Tensor,
    heads: int,
    trained: tuple[int, int, int] = (0, 0, 0),
    keep: Tensor | None = None,
) -> Tensor:
    """The tokens [B, K or L, D] of a clip [B, 3, T, H, W], as the official code computes them."""
    kernel = state["patch_embed.proj.weight"]
    x = F.conv3d((clip - MEAN) / STD, kernel, state["patch_embed.proj.bias"], stride=kernel.shape[2:])
    grid = x.shape[2:]
    x = x.flatten(2).transpose(1, 2)
    places = torch.tensor(list(np.ndindex(*grid))).float().expand(len(x), -1, -1)
    final = "norm"
    if version == "2.1":
        x, final = x + state["video_mod_embed"], "norms_block.3"
        side = 256 // kernel.shape[-1]
        spread = [(side - 1) / max(n - 1, 1) for n in grid[1:]]
        places = places * torch.tensor([1.0, *spread])
    if version == "1":
        x = x + sized(state["pos_embed"], trained, tuple(grid))
    if keep is not None:
        x = torch.stack([row[index] for row, index in zip(x, keep, strict=True)])
        places = torch.stack([row[index] for row, index in zip(places, keep, strict=True)])
    rope = "vjepa2" if version == "2" else "rotary"
    x = through_blocks(state, "blocks", x, heads, None if version == "1" else places, rope)
    return F.layer_norm(x, x.shape[-1:], state[f"{final}.weight"], state[f"{final}.bias"], 1e-6)


def sized(table: Tensor, trained: tuple[int, int, int], grid: tuple[int, ...]) -> Tensor:
    """V-JEPA 1's table for another size: its first tubelets, or trilinear interpolation."""
    if trained[1:] == grid[1:] and grid[0] <= trained[0]:
        return table[:, : grid[0] * grid[1] * grid[2]]
    volume = table.unflatten(1, trained).permute(0, 4, 1, 2, 3)
    scale = tuple(new / old for new, old in zip(grid, trained, strict=True))
    return F.interpolate(volume, scale_factor=scale, mode="trilinear").flatten(2).transpose(1, 2)


def predict(
    state: State,
    context: Tensor,
    keep: Tensor,
    query: Tensor,
    grid: tuple[int, int, int],
    heads: int,
    mask: int,
) -> Tensor:
    """The predictor of V-JEPA 1 (it holds a table) or 2 on context [B, K, D] at places keep."""
    seen = context @ state["predictor_embed.weight"].T + state["predictor_embed.bias"]
    asked = state[f"mask_tokens.{mask}"].expand(*query.shape, -1)
    index, places = torch.cat([keep, query], 1), None
    if "predictor_pos_embed" in state:
        table = state["predictor_pos_embed"][0]
        seen, asked = seen + table[keep], asked + table[query]
    else:
        places = torch.tensor(list(np.ndindex(*grid))).float()[index]
    x = through_blocks(state, "predictor_blocks", torch.cat([seen, asked], 1), heads, places, "vjepa2")
    x = F.layer_norm(x, x.shape[-1:], state["predictor_norm.weight"], state["predictor_norm.bias"], 1e-6)[
        :, keep.shape[1] :
    ]
    return x @ state["predictor_proj.weight"].T + state["predictor_proj.bias"]
