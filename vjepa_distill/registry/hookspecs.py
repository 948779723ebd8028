"""The three hooks a plugin may implement; each docstring is the contract.

A plugin package declares an entry point in the group ``vjepa_distill`` that names a module; the module holds
functions marked with ``hookimpl``. The built-in families come in by the same hooks (``builtin.py``).
"""

from __future__ import annotations

from typing import Any, Protocol

import pluggy

PROJECT = "vjepa_distill"
API = 1
"""The version of these contracts. Hooks only ever gain optional arguments; a break raises this number."""

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


class Register(Protocol):
    """What a hook is handed: call it once for every name on offer."""

    def __call__(
        self, name: str, target: Any, *, summary: str = "", api: int = API, models: Any = None
    ) -> None:
        """Offer ``target`` (a callable, or a lazy ``"package.module:attribute"``) as ``name`` (family/model).

        A name that ends in ``/*`` offers a family: its target is called with the rest of the name first. Such
        a family may say by ``models``, another target, which there are: called without arguments, it returns
        their names without the family, for ``backbones list family/``.
        """


@hookspec
def register_backbones(register: Register) -> None:
    """Offer video encoders. A target called with its options returns a ``Backbone`` (``protocols.py``).

    An exported student is built again from the options alone, less ``weights`` and ``pretrained``; one whose
    shape these two decide says what else builds it in ``rebuild_options``.
    """


@hookspec
def register_objectives(register: Register) -> None:
    """Offer losses. A target called with embed_dim, timeline and its options returns an ``Objective``."""


@hookspec
def register_decoders(register: Register) -> None:
    """Offer video readers. A target called without arguments returns a ``Decoder``."""
