"""What sits on top of an encoder: masked-token predictor, outcome embedding, distillation head."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vjepa_distill.errors import UserError
from vjepa_distill.modules.anchor import Anchor, AnomalyAnchor
from vjepa_distill.modules.transformer import Block, init_weights, rotary_angles, sincos3d
from vjepa_distill.tokens import Grid, coordinates, take


def heads_for(dim: int) -> int:
    """The number of attention heads for a width: its largest divisor up to one head per 64 channels."""
    return next(n for n in range(max(1, dim // 64), 0, -1) if dim % n == 0)


class Predictor(nn.Module):
    """Predicts target tokens at asked places from the context tokens (V-JEPA, Bardes et al. 2024).

    Context tokens get their position again; ``context_positions=False`` leaves it out, as the scaffold does.
    The scaffold also puts the asked position through a Linear layer of its own (``project_positions=True``).
    With ``rope`` ("rotary", or "vjepa2" for V-JEPA 2's weights) queries and keys are turned by the position
    of every token instead.

    With ``anchor="kernel"`` it predicts the change from a smoothed copy of what was seen, and at first none;
    with ``anchor="anomaly"`` of how it differs from what is usual in every cell.
    target_dim: width of the tokens that are predicted, where it is not the context's.
    cells: (h, w) of the grid, for which an anchor of anomalies keeps what is usual.
    """

    def __init__(
        self,
        dim: int,
        width: int = 384,
        depth: int = 12,
        heads: int | None = None,
        context_positions: bool = True,
        project_positions: bool = False,
        rope: str | None = None,
        anchor: Literal["kernel", "anomaly", "none"] = "none",
        target_dim: int | None = None,
        cells: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        if rope and (project_positions or not context_positions):
            raise UserError(
                f"predictor.rope={rope} turns every token by its position: leave predictor.context_positions "
                "at true and predictor.project_positions at false, or predictor.rope at null"
            )
        heads = heads or heads_for(width)
        self.width, self.context_positions = width, context_positions
        self.rope, self.head_dim = rope, width // heads
        self.position_dim = dim if project_positions else width
        self.embed = nn.Linear(dim, width)
        self.embed_position = nn.Linear(dim, width) if project_positions else nn.Identity()
        self.mask_token = nn.Parameter(torch.empty(width))
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.out = nn.Linear(width, target_dim or dim)
        self.apply(init_weights)
        nn.init.trunc_normal_(self.mask_token, std=0.02)
        self.anchor = anchor_of(anchor, target_dim or dim, cells)
        if self.anchor:
            nn.init.zeros_(self.out.weight)
        self.checkpointing = False

    def set_checkpointing(self, on: bool) -> None:
        """Recompute each block's activations in the backward pass instead of keeping them."""
        self.checkpointing = on

    def forward(
        self, context: Tensor, keep: Tensor, query: Tensor, grid: Grid, copy: Tensor | None = None
    ) -> Tensor:
        """context [B, K, D] at places keep [B, K]; asked places query [B, M]. Returns [B, M, target_dim].

        copy [B, K, target_dim]: what the anchor copies, tokens of the targets' space at the places in keep.
        """
        seen, asked, angles = self.place(self.embed(context), keep, query, grid)
        x = torch.cat([seen, asked.to(seen.dtype)], dim=1)
        for block in self.blocks:
            x = (
                checkpoint(block, x, angles, use_reentrant=False)
                if self.checkpointing and self.training
                else block(x, angles)
            )
        change = self.out(self.norm(x[:, seen.shape[1] :]))
        if self.anchor is None:
            return change
        if copy is None:
            raise ValueError("an anchored predictor needs the seen tokens in the targets' space: give copy")
        return self.anchor(copy, keep, query, grid) + change

    def place(
        self, seen: Tensor, keep: Tensor, query: Tensor, grid: Grid
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Context tokens and mask tokens at their positions, and the angles of both for every block."""
        if self.rope:
            angles = rotary_angles(coordinates(grid, seen.device), self.head_dim, self.rope)
            # In the parameters' precision, autocast or not, as in the encoder.
            return (
                seen.to(self.mask_token.dtype),
                self.mask_token.expand(*query.shape, -1),
                angles[torch.cat([keep, query], dim=1)],
            )
        table = sincos3d(grid, self.position_dim, seen.device, self.mask_token.dtype)
        places = table.expand(len(seen), -1, -1)
        if self.context_positions:
            seen = seen + self.embed_position(take(places, keep))
        return seen, self.mask_token + self.embed_position(take(places, query)), None


def anchor_of(kind: str, dim: int, cells: tuple[int, int] | None) -> Anchor | None:
    """The anchor of a predictor by its name."""
    if kind == "anomaly":
        if cells is None:
            raise ValueError("an anchor of anomalies keeps what is usual in every cell: give cells=(h, w)")
        return AnomalyAnchor(dim, cells)
    return Anchor(dim) if kind == "kernel" else None


class OutcomeHead(nn.Module):
    """One embedding of how things will turn out, read from NOW by learned queries: [B, K, D] to [B, D'].

    target_dim: D', where it is not D.
    """

    def __init__(
        self, dim: int, queries: int = 8, heads: int | None = None, target_dim: int | None = None
    ) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.empty(queries, dim))
        self.attention = nn.MultiheadAttention(dim, heads or heads_for(dim), batch_first=True)
        self.norm = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(nn.Linear(dim, dim), nn.GELU(), nn.Linear(dim, dim))
        self.out = nn.Identity() if target_dim in (None, dim) else nn.Linear(dim, target_dim)
        nn.init.trunc_normal_(self.queries, std=0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        queries = self.queries.to(tokens.dtype).expand(len(tokens), -1, -1)
        x = self.norm(self.attention(queries, tokens, tokens, need_weights=False)[0])
        return self.out((x + self.mlp(x)).mean(dim=1))


class Projector(nn.Module):
    """The distillation head, from the student's width to the teacher's: [B, L, D] to [B, L, D']."""

    def __init__(
        self, dim: int, out: int, kind: Literal["mlp", "linear"] = "mlp", hidden: int | None = None
    ) -> None:
        super().__init__()
        self.record = {"dim": dim, "out": out, "kind": kind, "hidden": hidden}
        inner = hidden or max(dim, out) * 2
        layers = (
            [nn.Linear(dim, out)]
            if kind == "linear"
            else [nn.Linear(dim, inner), nn.GELU(), nn.Linear(inner, out)]
        )
        self.layers = nn.Sequential(nn.LayerNorm(dim), *layers)

    def with_last(self, change: Callable[[nn.Linear], nn.Linear]) -> Projector:
        """A copy whose last Linear layer is changed: how standardised targets are folded in at export."""
        other = copy.deepcopy(self)
        last = other.layers[-1]
        assert isinstance(last, nn.Linear), "both kinds end in one"
        other.layers[-1] = change(last)
        return other

    def forward(self, tokens: Tensor) -> Tensor:
        return self.layers(tokens)
