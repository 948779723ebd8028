"""The default video reader: PyAV, exact by presentation time, in one thread, and it says when it cannot."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from vjepa_distill.protocols import DecodeError, VideoInfo

SEEKABLE = ("mp4", "matroska")
"""Containers whose presentation times survive a seek. AVI gave 14 wrong frames of 16 after one, MPEG-TS
likewise: everything else is read from its start, counting."""


class PyAV:
    """Reads any video FFmpeg knows. Non-square pixels are left as they are stored; rotation is applied."""

    name = "pyav"
    version = av.__version__

    def scan(self, path: str) -> VideoInfo:
        """Decode the whole file once and keep what was shown: a container's own count is never trusted."""
        with _opened(path) as (container, stream):
            frames = [_Shown(frame) for frame in container.decode(stream)]
            return _info(frames, stream, _seekable(container))

    def read(self, path: str, indices: Sequence[int], info: VideoInfo) -> np.ndarray:
        """uint8 RGB [N, H, W, 3]. Seeks where the container allows it; if that misses, reads on from 0."""
        sheet = _Sheet(indices, info)
        with _opened(path) as (container, stream):
            if _seekable(container):
                _read_by_time(container, stream, sheet, info)
        if sheet.missing:
            with _opened(path) as (container, stream):
                _read_by_count(container, stream, sheet)
        if sheet.missing:
            raise DecodeError(
                f"frame {min(sheet.missing)} of {info.frames} did not come out: has the file changed?"
            )
        return sheet.upright()


class _Shown:
    """What a scan keeps of a frame."""

    def __init__(self, frame: av.VideoFrame) -> None:
        if frame.is_corrupt:
            raise DecodeError("a frame is damaged")
        self.pts, self.size, self.rotation = frame.pts, (frame.width, frame.height), _upright(frame.rotation)


