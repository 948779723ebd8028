"""V-JEPA's published weights: official .pt files of V-JEPA 1, 2 and 2.1, and transformers' form of V-JEPA 2.

In comes a file, a folder or a repository; out go tensors under our names and what they say of their model's
shape. It must never build an encoder: it fills one that is given. The form of transformers is tested
against transformers itself; the official .pt files on their key and shape lists, with random values, and
untested on the real files.
"""

from vjepa_distill.backbones.official.checkpoint import Checkpoint, read
from vjepa_distill.backbones.official.fit import component, load_into, predictor_words
from vjepa_distill.backbones.official.names import to_hf
from vjepa_distill.backbones.official.predictor import Predictor
from vjepa_distill.backbones.official.source import is_official

__all__ = [
    "Checkpoint",
    "Predictor",
    "component",
    "is_official",
    "load_into",
    "predictor_words",
    "read",
    "to_hf",
]
