"""A setting outside its bounds is refused by the name it is typed with: each shape of bound, each field."""

import pytest

from vjepa_distill import UserError
from vjepa_distill.settings import Collapse, Data, Ema, Head, JepaConfig, Optimizer, PredictorConfig

WRONG = [
    (Data, "data.num_frames", 0, "give a number above 0"),
    (Data, "data.timeout", -1.0, "give a number above 0"),
    (Data, "data.world_videos", 0, "give a number above 0"),
    (Data, "data.heldout", 1.0, "give a share of at least 0 and below 1"),
    (Data, "data.flip", 1.5, "give a share from 0 to 1"),
    (Data, "data.max_bad", -0.1, "give a share from 0 to 1"),
    (Data, "data.scale", [0.9, 0.1], "give [low, high] with 0 < low <= high <= 1"),
    (Data, "data.scale", [0.5, 2.0], "give [low, high] with 0 < low <= high <= 1"),
    (Data, "data.aspect", [0.0, 1.0], "give [low, high] with 0 < low <= high"),
    (Data, "data.heldout_clips", -1, "give 0 or more"),
    (Data, "data.workers", -1, "give 0 or more"),
    (Optimizer, "optimizer.lr", 0.0, "give a number above 0"),
    (Optimizer, "optimizer.lr_batch", -256, "give a number of clips, or null"),
    (Optimizer, "optimizer.clip", 0.0, "give a number above 0, or null"),
    (Optimizer, "optimizer.student", -1.0, "give 0 or more"),
    (Optimizer, "optimizer.weight_decay", -1.0, "give 0 or more"),
    (Optimizer, "optimizer.warmup", -0.1, "give 0 or more"),
    (Optimizer, "optimizer.betas", [0.9, 1.0], "give two shares of at least 0 and below 1"),
    (Optimizer, "optimizer.final", 2.0, "give a share from 0 to 1"),
    (Head, "head.hidden", 0, "give a number above 0, or null"),
    (PredictorConfig, "predictor.width", 0, "give a number above 0"),
    (PredictorConfig, "predictor.depth", -1, "give 0 or more"),
    (PredictorConfig, "predictor.heads", 0, "give a number above 0, or null"),
    (Collapse, "collapse.warn", 0, "give a number above 0"),
    (Collapse, "collapse.stop", -1, "give 0 or more"),
    (JepaConfig, "steps", 0, "give a number above 0"),
    (JepaConfig, "keep", -1, "give 0 or more"),
    (JepaConfig, "threads", 0, "give a number above 0, or null"),
]


@pytest.mark.parametrize(("kind", "name", "value", "words"), WRONG, ids=lambda part: str(part))
def test_what_is_out_of_bounds_is_refused_by_name(kind, name, value, words):
    with pytest.raises(UserError) as refused:
        kind(**{name.rpartition(".")[2]: value}, **({"out": "x"} if kind is JepaConfig else {}))
    assert str(refused.value) == f"{name}={value}: {words}"


def test_what_lies_on_a_bound_is_taken():
    Data(scale=(1.0, 1.0), aspect=(1.0, 1.0), heldout=0.0, flip=1.0, max_bad=1.0, workers=0)
    Optimizer(lr_batch=None, clip=None, betas=(0.0, 0.0), final=1.0, warmup=0.0)
    Ema(half_life=0.0)  # the student itself
    Ema(half_life=None, momentum=(0.998, 1.0))
    with pytest.raises(UserError, match=r"ema.momentum=\[0.9, 1.5\]: give two shares from 0 to 1"):
        Ema(half_life=None, momentum=(0.9, 1.5))
