"""decord by name: fast and unmaintained; every file is checked beforehand, because decord does not."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np

from vjepa_distill.data.decoders.pyav import PyAV
from vjepa_distill.errors import UserError
from vjepa_distill.protocols import DecodeError, VideoInfo

SAFE = (".mp4", ".m4v", ".mov", ".mkv", ".webm")
"""In AVI and MPEG-TS decord returns wrong frames without an error."""


class Decord:
    """Linux on x86-64 and Windows only.

    On stream-copied cuts (`ffmpeg -ss ... -c copy`) decord 0.6.0 hangs or repeats frames: a scan with
    PyAV finds the decodable frames, and a file is bad where decord counts others.
    """

    name = "decord"

    def __init__(self) -> None:
        try:
            import decord
        except ImportError as error:
            raise UserError(
                "data.decoder = decord, and the package decord is not here: pip install decord "
                "(Linux x86-64 and Windows only), or type --data.decoder pyav"
            ) from error
        self.version = decord.__version__

    def scan(self, path: str) -> VideoInfo:
        """PyAV's account of the file, where decord's packet count agrees with it."""
        if not path.lower().endswith(SAFE):
            raise DecodeError(
                f"decord reads wrong frames from {os.path.splitext(path)[1]} files: use pyav for it"
            )
        info = PyAV().scan(path)
        counted = len(_open(path))
        if counted != info.frames:
            raise DecodeError(
                f"decord counts {counted} frames where {info.frames} can be decoded: it would read wrong ones"
            )
        return info

    def read(self, path: str, indices: Sequence[int], info: VideoInfo) -> np.ndarray:
        """uint8 RGB [N, H, W, 3]; decord applies the rotation itself."""
        reader = _open(path)
        if len(reader) != info.frames:
            raise DecodeError(
                f"decord counts {len(reader)} frames, the index says {info.frames}: has the file changed?"
            )
        try:
            frames = reader.get_batch(list(indices)).asnumpy()
        except Exception as error:  # its errors are a plain class of its own, made at run time
            raise DecodeError(_line(error)) from error
        if frames.shape[1:3] != (info.height, info.width):
            raise DecodeError(
                f"decord shows {frames.shape[2]}x{frames.shape[1]}, the index {info.width}x{info.height}"
            )
        return frames


def _open(path: str):
    """One reader a call: idle readers grow by hundreds of MB."""
    import decord

    try:
        return decord.VideoReader(path, ctx=decord.cpu(0), num_threads=1)
    except Exception as error:
        raise DecodeError(_line(error)) from error


def _line(error: Exception) -> str:
    """decord's messages are stack traces; the first line is the reason."""
    return f"decord: {str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__}"
