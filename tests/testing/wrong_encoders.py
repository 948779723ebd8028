"""Encoders that are wrong in one way each, beside the one check that must find it out."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from vjepa_distill.backbones.vjepa import VideoViT
from vjepa_distill.tokens import Grid, take


class Sound(VideoViT):
    def __init__(self) -> None:
        super().__init__(depth=2, width=48, heads=2)


class GathersAfterMixing(Sound):
    def forward(self, clip: Tensor, keep: Tensor | None = None) -> Tensor:
        tokens = super().forward(clip)
        return tokens if keep is None else take(tokens, keep)


class TimeFastest(Sound):
    def forward(self, clip: Tensor, keep: Tensor | None = None) -> Tensor:
        grid = self.grid(*clip.shape[2:])
        order = torch.arange(grid.length).view(grid).permute(1, 2, 0).flatten()
        return super().forward(clip, order.expand(len(clip), -1) if keep is None else order[keep])


class ColumnsBeforeRows(Sound):
    def forward(self, clip: Tensor, keep: Tensor | None = None) -> Tensor:
        grid = self.grid(*clip.shape[2:])
        order = torch.arange(grid.length).view(grid).transpose(1, 2).flatten()
        return super().forward(clip, order.expand(len(clip), -1) if keep is None else order[keep])


class SwapsRowsAndColumns(Sound):
    def grid(self, T: int, H: int, W: int) -> Grid:
        t, h, w = super().grid(T, H, W)
        return Grid(t, w, h)

    def place(self, x: Tensor, grid: Grid, keep: Tensor | None) -> tuple[Tensor, Tensor | None]:
        return super().place(x, Grid(grid.t, grid.w, grid.h), keep)


class GuessesASquareGrid(Sound):
    def grid(self, T: int, H: int, W: int) -> Grid:
        t, h, w = super().grid(T, H, W)
        side = int((h * w) ** 0.5)
        return Grid(t, side, side)

    def place(self, x: Tensor, grid: Grid, keep: Tensor | None) -> tuple[Tensor, Tensor | None]:
        return x, None


class DropsOutInEval(Sound):
    def forward(self, clip: Tensor, keep: Tensor | None = None) -> Tensor:
        return nn.functional.dropout(super().forward(clip, keep), 0.1, training=True)


class NormalisesInPlace(Sound):
    def forward(self, clip: Tensor, keep: Tensor | None = None) -> Tensor:
        return super().forward(clip.mul_(1.0000001).add_(0.001), keep)


class HasAHeadNobodyUses(Sound):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(48, 10)


class SharesStateWithItsCopy(Sound):
    def __deepcopy__(self, memo: dict[int, Any]) -> SharesStateWithItsCopy:
        return self


class PositionsAfterKeeping(Sound):
    def place(self, x: Tensor, grid: Grid, keep: Tensor | None) -> tuple[Tensor, Tensor | None]:
        if keep is None:
            return super().place(x, grid, None)
        return super().place(x, grid, torch.arange(keep.shape[1]).expand(len(x), -1))


class CentresOverTheBatch(Sound):
    def forward(self, clip: Tensor, keep: Tensor | None = None) -> Tensor:
        tokens = super().forward(clip, keep)
        return tokens - 0.1 * tokens.mean(0, keepdim=True)


class NormalisesOverTheBatch(Sound):
    def __init__(self) -> None:
        super().__init__()
        self.batch_norm = nn.BatchNorm1d(48, track_running_stats=False)

    def forward(self, clip: Tensor, keep: Tensor | None = None) -> Tensor:
        return self.batch_norm(super().forward(clip, keep).transpose(1, 2)).transpose(1, 2)


class NeedsTwoRows(Sound):
    def forward(self, clip: Tensor, keep: Tensor | None = None) -> Tensor:
        one, two = clip.split(1)
        keeps = (None, None) if keep is None else keep.split(1)
        return torch.cat([super().forward(one, keeps[0]), super().forward(two, keeps[1])])


class HidesStateFromStateDict(Sound):
    def __init__(self) -> None:
        super().__init__()
        self.direction = torch.randn(48)

    def forward(self, clip: Tensor, keep: Tensor | None = None) -> Tensor:
        return super().forward(clip, keep) + self.direction


class OverflowsInBf16(Sound):
    def forward(self, clip: Tensor, keep: Tensor | None = None) -> Tensor:
        tokens = super().forward(clip, keep)
        low = torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16
        return tokens / 0 if low else tokens


class OverflowsInFp16(Sound):
    """The final norm brings back what is far above 65504 in between."""

    def __init__(self) -> None:
        super().__init__()
        self.amplify = nn.Linear(48, 48)
        self.amplify.weight = nn.Parameter(1e6 * torch.eye(48))
        self.last = nn.LayerNorm(48)

    def forward(self, clip: Tensor, keep: Tensor | None = None) -> Tensor:
        return self.last(self.amplify(super().forward(clip, keep)))


class RefusesWithoutWords(Sound):
    def grid(self, T: int, H: int, W: int) -> Grid:
        if H % 16 or W % 16 or T % 2:
            raise ValueError
        return super().grid(T, H, W)


class PromisesOddSizes(Sound):
    def grid(self, T: int, H: int, W: int) -> Grid:
        return Grid(-(-T // 2), -(-H // 16), -(-W // 16))


class SaysAnotherWidth(Sound):
    def __init__(self) -> None:
        super().__init__()
        self.embed_dim = 32

    def place(self, x: Tensor, grid: Grid, keep: Tensor | None) -> tuple[Tensor, Tensor | None]:
        return x, None


class IgnoresItsWeights(Sound):
    """The values come from weights that are always the same; only the gradient is that of its own."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(5)
            self.unregistered = [Sound().requires_grad_(False)]

    def forward(self, clip: Tensor, keep: Tensor | None = None) -> Tensor:
        tokens = super().forward(clip, keep)
        return self.unregistered[0](clip, keep) + (tokens - tokens.detach())