class _Sheet:
    """The frames asked for, filled in any order; one conversion a distinct frame, straight into its place."""

    def __init__(self, indices: Sequence[int], info: VideoInfo) -> None:
        self.info = info
        self.rows: dict[int, list[int]] = {}
        for row, index in enumerate(indices):
            if not 0 <= index < info.frames:
                raise DecodeError(f"frame {index} was asked of a video of {info.frames} frames")
            self.rows.setdefault(int(index), []).append(row)
        self.missing = set(self.rows)
        self.size = _turned(info.width, info.height, info.rotation)
        self.pixels = np.empty((len(indices), self.size[1], self.size[0], 3), np.uint8)
        self.reformatter = VideoReformatter()

    def put(self, index: int, frame: av.VideoFrame) -> None:
        if frame.is_corrupt:
            raise DecodeError(f"frame {index} is damaged")
        if (frame.width, frame.height) != self.size:
            raise DecodeError(f"frame {index} is {frame.width}x{frame.height}, the index says {self.size}")
        first, *others = self.rows[index]
        # threads=1: FFmpeg's own pool costs 0.5 ms a frame at 320x180, more than decoding five frames does.
        plane = self.reformatter.reformat(frame, format="rgb24", threads=1).planes[0]
        width, height = self.size
        lines = np.frombuffer(memoryview(plane), np.uint8).reshape(height, plane.line_size)
        self.pixels[first] = lines[:, : 3 * width].reshape(height, width, 3)
        self.pixels[others] = self.pixels[first]
        self.missing.discard(index)

    def upright(self) -> np.ndarray:
        """Rotation is a tag that PyAV leaves to us: counter-clockwise quarter turns."""
        return np.rot90(self.pixels, self.info.rotation // 90, axes=(1, 2))


def _read_by_time(container: Any, stream: Any, sheet: _Sheet, info: VideoInfo) -> None:
    """Fill the sheet by seeking; where the file does not do as the index says, frames stay missing."""
    index_of = {_ticks(info.times[index], stream): index for index in sheet.rows}
    packets = _Packets(container, stream, keep=index_of)
    for target in sorted(index_of):
        if index_of[target] not in sheet.missing:
            continue
        for frame in packets.until(target):
            if frame.pts in index_of:
                sheet.put(index_of[frame.pts], frame)
        if index_of[target] in sheet.missing:
            return


class _Packets:
    """A place in the file, and the shortest way to decode forward from it."""

    def __init__(self, container: Any, stream: Any, keep: dict[int, int]) -> None:
        self.container, self.stream, self.keep = container, stream, keep
        self.context = stream.codec_context
        # A frame that no other refers to need not be decoded to be passed over. H.264 says exactly which (30
        # clips: same pixels, 9.3 -> 6.9 ms); other codecs' notion is looser, and they are decoded whole.
        self.skips = self.context.name == "h264"
        self.dts = -(2**62)
        self.trusted = -(2**62)
        self.source = iter(container.demux(stream))

    def until(self, target: int) -> Iterator[av.VideoFrame]:
        """Frames in the order shown, up to the one at the time `target`, as far as they can be trusted."""
        self._jump(target)
        for packet in self.source:
            self.dts = packet.dts if packet.dts is not None else self.dts
            if self.skips:
                wanted = packet.pts is None or packet.pts in self.keep
                self.context.skip_frame = "DEFAULT" if wanted else "NONREF"
            done = False
            for frame in packet.decode():
                if frame.pts is None or frame.pts < self.trusted:
                    continue
                yield frame
                done = done or frame.pts >= target
            if done:
                return

    def _jump(self, target: int) -> None:
        """Seek if a keyframe lies between here and the target, else going on is shorter."""
        entries = self.stream.index_entries
        key = entries.search_timestamp(target) if len(entries) else -1
        if key < 0 or entries[key].timestamp <= max(self.dts, entries[0].timestamp):
            return
        self.container.seek(target, stream=self.stream)
        self.source = iter(self.container.demux(self.stream))
        first = next(self.source)
        # Frames shown before the keyframe but stored after it may lean on what was jumped over.
        self.trusted = first.pts if first.pts is not None and first.is_keyframe else 2**62
        self.dts = first.dts if first.dts is not None else self.dts
        self.context.skip_frame = "DEFAULT"
        self.source = _chain(first, self.source)


def _chain(first: Any, rest: Iterator[Any]) -> Iterator[Any]:
    yield first
    yield from rest


def _read_by_count(container: Any, stream: Any, sheet: _Sheet) -> None:
    """Fill the sheet from the start of the file, counting frames as the scan did."""
    for index, frame in enumerate(container.decode(stream)):
        if index in sheet.missing:
            sheet.put(index, frame)
        if not sheet.missing:
            return


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


def _info(frames: list[_Shown], stream: Any, seekable: bool) -> VideoInfo:
    if not frames:
        raise DecodeError("no frame can be decoded")
    sizes = {frame.size for frame in frames}
    if len(sizes) > 1:
        raise DecodeError(f"the picture changes its size: {sorted(sizes)}")
    times = _times(frames, stream, seekable)
    rate = (len(times) - 1) / (times[-1] - times[0]) if len(times) > 1 else float(stream.average_rate or 1)
    rotation = frames[0].rotation
    width, height = _turned(*frames[0].size, rotation)
    return VideoInfo(len(frames), rate, width, height, rotation, stream.codec_context.name, times)


def _times(frames: Sequence[_Shown], stream: Any, seekable: bool) -> tuple[float, ...]:
    """Seconds of every frame. Where frames are counted anyway, missing or disordered times become even."""
    ticks = [frame.pts for frame in frames if frame.pts is not None]
    if len(ticks) == len(frames) and all(a < b for a, b in pairwise(ticks)):
        return tuple(float(tick * stream.time_base) for tick in ticks)
    if seekable:
        raise DecodeError("the times of its frames do not increase")
    rate = float(stream.average_rate or stream.guessed_rate or 25)
    return tuple(index / rate for index in range(len(frames)))


def _ticks(seconds: float, stream: Any) -> int:
    """The integer time a packet carries; exact, because a double holds any tick of any video."""
    return round(seconds / float(stream.time_base))


def _seekable(container: Any) -> bool:
    return any(name in container.format.name.split(",") for name in SEEKABLE)


def _upright(degrees: int) -> int:
    """A rotation tag as 0, 90, 180 or 270 counter-clockwise; other angles are left alone."""
    return degrees % 360 if degrees % 90 == 0 else 0


def _turned(width: int, height: int, rotation: int) -> tuple[int, int]:
    return (height, width) if rotation % 180 else (width, height)
