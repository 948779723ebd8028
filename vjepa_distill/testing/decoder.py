"""The contract of a decoder, on a small video made for it: every frame is the one that was asked for."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np

from vjepa_distill.protocols import DecodeError, Decoder
from vjepa_distill.testing.errors import ContractError, require

FRAMES, FPS, WIDTH, HEIGHT = 24, 12, 96, 64


def check_decoder(factory: Callable[[], Decoder]) -> None:
    """Raise ContractError unless it reads the right frames of an H.264 mp4 and refuses what is no video."""
    decoder = factory()
    for word in ("name", "version"):
        came = getattr(decoder, word, None)
        require(isinstance(came, str) and came != "", f"a {word}", repr(came), "a run's record stores it")
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "grey.mp4")
        write_grey(path)
        check_frames(decoder, path)
        for name, content in {"text.mp4": b"not a video\n" * 99, "empty.mp4": b""}.items():
            bad = Path(folder) / name
            bad.write_bytes(content)
            check_refusal(decoder, str(bad))
        check_refusal(decoder, str(Path(folder) / "absent.mp4"))


def write_grey(path: str) -> None:
    """A video whose frame i is of grey 10 * i, brighter by 12 in its left half; a keyframe every eighth."""
    import av

    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"g": "8", "crf": "4"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.time_base = Fraction(1, FPS)
        for number in range(FRAMES):
            picture = av.VideoFrame.from_ndarray(grey(number), format="rgb24")
            picture.pts = number
            container.mux(stream.encode(picture))
        container.mux(stream.encode())


def grey(number: int) -> np.ndarray:
    picture = np.full((HEIGHT, WIDTH, 3), 10 * number, dtype=np.uint8)
    picture[:, : WIDTH // 2] += 12
    return picture


def check_frames(decoder: Decoder, path: str) -> None:
    """What the scan says is so, and frames come in the order asked, repeats included."""
    info = decoder.scan(path)
    found = (info.frames, info.width, info.height, len(info.times))
    require(
        found == (FRAMES, WIDTH, HEIGHT, FRAMES),
        f"scan to find (frames, width, height, times) = {(FRAMES, WIDTH, HEIGHT, FRAMES)}",
        str(found),
        "count the frames that will be shown, not what the container claims",
    )
    require(
        abs(info.fps - FPS) < 0.5 and bool((np.diff(info.times) > 0).all()),
        f"{FPS} frames a second at ascending times",
        f"{info.fps:.2f} at {info.times[:4]}…",
        "take presentation times, in seconds",
    )
    asked = [23, 0, 9, 9, 8, 1]
    frames = decoder.read(path, asked, info)
    require(
        isinstance(frames, np.ndarray)
        and frames.dtype == np.uint8
        and frames.shape == (len(asked), HEIGHT, WIDTH, 3),
        f"uint8 RGB of shape {(len(asked), HEIGHT, WIDTH, 3)}",
        f"{getattr(frames, 'dtype', type(frames))} of shape {getattr(frames, 'shape', '?')}",
        "return frames as [N, H, W, 3]",
    )
    wrong = [
        i for i, frame in zip(asked, frames, strict=True) if np.abs(frame.astype(int) - grey(i)).mean() > 4
    ]
    require(
        not wrong, f"frames {asked} in that order", f"other pictures for {wrong}", "seek by presentation time"
    )


def check_refusal(decoder: Decoder, path: str) -> None:
    """A file that is no video raises DecodeError with words, so that it can be left out by name."""
    name = Path(path).name
    try:
        decoder.scan(path)
    except DecodeError as error:
        require(
            bool(str(error)), "a reason in the DecodeError", "an empty one", f"say what is wrong with {name}"
        )
    except Exception as error:
        raise ContractError(f"DecodeError for {name}", repr(error), "translate it") from error
    else:
        raise ContractError(f"DecodeError for {name}", "a scan without complaint", "raise it in scan")
