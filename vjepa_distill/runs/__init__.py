"""The runs, one paragraph each: ``distill.py``, ``jepa.py``, ``encode.py``.

In come settings; two desks turn them into parts (``videos.py``, ``encoders.py``); out go a run folder
and its exports (``folder.py``, ``exports.py``). A run composes and must never compute: no loss, no step, no
decoding here.
"""
