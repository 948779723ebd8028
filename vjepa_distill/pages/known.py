"""The numbers of the log that this version knows: a title for each, and how to read it."""

from __future__ import annotations

from typing import NamedTuple


class Known(NamedTuple):
    """What is said of a number of the log."""

    title: str
    words: str


LEARNING = {
    "cosine": Known("Agreement with the teacher", "Cosine of held-out tokens to the teacher's."),
    "r2": Known("R² of the teacher's tokens", "On held-out videos; 0 is what the mean token reaches."),
    "score": Known("Score", "By which the best step is chosen."),
    "soon/skill": Known("SOON: skill", "1 − loss / loss of repeating the last NOW tubelet. Above 0 is gain."),
    "soon/skill_linear": Known(
        "SOON: skill beside a line", "1 − loss / loss of a straight line through the last two tubelets."
    ),
    "now/skill": Known(
        "NOW: skill", "1 − loss / loss of the mean token of the batch's other clips. Above 0 is gain."
    ),
    "eventually/retrieval": Known(
        "EVENTUALLY: retrieval", "How often the right far future is found among the candidates."
    ),
    "direction": Known(
        "Direction of play", "How often a held-out clip is told from itself reversed by its mean token."
    ),
    "dynamics/skill": Known("Dynamics: skill", "1 − loss / loss of saying that nothing changes."),
    "loss": Known("Loss: all", "The weighted sum."),
    "match": Known("Loss: match", "Distance of student tokens to the teacher's."),
    "soon": Known("Loss: SOON", "Of the tokens of the near future."),
    "now": Known("Loss: NOW", "Of the hidden tokens."),
    "eventually": Known("Loss: EVENTUALLY", "Of finding the right far future."),
    "context": Known("Loss: context", "Of the tokens that are seen."),
    "dynamics": Known("Loss: dynamics", "Of the change from tubelet to tubelet."),
    "retain": Known("Loss: retain", "Of the tokens that the student started from, read from those of now."),
    "sigreg": Known("Loss: SIGReg", "How far the tokens are from an even spread in all directions."),
}
HEALTH = {
    "rank": Known("Effective rank", "RankMe of the target tokens. A fall towards 1 is collapse."),
    "rank_kept": Known("Rank that is kept", "As a share of that at the first evaluation."),
    "std": Known("Spread", "Standard deviation of the target tokens, per dimension."),
    "mean_share": Known("Share of the mean", "How much of the tokens is one constant vector."),
}
MACHINE = {
    "norm": Known("Gradient norm", "Before clipping."),
    "lr": Known("Learning rate", ""),
    "s/step": Known("Seconds a step", ""),
    "wait": Known("Waiting for video", "Share of the time."),
}
FLOORS = {"_floor": "mean token", "_shuffled": "right tokens, wrong places", "_chance": "chance"}
