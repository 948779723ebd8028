"""Taking the wanted frames out of a PyAV container: by time with seeks, or by counting from its start."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from vjepa_distill.protocols import DecodeError, VideoInfo


class Sheet:
    """The frames asked for, filled in any order; one conversion a distinct frame, straight into its place."""

    def __init__(self, indices: Sequence[int], info: VideoInfo) -> None:
        self.info = info
        self.rows: dict[int, list[int]] = {}
        for row, index in enumerate(indices):
            if not 0 <= index < info.frames:
                raise DecodeError(f"frame {index} was asked of a video of {info.frames} frames")
            self.rows.setdefault(int(index), []).append(row)
        self.missing = set(self.rows)
        self.size = turned(info.width, info.height, info.rotation)
        self.pixels = np.empty((len(indices), self.size[1], self.size[0], 3), np.uint8)
        self.reformatter = VideoReformatter()

    def put(self, index: int, frame: av.VideoFrame) -> None:
        """DecodeError for a damaged frame or one of another size."""
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


def turned(width: int, height: int, rotation: int) -> tuple[int, int]:
    """The size of a picture after a rotation by a multiple of 90 degrees."""
    return (height, width) if rotation % 180 else (width, height)


def read_by_time(container: Any, stream: Any, sheet: Sheet) -> None:
    """Fill the sheet by seeking; where the file does not do as the index says, frames stay missing."""
    # Exact: a double holds any tick of any video.
    base = float(stream.time_base)
    index_of = {round(sheet.info.times[index] / base): index for index in sheet.rows}
    packets = Packets(container, stream, keep=index_of)
    for target in sorted(index_of):
        if index_of[target] not in sheet.missing:
            continue
        for frame in packets.until(target):
            if frame.pts in index_of:
                sheet.put(index_of[frame.pts], frame)
        if index_of[target] in sheet.missing:
            return


def read_by_count(container: Any, stream: Any, sheet: Sheet) -> None:
    """Fill the sheet from the start of the file, counting frames as the scan did."""
    for index, frame in enumerate(container.decode(stream)):
        if index in sheet.missing:
            sheet.put(index, frame)
        if not sheet.missing:
            return


class Packets:
    """A place in the file, and the shortest way to decode forward from it."""

    def __init__(self, container: Any, stream: Any, keep: dict[int, int]) -> None:
        self.container, self.stream, self.keep = container, stream, keep
        self.context = stream.codec_context
        # A frame that no other refers to need not be decoded to be passed over. H.264 says exactly which (30
        # clips: same pixels, 9.3 -> 6.9 ms); other codecs' notion is looser, and they are decoded whole.
        self.skips = self.context.name == "h264"
        self.dts = self.trusted = -(2**62)
        self.source: Iterable[Any] = container.demux(stream)

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
                if frame.pts is not None and frame.pts >= self.trusted:
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
        packets = self.container.demux(self.stream)
        first = next(packets)
        # Frames shown before the keyframe but stored after it may lean on what was jumped over.
        self.trusted = first.pts if first.pts is not None and first.is_keyframe else 2**62
        self.source = chain([first], packets)
