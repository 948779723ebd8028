"""Who offers what: encoders, objectives and decoders by name, from plugins that all come in by one door.

In come the hooks of installed packages (``hookspecs.py`` is their contract, ``discovery.py`` loads them,
``builtin.py`` is ours among them); out go the things that a name stands for, built (``lookup.py``). It must
never import torch, nor name an implementation except in the literals of the built-in plugin.
"""

from vjepa_distill.registry.lookup import (
    catalogue,
    changed,
    check_options,
    create,
    create_backbone,
    missing,
    models,
    options_of,
    plugins,
    provenance,
    resolve,
)
from vjepa_distill.registry.offers import KINDS

__all__ = [
    "KINDS",
    "catalogue",
    "changed",
    "check_options",
    "create",
    "create_backbone",
    "missing",
    "models",
    "options_of",
    "plugins",
    "provenance",
    "resolve",
]
