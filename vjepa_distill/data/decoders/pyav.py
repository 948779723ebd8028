"""The default video reader: PyAV, exact by presentation time, in one thread, and it says when it cannot."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice, pairwise
from typing import Any, NamedTuple

import av
import numpy as np

from vjepa_distill.data.decoders.frames import Sheet, read_by_count, read_by_time, turned
from vjepa_distill.protocols import DecodeError, VideoInfo

SEEKABLE = ("mp4", "matroska")
"""Containers whose presentation times survive a seek. AVI gave 14 wrong frames of 16 after one, MPEG-TS
likewise: everything else is read from its start, counting."""

EXHAUSTIVE = 5000
"""Frames up to which a scan decodes all of a file (0.1 ms each at 320x180, 3 ms at 1080p). In a longer one it
decodes both ends, and believes the packets' times in between if they were right there."""
END = 200
"""Frames decoded at the start of such a file."""


class PyAV:
    """Reads any video FFmpeg knows. Non-square pixels are left as they are stored; rotation is applied."""

    name = "pyav"
    version = av.__version__

    def scan(self, path: str) -> VideoInfo:
        """What the file shows, found by decoding it: a container's own count is never trusted."""
        promised: list[int] = []
        with _opened(path) as (container, stream):
            if _seekable(container) and stream.frames > EXHAUSTIVE:
                promised = _promised(container, stream)
        with _opened(path) as (container, stream):
            shown = _shown(container.decode(stream))
            first = list(islice(shown, END))
            if promised and [frame.pts for frame in first] == promised[: len(first)]:
                return _info([first[0]._replace(pts=pts) for pts in promised], stream, True)
            return _info([*first, *shown], stream, _seekable(container))

    def read(self, path: str, indices: Sequence[int], info: VideoInfo) -> np.ndarray:
        """uint8 RGB [N, H, W, 3]. Seeks where the container allows it; if that misses, reads on from 0."""
        sheet = Sheet(indices, info)
        with _opened(path) as (container, stream):
            if _seekable(container):
                read_by_time(container, stream, sheet)
        if sheet.missing:
            with _opened(path) as (container, stream):
                read_by_count(container, stream, sheet)
        if sheet.missing:
            raise DecodeError(
                f"frame {min(sheet.missing)} of {info.frames} did not come out: has the file changed?"
            )
        return sheet.upright()


class Shown(NamedTuple):
    """What a scan keeps of a frame."""

    pts: int | None
    size: tuple[int, int]
    rotation: int


def _shown(frames: Iterable[av.VideoFrame]) -> Iterator[Shown]:
    for frame in frames:
        if frame.is_corrupt:
            raise DecodeError("a frame is damaged")
        yield Shown(frame.pts, (frame.width, frame.height), _upright(frame.rotation))


def _promised(container: Any, stream: Any) -> list[int]:
    """The times of all packets to be shown, if decoding the last of them shows these times; else nothing."""
    # Packets before the beginning of an edit list are there to be decoded, not to be shown.
    packets = (packet for packet in container.demux(stream) if packet.size and not packet.is_discard)
    times = sorted(packet.pts for packet in packets if packet.pts is not None)
    container.seek(times[-1], stream=stream)
    last = [frame.pts for frame in _shown(container.decode(stream))]
    return times if last == times[-len(last) :] else []


@contextmanager
def _opened(path: str) -> Iterator[tuple[Any, Any]]:
    """The container and its best video stream, on one thread; whatever goes wrong becomes a DecodeError."""
    try:
        with av.open(path) as container:
            if not container.streams.video:
                raise DecodeError("no video stream")
            stream: Any = container.streams.best("video")
            stream.thread_type = "NONE"
            stream.codec_context.thread_count = 1
            yield container, stream
    except (av.FFmpegError, OSError) as error:
        raise DecodeError(error.strerror or str(error)) from error
    except (ValueError, LookupError, ArithmeticError) as error:
        raise DecodeError(f"{type(error).__name__}: {error}") from error


def _info(frames: Sequence[Shown], stream: Any, seekable: bool) -> VideoInfo:
    if not frames:
        raise DecodeError("no frame can be decoded")
    sizes = {frame.size for frame in frames}
    if len(sizes) > 1:
        raise DecodeError(f"the picture changes its size: {sorted(sizes)}")
    times = _times(frames, stream, seekable)
    rate = (len(times) - 1) / (times[-1] - times[0]) if len(times) > 1 else float(stream.average_rate or 1)
    rotation = frames[0].rotation
    width, height = turned(*frames[0].size, rotation)
    return VideoInfo(len(frames), rate, width, height, rotation, stream.codec_context.name, times)


def _times(frames: Sequence[Shown], stream: Any, seekable: bool) -> tuple[float, ...]:
    """Seconds of every frame. Where frames are counted anyway, missing or disordered times become even."""
    ticks = [frame.pts for frame in frames if frame.pts is not None]
    if len(ticks) == len(frames) and all(a < b for a, b in pairwise(ticks)):
        return tuple(float(tick * stream.time_base) for tick in ticks)
    if seekable:
        raise DecodeError("the times of its frames do not increase")
    rate = float(stream.average_rate or stream.guessed_rate or 25)
    return tuple(index / rate for index in range(len(frames)))


def _seekable(container: Any) -> bool:
    return any(name in container.format.name.split(",") for name in SEEKABLE)


def _upright(degrees: int) -> int:
    """A rotation tag as 0, 90, 180 or 270 counter-clockwise; other angles are left alone."""
    return degrees % 360 if degrees % 90 == 0 else 0
