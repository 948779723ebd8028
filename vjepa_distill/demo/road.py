"""The road itself: every step of the demo, in order, from a folder's name to the table."""

from __future__ import annotations

import functools
import json
import shutil
import timeit
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from vjepa_distill import registry
from vjepa_distill.data.clips import VideoClips
from vjepa_distill.data.loader import Loader
from vjepa_distill.demo import words
from vjepa_distill.demo.teacher import Steps, train_teacher
from vjepa_distill.errors import UserError
from vjepa_distill.files import write_atomic
from vjepa_distill.measures.probe import probe_columns
from vjepa_distill.measures.table import read_labels
from vjepa_distill.runs import distill as stage1
from vjepa_distill.runs import encoders, exports, videos
from vjepa_distill.runs import jepa as stage2
from vjepa_distill.runs.encode import encode
from vjepa_distill.runs.report import report
from vjepa_distill.runs.shared import guard_of
from vjepa_distill.settings import (
    Component,
    Data,
    DistillConfig,
    JepaConfig,
    Optimizer,
    PredictorConfig,
    Spans,
    Targets,
    Term,
)
from vjepa_distill.training.optim import precision

FORMAT = 1
MARK = "demo.json"
# The world's own split: of every five videos the first is `test`, and its number ends in 0 or 5.
FILES = {"train": "videos/*[1-46-9].mp4", "test": "videos/*[05].mp4"}
KINDS = (torch.float32, torch.bfloat16)
COLUMNS = {"shape": ("shape",), "velocity": ("vx", "vy"), "outcome": ("outcome",)}


@dataclass(frozen=True)
class Plan:
    """How large everything is: on two cores, minutes."""

    videos: int = 1500
    frames: int = 16
    size: int = 64
    batch: int = 32
    teacher: Component = field(default_factory=lambda: Component("conv/small", {"width": 32}))
    teacher_steps: Steps = field(default_factory=lambda: Steps(moments=200, clips=150))
    student: Component = field(default_factory=lambda: Component("ruffle/tiny", {"depth": 4}))
    distill_steps: int = 160
    jepa_steps: int = 320
    jepa_batch: int = 16

    def data(self, folder: Path, part: Literal["train", "test"]) -> Data:
        """The clips of a part of the world. Crops are mild: where a shape goes is what is asked for."""
        cut: dict[str, Any] = {"num_frames": self.frames, "size": self.size, "scale": (0.7, 1.0)}
        index = str(folder / f"index-{part}.json")
        return Data(root=str(folder / "world"), files=[FILES[part]], index=index, **cut)


