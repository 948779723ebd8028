"""Every setting of a run, typed, with its constraints beside it.

In come YAML, the command line or plain dictionaries (``plain.py``); out go dataclasses that have checked
themselves (``run.py``, ``data.py`` …; each shape of
bound is in ``checks.py``). It must never import torch, nor anything of ours above ``errors``.
"""

from vjepa_distill.settings.data import Data
from vjepa_distill.settings.distill import DistillConfig, Head
from vjepa_distill.settings.jepa import Collapse, Ema, JepaConfig, PredictorConfig, Spans, Targets
from vjepa_distill.settings.optimizer import Optimizer
from vjepa_distill.settings.run import Component, Run, Term
from vjepa_distill.settings.trouble import Trouble

__all__ = [
    "Collapse",
    "Component",
    "Data",
    "DistillConfig",
    "Ema",
    "Head",
    "JepaConfig",
    "Optimizer",
    "PredictorConfig",
    "Run",
    "Spans",
    "Targets",
    "Term",
    "Trouble",
]