class GivesATuple(Sound):
    def forward(self, clip: Tensor, keep: Tensor | None = None) -> tuple[Tensor]:  # type: ignore[override]
        return (super().forward(clip, keep),)


class GivesAPlainGrid(Sound):
    def grid(self, T: int, H: int, W: int) -> tuple[int, ...]:  # type: ignore[override]
        return tuple(super().grid(T, H, W))


class IgnoresKeep(Sound):
    def forward(self, clip: Tensor, keep: Tensor | None = None) -> Tensor:
        return super().forward(clip)


class KeepsStateInItsClass(Sound):
    """An average of training in a class attribute, where deepcopy does not find it."""

    seen: dict[str, float] = {}  # noqa: RUF012

    def forward(self, clip: Tensor, keep: Tensor | None = None) -> Tensor:
        if self.training:
            self.seen["mean"] = self.seen.get("mean", 0.0) + float(clip.mean())
        return super().forward(clip, keep) * (1 + self.seen.get("mean", 0.0))


SHARED = nn.Linear(48, 48)


class SharesAPartWithOthers(Sound):
    def __init__(self) -> None:
        super().__init__()
        self.part = SHARED

    def forward(self, clip: Tensor, keep: Tensor | None = None) -> Tensor:
        tokens = super().forward(clip, keep)
        return tokens + self.part(tokens)


class StopsInForward(Sound):
    def forward(self, clip: Tensor, keep: Tensor | None = None) -> Tensor:
        return super().forward(clip, keep) * (1 // 0)


class BranchesOnValues(Sound):
    def forward(self, clip: Tensor, keep: Tensor | None = None) -> Tensor:
        return super().forward(clip, keep) if clip.sum() > -1 else super().forward(clip, keep) * 2


WRONG: dict[type[nn.Module], str] = {
    GathersAfterMixing: "no leak from hidden pixels",
    TimeFastest: "tokens in (t, h, w) order",
    ColumnsBeforeRows: "tokens in (t, h, w) order",
    SwapsRowsAndColumns: "tokens in (t, h, w) order",
    GuessesASquareGrid: "shape and grid agree",
    SaysAnotherWidth: "shape and grid agree",
    DropsOutInEval: "deterministic in eval",
    NormalisesInPlace: "deterministic in eval",
    HasAHeadNobodyUses: "gradient reaches every parameter",
    SharesStateWithItsCopy: "deepcopy is independent",
    KeepsStateInItsClass: "deepcopy is independent",
    SharesAPartWithOthers: "state loads into a fresh one",
    GivesATuple: "members",
    GivesAPlainGrid: "members",
    IgnoresKeep: "shape and grid agree",
    PositionsAfterKeeping: "keep-all equals full",
    CentresOverTheBatch: "rows are independent",
    IgnoresItsWeights: "state_dict round-trips",
    HidesStateFromStateDict: "state loads into a fresh one",
    NormalisesOverTheBatch: "rows are independent",
    NeedsTwoRows: "any batch size",
    OverflowsInFp16: "fits into fp16",
    OverflowsInBf16: "bf16 is finite and near",
    RefusesWithoutWords: "odd sizes refused in words",
    PromisesOddSizes: "odd sizes refused in words",
}