def demo(out: str, plan: Plan | None = None) -> int:
    """Do it all under the folder `out`, print the table, keep it as table.json beside report.html; returns 0.

    Replaces what an earlier demo left there. UserError where the folder is something else, or the plugin of
    the student is missing.
    """
    plan, folder = plan or Plan(), Path(out)
    check_student(plan.student.name)
    claim(folder, plan)
    write_world(folder, plan)
    teach(folder, plan)
    distilled = distill(folder, plan)
    taught = jepa_train(folder, plan, distilled)
    scores = {
        "random weights": score(folder, plan, distilled, "random", random_weights=True),
        "after distill": score(folder, plan, distilled, "distill"),
        "after jepa-train": score(folder, plan, taught, "jepa"),
        "the teacher": score(folder, plan, folder / "teacher" / "student.safetensors", "teacher"),
    }
    text = json.dumps({"format": FORMAT, "plan": asdict(plan), "scores": scores}, indent=1)
    write_atomic(folder / "table.json", lambda file: file.write(text.encode()))
    page = report([taught, distilled], folder / "report.html")
    words.show(scores, -(-plan.videos // 5), folder / "table.json", page)
    return 0


def check_student(name: str) -> None:
    """The student comes from a package of its own; without it, say how to get it."""
    if name not in registry.catalogue("backbone") and name.startswith("ruffle/"):
        raise UserError(
            f"the demo's student {name} comes from the plugin vjepa-distill-ruffle, which is not installed: "
            "type pip install -e plugins/vjepa-distill-ruffle"
        )


def claim(folder: Path, plan: Plan) -> None:
    """Empty what an earlier demo left; refuse a folder that is not one."""
    if folder.exists() and any(folder.iterdir()):
        if not (folder / MARK).is_file():
            raise UserError(f"{folder} holds something that is no demo's: give another --out")
        shutil.rmtree(folder)
    text = json.dumps({"format": FORMAT, "plan": asdict(plan)}, indent=1)
    write_atomic(folder / MARK, lambda file: file.write(text.encode()))


def write_world(folder: Path, plan: Plan) -> None:
    """root/videos/*.mp4 and root/labels.csv, as `--data.source world` writes them."""
    data = plan.data(folder, "train")
    words.heading(
        "1  A toy world of mp4 files", f"--data.source world --data.root {data.root} writes one, too"
    )
    data.source, data.world_videos = "world", plan.videos
    videos.make_world(data)


def teach(folder: Path, plan: Plan) -> None:
    """Train the teacher on the labels of the training videos; afterwards it is an encoder like any other."""
    title = "2  A teacher, told the labels of the training videos"
    words.heading(title, "(no command: vjepa_distill/demo/teacher.py)")
    data, device = plan.data(folder, "train"), encoders.device_of("auto")
    torch.manual_seed(0)
    encoder: Any = encoders.build(plan.teacher).to(device)
    loader = Loader(clips_of(data), plan.batch)
    table = read_labels(Path(data.root) / "labels.csv", ["split"])
    labels = {file: row for file, row in table.items() if row["split"] == "train"}
    how = precision(amp(), device, guard_of(amp(), device))
    train_teacher(encoder, loader, labels, plan.teacher_steps, how, device)
    record = {"stage": "supervised", "backbone": encoders.provenance_of(plan.teacher, encoder)}
    exports.export_backbone(folder / "teacher" / "student.safetensors", encoder, record)


def distill(folder: Path, plan: Plan) -> Path:
    """Stage 1: the student learns the teacher's tokens. No label is read from here on."""
    config = DistillConfig(
        student=plan.student,
        teachers={"main": Component(str(folder / "teacher"))},
        data=plan.data(folder, "train"),
        optimizer=Optimizer(lr=3e-3),
        statistics_batches=10,
        **common(folder / "distill", plan, plan.distill_steps),
    )
    words.heading("3  Stage 1: distill the teacher into a plugin's encoder", words.command(config))
    return stage1.distill(config)


def jepa_train(folder: Path, plan: Plan, start: Path) -> Path:
    """Stage 2: the student learns to foretell the tokens of where stage 1 left it."""
    now = plan.frames // 4
    config = JepaConfig(
        init=str(start),
        data=plan.data(folder, "train"),
        spans=Spans(now, now, plan.frames - 2 * now),
        predictor=PredictorConfig(width=96, depth=3, anchor="anomaly"),
        targets=Targets(kind="frozen"),
        # holds what stage 1 gave, and asks of every moment how the clip goes on: docs/results.md
        objectives={
            "retain": Term(2.0, options={"parts": True}),
            "dynamics": Term(16.0, options={"of": "tubelets", "distance": "cosine"}),
            "eventually": Term(2.0),
        },
        optimizer=Optimizer(lr=2.4e-3),
        **common(folder / "jepa", plan, plan.jepa_steps) | {"batch_size": plan.jepa_batch},
    )
    words.heading("4  Stage 2: jepa-train goes on from there", words.command(config))
    return stage2.jepa_train(config)


def common(out: Path, plan: Plan, steps: int) -> dict[str, Any]:
    """What both runs share."""
    every = {"log_every": max(1, steps // 6), "eval_every": 0, "save_every": 0}
    return {"out": str(out), "steps": steps, "batch_size": plan.batch, "amp": amp(), **every}


def score(
    folder: Path, plan: Plan, source: Path, name: str, random_weights: bool = False
) -> dict[str, dict[str, float]]:
    """Probe an encoder's features of the test videos: {column: {"score", "knn", "floor"}}."""
    data, features = plan.data(folder, "test"), folder / "features" / f"{name}.safetensors"
    labels = Path(data.root) / "labels.csv"
    encoding = words.encode_command(source, features, data, random_weights)
    words.heading(f"5  Probe: {name}", encoding, words.probe_command(features, labels, COLUMNS))
    encode(source, features, data, random_weights=random_weights, batch_size=plan.batch)
    results = probe_columns(features, labels, [part for parts in COLUMNS.values() for part in parts])
    scores = {result["column"]: result["scores"] for result in results}
    return {column: words.averaged([scores[part] for part in parts]) for column, parts in COLUMNS.items()}


def clips_of(data: Data) -> VideoClips:
    """The whole picture of every frame, as labels want it, shuffled anew every epoch."""
    decoder = videos.decoder_of(data)
    index = videos.index_of(data, decoder)
    return VideoClips(index.good, index.root, videos.recipe_of(data, train=False), decoder, 0)


@functools.cache
def amp() -> Literal["bf16", "fp32"]:
    """bf16 where matrices are multiplied faster in it: many a CPU only imitates it, slowly."""
    device = encoders.device_of("auto")
    slow, fast = (seconds(torch.ones(1024, 1024, dtype=kind, device=device)) for kind in KINDS)
    return "bf16" if fast < slow else "fp32"


def seconds(matrix: Tensor) -> float:
    """The fastest of five products."""
    return min(timeit.repeat(lambda: float((matrix @ matrix)[0, 0]), number=1, repeat=5))
