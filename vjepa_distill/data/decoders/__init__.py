"""The readers of video files, one library each; ``frames.py`` has what is the same in all of them.

In come a path and the indices of frames; out go uint8 RGB frames ``[N, H, W, 3]``, or a ``DecodeError``
with its reason. A decoder must never know about clips, crops or batches.
"""
