"""Now, Soon, Eventually: the three questions a clip asks (tri-temporal JEPA)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vjepa_distill.distributed import gather, gather_with_grad, own_rows
from vjepa_distill.errors import UserError
from vjepa_distill.modules.heads import OutcomeHead
from vjepa_distill.modules.masks import Blocks, Layout, Span, short_and_long
from vjepa_distill.modules.rivals import by_tubelet, rivals
from vjepa_distill.objectives.distances import l1
from vjepa_distill.protocols import Latents, Timeline, View
from vjepa_distill.tokens import promote, take


class Now(nn.Module):
    """Predict the masked latents of the clip: half the L1 of short blocks, half that of long ones."""

    def __init__(
        self,
        embed_dim: int,
        timeline: Timeline,
        short: Sequence[float] = (8, 0.15),
        long: Sequence[float] = (2, 0.7),
        aspect: Sequence[float] = (0.75, 1.5),
        layout: Layout = "exact",
        target_dim: int | None = None,  # any: it owns no weights
    ) -> None:
        super().__init__()
        self.blocks = short_and_long(short, long, aspect, layout)

    def views(self) -> Sequence[View]:
        return self.blocks

    def forward(self, latents: Latents) -> Tensor:
        loss, floor = torch.stack([self._masked(latents, view) for view in self.blocks]).mean(dim=0)
        _note_skill(latents, "now/skill", loss, floor)
        return loss

    def _masked(self, latents: Latents, view: Blocks) -> Tensor:
        """The loss of a view, and that of saying the mean token of the other clips everywhere: [2]."""
        query = latents.splits[view].rest
        target = take(latents.target, query)
        rival = mean_of_others(latents.target).unsqueeze(1)
        return torch.stack([l1(latents.predict(view, query), target), l1(rival, target)])


def mean_of_others(tokens: Tensor) -> Tensor:
    """For each clip of [B, L, D] the mean token of all others, which know nothing of it: [B, D].

    A clip that is alone gets its own.
    """
    means = promote(tokens).mean(dim=1)
    return (means.sum(dim=0) - means) / (len(means) - 1) if len(means) > 1 else means


class Soon(nn.Module):
    """Predict the tokens of the near future from NOW alone, L1.

    Its fair rivals know no more than NOW: persistence (the last tubelet again) and, from two tubelets on, a
    straight line through the last two, both of the teacher's tokens of NOW alone.
    """

    def __init__(self, embed_dim: int, timeline: Timeline, target_dim: int | None = None) -> None:
        super().__init__()
        self.now = Span(0, timeline.now)
        self.soon = Span(timeline.now, timeline.now + timeline.soon)

    def views(self) -> Sequence[View]:
        return (self.now,)

    def forward(self, latents: Latents) -> Tensor:
        query = self.soon.indices(latents.grid, len(latents.target), latents.target.device)
        target = take(latents.target, query)
        predicted = latents.predict(self.now, query)
        loss = l1(predicted, target)
        if latents.alone is not None:
            self._note_skills(latents, predicted.detach(), target)
        return loss

    def _note_skills(self, latents: Latents, predicted: Tensor, target: Tensor) -> None:
        """Skill against each rival, over all of SOON and by the number of tubelets ahead."""
        assert latents.alone is not None
        seen, cells = latents.alone(self.now), latents.grid.cells
        errors = by_tubelet(predicted, target, cells)
        for rival, guess in rivals(seen, self.soon.stop - self.soon.start, cells).items():
            floors = by_tubelet(guess, target, cells)
            name = "soon/skill" if rival == "persistence" else f"soon/skill_{rival}"
            _note_skill(latents, name, errors.mean(), floors.mean())
            for ahead, (error, floor) in enumerate(zip(errors, floors, strict=True), start=1):
                _note_skill(latents, f"{name}/{ahead}", error, floor)


class Eventually(nn.Module):
    """Align an outcome read from NOW with the mean far-future teacher token: InfoNCE (van den Oord 2018).

    Rows of all ranks are candidates, and so is a queue of past targets (He et al. 2020), so that small
    batches train; a clip of the same video is never a negative.

    Args:
        temperature: divides the cosine similarities.
        symmetric: also find the right prediction for every target (in the batch alone: past ones are stale).
        queue: how many past targets are kept as negatives.
        queries, heads: of the outcome head.
        target_dim: width of the targets, where it is not embed_dim.
    """

    queue: Tensor
    queue_video: Tensor

    def __init__(
        self,
        embed_dim: int,
        timeline: Timeline,
        temperature: float = 0.2,
        symmetric: bool = True,
        queue: int = 256,
        queries: int = 8,
        heads: int | None = None,
        target_dim: int | None = None,
    ) -> None:
        super().__init__()
        self.temperature, self.symmetric = temperature, symmetric
        self.now = Span(0, timeline.now)
        self.far = Span(timeline.now + timeline.soon, sum(timeline))
        self.head = OutcomeHead(embed_dim, queries, heads, target_dim)
        self.register_buffer("queue", torch.zeros(queue, target_dim or embed_dim))
        self.register_buffer("queue_video", torch.full((queue,), -1))
        self._fresh: list[tuple[Tensor, Tensor]] = []

    def views(self) -> Sequence[View]:
        return (self.now,)

    def forward(self, latents: Latents) -> Tensor:
        far = self.far.indices(latents.grid, len(latents.target), latents.target.device)
        target = F.normalize(promote(take(latents.target, far)).mean(dim=1), dim=-1)
        z = F.normalize(promote(self.head(latents.seen[self.now])), dim=-1)
        targets, videos = self._all(target), self._all(latents.video)
        if self.training:
            self._fresh.append((targets, videos))
        if self.training and len(targets) == 1 and len(self.queue) == 0:
            raise UserError(
                "EVENTUALLY has one clip a step and no queue: its loss is 0 and teaches nothing. Type "
                "--objectives.eventually.options.queue 256, a larger --batch_size, "
                "or --objectives.eventually.weight 0"
            )
        filled = self.queue_video >= 0
        candidates = torch.cat([targets, self.queue[filled].to(targets.dtype)])
        loss = self._contrast(
            z, candidates, latents.video, torch.cat([videos, self.queue_video[filled]]), latents
        )
        if self.symmetric:
            predictions = gather_with_grad(z) if self.training else z
            loss = (loss + self._contrast(target, predictions, latents.video, videos)) / 2
        return loss

    def _all(self, rows: Tensor) -> Tensor:
        """The rows of all ranks in training; held-out clips, in any number, each rank scores on its own."""
        return gather(rows) if self.training else rows

    def _contrast(
        self, z: Tensor, candidates: Tensor, video: Tensor, owners: Tensor, latents: Latents | None = None
    ) -> Tensor:
        """Cross-entropy of finding each row's own candidate, other clips of its video left out."""
        logits = z @ candidates.T / self.temperature
        label = own_rows(len(z), z.device) if self.training else torch.arange(len(z), device=z.device)
        rival = video[:, None] != owners
        rival[torch.arange(len(z), device=z.device), label] = True
        logits = logits.masked_fill(~rival, -torch.inf)
        if latents is not None:
            chance = (1 / rival.sum(dim=1)).mean()
            latents.note("eventually/retrieval", _found_first(logits.detach(), label))
            latents.note("eventually/chance", chance)
        return F.cross_entropy(logits, label)

    @torch.no_grad()
    def after_step(self) -> None:
        """Put the targets of this update at the head of the queue; the oldest fall out."""
        for targets, videos in self._fresh:
            size = len(self.queue)
            self.queue.copy_(torch.cat([targets.to(self.queue.dtype), self.queue])[:size])
            self.queue_video.copy_(torch.cat([videos, self.queue_video])[:size])
        self.skip_step()

    def skip_step(self) -> None:
        """Forget the targets of an update that was not made."""
        self._fresh.clear()


def _found_first(logits: Tensor, label: Tensor) -> Tensor:
    """How often the label has the highest logit; a tie counts as its share: collapsed rows are at chance.

    NaN where the label's logit is none.
    """
    own = logits.gather(1, label[:, None])
    beaten = (logits > own + 1e-6).any(dim=1)
    tied = ((logits - own).abs() <= 1e-6).sum(dim=1)
    share = torch.where(beaten, 0.0, 1.0 / tied)
    return torch.where(own[:, 0].isfinite(), share, torch.nan).mean()


def _note_skill(latents: Latents, name: str, loss: Tensor, floor: Tensor) -> None:
    """Skill = 1 - loss / loss of the trivial rival: 0 is no better than it, 1 is perfect."""
    latents.note(name, 1 - loss.detach() / floor.detach().clamp_min(torch.finfo(floor.dtype).tiny))
