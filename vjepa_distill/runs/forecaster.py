"""The world model of a run of stage 2: written beside its encoders, and made callable again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vjepa_distill.errors import Gone, UserError, brief
from vjepa_distill.modules.heads import OutcomeHead, Predictor, Projector
from vjepa_distill.modules.standardise import Standardiser
from vjepa_distill.protocols import Timeline
from vjepa_distill.runs import encoders, exports, videos
from vjepa_distill.runs.usual import measure
from vjepa_distill.settings import Component, JepaConfig
from vjepa_distill.stages.forecast import Forecaster
from vjepa_distill.stages.jepa import Jepa
from vjepa_distill.stages.targets import Other

PREDICTOR, OUTCOME = "predictor.safetensors", "outcome.safetensors"


def export_forecaster(
    folder: Path | str, stage: Jepa, config: JepaConfig, record: Mapping[str, Any], data: videos.Videos
) -> None:
    """Writes ``predictor.safetensors``, and ``outcome.safetensors`` if there is a head of EVENTUALLY.

    Beside the predictor lie the standardiser and the head that targets of another encoder need, and what was
    measured on held-out videos (training videos where there are none): the bridge of ``rollout`` and the
    usual errors of ``surprise``. record: as of the encoders beside it.
    """
    folder, mode, head = Path(folder), stage.training, outcome_of(stage)
    forecaster = Forecaster(stage, config.data.num_frames, head)
    forecaster.to(next(stage.student.parameters()).device).eval()
    made = {**record, **shape_of(stage, config), "usual": measure(forecaster, config, data)}
    exports.export_backbone(folder / PREDICTOR, parts_of(forecaster), made)
    if head is not None:
        exports.export_backbone(folder / OUTCOME, head, {**record, "outcome": settings_of(head)})
    stage.train(mode)


def shape_of(stage: Jepa, config: JepaConfig) -> dict[str, Any]:
    """What builds a predictor, and says whose tokens it foretells, for the metadata."""
    dim, target_dim = stage.student.embed_dim, stage.predictor.out.out_features
    taught, head = config.targets.other, stage.head
    return {
        "predictor": {"dim": dim, **vars(config.predictor), "target_dim": target_dim},
        "timeline": list(stage.timeline),
        "tubelet": config.tubelet,
        "grid": list(stage.student.grid(*config.data.clip)),
        "targets": vars(config.targets),
        "teacher": _taught(taught, stage.teacher) if taught else None,
        "head": head.record if isinstance(head, Projector) else None,
        "teacher_context": config.teacher_context,
        "normalise_target": config.normalise_target,
    }


def _taught(component: Component, teacher: Any) -> dict[str, Any]:
    """Where the encoder whose tokens are foretold is to be had, and by what it is known again."""
    name = component.name if exports.locate(component.name) is None else str(Path(component.name).absolute())
    return {"name": name, "options": component.options, "weights": exports.fingerprint(teacher)}


def parts_of(forecaster: Forecaster) -> nn.ModuleDict:
    """All that a run's folder holds nowhere else, by name."""
    stage = forecaster.stage
    parts: dict[str, Any] = {"predictor": stage.predictor, "bridge": forecaster.bridge}
    if stage.other:
        parts["standardiser"] = stage.standardisers["targets"]
        parts |= {"head": stage.head} if stage.head else {}
    return nn.ModuleDict(parts)


def outcome_of(stage: Jepa) -> OutcomeHead | None:
    """The head of the objective called eventually, else of the first that has one."""
    heads: dict[str, Any] = {name: getattr(term, "head", None) for name, term in stage.objectives.items()}
    found = {name: head for name, head in heads.items() if isinstance(head, OutcomeHead)}
    return found.get("eventually", next(iter(found.values()), None))


def settings_of(head: OutcomeHead) -> dict[str, Any]:
    """What builds a head of its shape."""
    queries, dim = head.queries.shape
    target = head.out.out_features if isinstance(head.out, nn.Linear) else dim
    return {"dim": dim, "queries": queries, "heads": head.attention.num_heads, "target_dim": target}


def load_forecaster(run: Path | str) -> Forecaster:
    """The world model of a run folder of jepa-train, in eval mode, on the CPU.

    UserError for anything else, and for a run that an older version ended: its folder lacks the predictor.
    """
    path = located(run)
    record = exports.read_record(path)
    student: Any = exports.load_backbone(path.parent, "student")
    stage = Jepa(
        student,
        Predictor(**record["predictor"], cells=tuple(record["grid"][1:])),
        {},
        Timeline(*record["timeline"]),
        lambda step: 1.0,
        record["teacher_context"],
        record["normalise_target"],
        kind=record["targets"]["kind"],
        other=_other(record) if record["teacher"] else None,
    )
    if not stage.other and stage.kind != "student":
        stage.teacher.load_state_dict(exports.load_backbone(path.parent, "teacher").state_dict())
    usual = torch.tensor(record["usual"]["error"])
    forecaster = Forecaster(stage, record["clip"]["num_frames"], _outcome(path), usual=usual)
    exports.fill(parts_of(forecaster), path)
    # What took a gradient still may: torch folds products of such weights in another way, to other last bits.
    return forecaster.eval()


def check_frames(model: Forecaster, num_frames: int, run: Path | str) -> None:
    """UserError for clips that are no longer those of the run."""
    if num_frames != model.frames:
        raise UserError(
            f"{run} foretells clips of {model.frames} frames, and here they have {num_frames} "
            "(data.num_frames): leave that out, and compare runs of equal clips"
        )


def located(run: Path | str) -> Path:
    """The file of the predictor in a run folder; UserError where there is none."""
    path = exports.locate(run)
    if path is None:
        raise UserError(f"{run} is no run folder: give one that jepa-train wrote")
    record, beside = exports.read_record(path), path.with_name(PREDICTOR)
    if record.get("stage") != "jepa":
        raise UserError(
            f"{run} foretells nothing: it is a run of {record.get('stage')}, give one of jepa-train"
        )
    if not beside.is_file():
        raise UserError(
            f"{path.parent} holds no {PREDICTOR}, written at the end of a run (not by older versions): type "
            f"vjepa-distill jepa-train --out {path.parent} --resume"
        )
    return beside


def _outcome(path: Path) -> OutcomeHead | None:
    beside = path.with_name(OUTCOME)
    if not beside.is_file():
        return None
    return exports.fill(OutcomeHead(**exports.read_record(beside)["outcome"]), beside)


def _other(record: Mapping[str, Any]) -> Other:
    """The encoder whose tokens were foretold; one that is not to be had says so when it is asked."""
    made, dim = record["teacher"], record["predictor"]["target_dim"]
    try:
        teacher: Any = encoders.build(Component(made["name"], made["options"]))
        if exports.fingerprint(teacher) != made["weights"]:
            teacher = Absent(
                dim, f"{made['name']} has other weights now than those whose tokens were foretold"
            )
    except (UserError, OSError) as problem:
        why = brief(problem, 300)
        teacher = Absent(dim, f"{made['name']}, whose tokens were foretold, cannot be had: {why}")
    head = Projector(**record["head"]) if record["head"] else None
    return Other(teacher, Standardiser(dim, record["targets"]["standardise"]), head)


class Absent(nn.Module):
    """In the place of an encoder that is not there: what needs no target works without it."""

    def __init__(self, embed_dim: int, why: str) -> None:
        super().__init__()
        self.embed_dim, self.why = embed_dim, why

    def grid(self, T: int, H: int, W: int) -> Any:
        """Raises Gone, with the reason."""
        raise Gone(self.why)
