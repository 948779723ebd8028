"""What every rank of test_ranks runs: three steps of tiny JEPA in fp64; writes losses, gradients, teacher.

Everything once more for each kind of targets, with every objective and an anchored predictor.

Run by hand: python -m torch.distributed.run --nproc-per-node 2 tests/ranks_worker.py OUT.pt
"""

import sys
from contextlib import nullcontext

import torch

from vjepa_distill.backbones.vjepa import VideoViT
from vjepa_distill.distributed import all_mean, process_group, wrap
from vjepa_distill.modules.heads import Predictor, Projector
from vjepa_distill.modules.standardise import Standardiser
from vjepa_distill.objectives.context import Context
from vjepa_distill.objectives.dynamics import Dynamics
from vjepa_distill.objectives.retain import Retain
from vjepa_distill.objectives.sigreg import SIGReg
from vjepa_distill.objectives.temporal import Eventually, Now, Soon
from vjepa_distill.protocols import Batch, Timeline
from vjepa_distill.stages.jepa import Jepa
from vjepa_distill.stages.targets import Other
from vjepa_distill.training.optim import make_optimizer, precision, set_rate
from vjepa_distill.training.step import train_step

ROWS = 4
VIDEOS = torch.tensor([1, 2, 1, 3])
KINDS = ["ema", "frozen", "student", "other"]
WEIGHTS = {"now": 1.0, "soon": 1.0, "eventually": 0.25, "context": 0.5, "dynamics": 0.5, "sigreg": 0.5}
WEIGHTS |= {"moments": 0.5, "retain": 0.5}


def build():
    torch.manual_seed(0)
    timeline = Timeline(1, 1, 2)
    student = VideoViT(2, 24, 2, 2.0, (2, 4, 4))
    objectives = {
        "now": Now(24, timeline, short=(3, 0.15), long=(2, 0.5)),
        "soon": Soon(24, timeline),
        "eventually": Eventually(24, timeline, queue=6, heads=2),
    }
    return Jepa(student, Predictor(24, 12, 1, 2), objectives, timeline, lambda step: 0.8).double()


def sharper(kind):
    """Every objective and the anchor, for one kind of targets."""
    torch.manual_seed(0)
    timeline, width = Timeline(2, 1, 1), 16 if kind == "other" else 24
    student = VideoViT(2, 24, 2, 2.0, (2, 4, 4))
    masks = {"short": (3, 0.15), "long": (2, 0.5), "target_dim": width}
    objectives = {
        "now": Now(24, timeline, **masks),
        "soon": Soon(24, timeline),
        "context": Context(24, timeline, layers=[24, 24], **masks),
        "dynamics": Dynamics(24, timeline, (1, 2), weighting=2.0, target_dim=width),
        "moments": Dynamics(24, timeline, of="tubelets", distance="cosine", target_dim=width),
        "retain": Retain(24, timeline, parts=True, **masks),
        "sigreg": SIGReg(24, timeline, directions=16, rows=8),
    }
    anchor = "anomaly" if kind == "frozen" else "kernel"
    predictor = Predictor(24, 12, 1, 2, anchor=anchor, target_dim=width, cells=(3, 4))
    other = Other(VideoViT(1, 16, 2, 2.0, (2, 4, 4)), Standardiser(16), Projector(24, 16))
    given = {"kind": "frozen", "other": other} if kind == "other" else {"kind": kind}
    return Jepa(student, predictor, objectives, timeline, lambda _: 0.8, "prefix", **given).double()


def unasked():
    """No objective asks the predictor."""
    stage = sharper("frozen")
    kept = {name: stage.objectives[name] for name in ("dynamics", "retain")}
    return Jepa(stage.student, stage.predictor, kept, stage.timeline, lambda _: 0.8, kind="frozen").double()


def batch(step, rank, world, part=0, parts=1):
    """This rank's rows of the whole batch of a step (a part of them when accumulating)."""
    clip = torch.rand(ROWS, 3, 8, 12, 16, generator=torch.Generator().manual_seed(step), dtype=torch.float64)
    size = ROWS // world // parts
    first = (part * world + rank) * size
    rows = slice(first, first + size)
    return Batch(clip[rows], torch.arange(ROWS)[rows] + ROWS * step, VIDEOS[rows] + 10 * step)


def run(ranks, accumulate=1, stage=None):
    stage = stage or build()
    forward = wrap(stage, "cpu")
    optimizer = make_optimizer(stage, (0.9, 0.95), 0.04, decay_all=False)
    set_rate(optimizer, 1e-2)
    how = precision("fp32", torch.device("cpu"))
    weights, losses, first = {name: WEIGHTS[name] for name in stage.objectives}, [], {}
    for step in range(3):
        batches = [batch(step, ranks.rank, ranks.world, part, accumulate) for part in range(accumulate)]
        done = train_step(forward, stage, optimizer, how.scaler, batches, weights, 1.0, nullcontext, step)
        losses.append({name: float(all_mean(value)) for name, value in done.losses.items()})
        if step == 0:
            first = {n: p.grad.clone() for n, p in stage.named_parameters() if p.requires_grad}
    return {"losses": losses, "gradients": first, "state": stage.state_dict()}


if __name__ == "__main__":
    torch.set_num_threads(1)
    with process_group("cpu") as ranks:
        result = {"tri-temporal": run(ranks), "unasked": run(ranks, stage=unasked())}
        result |= {kind: run(ranks, stage=sharper(kind)) for kind in KINDS}
        if ranks.rank == 0:
            torch.save(result, sys.argv[1])
