"""The runs, one paragraph each: ``distill.py``, ``jepa.py``, ``encode.py``.

In come settings; two desks turn them into parts, ``videos.py`` and ``encoders.py``, which also tries every
encoder before a run begins; out go a run folder (``folder.py``) and its exports (``exports.py``). A run
composes, and must never hold a loss, a training step or a decoder of its own.
"""
