"""torchcodec by name, in its exact mode: needs the system's FFmpeg, so it is probed by decoding."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence

import numpy as np

from vjepa_distill.data.decoders.pyav import PyAV
from vjepa_distill.errors import UserError
from vjepa_distill.protocols import DecodeError, VideoInfo

SAFE = (".mp4", ".m4v", ".mov", ".mkv", ".webm")
"""In AVI its frames are off by two, silently; MPEG-TS is an error."""


class TorchCodec:
    """Exact mode on one thread. A scan with PyAV finds the decodable frames; both must count alike."""

    name = "torchcodec"

    def __init__(self) -> None:
        try:
            import torchcodec

            _probe()
        except (ImportError, RuntimeError, OSError) as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise UserError(
                f"data.decoder = torchcodec cannot decode here ({reason}): install the torchcodec made for "
                "your torch, and the system's FFmpeg, or type --data.decoder pyav"
            ) from error
        self.version = torchcodec.__version__

    def scan(self, path: str) -> VideoInfo:
        """PyAV's account of the file, where torchcodec's own scan counts as many frames."""
        if not path.lower().endswith(SAFE):
            raise DecodeError(
                f"torchcodec reads wrong frames from {os.path.splitext(path)[1]} files: use pyav for it"
            )
        info = PyAV().scan(path)
        counted = len(_open(path))
        if counted != info.frames:
            raise DecodeError(f"torchcodec counts {counted} frames where {info.frames} can be decoded")
        return info

    def read(self, path: str, indices: Sequence[int], info: VideoInfo) -> np.ndarray:
        """uint8 RGB [N, H, W, 3]; torchcodec applies the rotation itself."""
        reader = _open(path)
        try:
            frames = reader.get_frames_at(list(indices)).data.numpy()
        except (RuntimeError, IndexError) as error:
            raise DecodeError(f"torchcodec: {error}") from error
        if frames.shape[1:3] != (info.height, info.width):
            raise DecodeError(
                f"torchcodec shows {frames.shape[2]}x{frames.shape[1]}, the index {info.width}x{info.height}"
            )
        return frames


def _open(path: str | bytes):
    from torchcodec.decoders import VideoDecoder

    try:
        return VideoDecoder(path, dimension_order="NHWC", num_ffmpeg_threads=1, seek_mode="exact")
    except (RuntimeError, ValueError) as error:
        raise DecodeError(f"torchcodec: {error}") from error


def _probe() -> None:
    """Decode two small frames: `import torchcodec` succeeds without the libraries it decodes with."""
    from vjepa_distill.data.world import write_video

    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "probe.mp4")
        write_video(path, np.zeros((2, 64, 64, 3), np.uint8), fps=10)
        try:
            _open(path).get_frames_at([0, 1])
        except DecodeError as error:
            raise RuntimeError(str(error)) from error
