"""Pictures that lie in the page itself: strips of frames, of cells in colour, of masks and errors."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

CELL = 128
"""Pixels of the longer side of a frame in a strip, at most."""
GAP = 4


@dataclass(frozen=True)
class Picture:
    """One picture: its data, its size in pixels, and what it shows in words."""

    source: str
    width: int
    height: int
    words: str
    label: str = ""


def strip(frames: np.ndarray, words: str, label: str = "") -> Picture:
    """Frames uint8 [n, H, W, 3] side by side, the gaps clear on light as on dark. Lossy, as a camera is."""
    return _encoded(_joined([_small(frame) for frame in frames]), words, label, lossless=False)


def cells(colours: np.ndarray, like: np.ndarray, words: str, label: str = "") -> Picture:
    """Cells uint8 [n, h, w, 3], each as large as it is in the frames `like` [n, H, W, 3]; exact colours."""
    height, width = _small(like[0]).shape[:2]
    return _encoded(_joined([grown(cell, height, width) for cell in colours]), words, label, True)


def errors(
    heat: np.ndarray, frames: np.ndarray, words: str, label: str = "", at: Sequence[int] = (), of: int = 0
) -> Picture:
    """Cells in colour uint8 [n, h, w, 3] over the frames [n, H, W, 3], which are left in grey beneath.

    at: the column of every frame, `of` so many, where the others stay empty.
    """
    shown = []
    for cell, frame in zip(heat, frames, strict=True):
        small = _small(frame)
        grey = small.mean(axis=-1, keepdims=True)
        shown.append(0.72 * grown(cell, *small.shape[:2]) + 0.28 * grey)
    tiles = [np.round(one).astype(np.uint8) for one in shown]
    return _encoded(_joined(tiles, at, of), words, label, lossless=False)


def masked(frames: np.ndarray, hidden: np.ndarray, words: str, label: str = "") -> Picture:
    """Frames uint8 [n, H, W, 3] whose hidden cells, bool [n, h, w], are hatched in grey."""
    shown = []
    for frame, cover in zip(frames, hidden, strict=True):
        small = _small(frame)
        height, width = small.shape[:2]
        down, across = np.mgrid[:height, :width]
        hatch = np.where((down + across) // 4 % 2, 118, 148)[..., None]
        shut = grown(cover, height, width)[..., None]
        shown.append(np.where(shut, 0.12 * small + 0.88 * hatch, small).round().astype(np.uint8))
    return _encoded(_joined(shown), words, label, lossless=False)


def grown(cell: np.ndarray, height: int, width: int) -> np.ndarray:
    """Cells [h, w, ...] as pixels [height, width, ...]: every pixel is that of the cell it lies in."""
    h, w = cell.shape[:2]
    return cell[np.arange(height) * h // height][:, np.arange(width) * w // width]


def _small(frame: np.ndarray) -> np.ndarray:
    """A frame of at most CELL pixels a side."""
    height, width = frame.shape[:2]
    scale = CELL / max(height, width)
    if scale >= 1:
        return frame
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.LANCZOS))


def _joined(tiles: list[np.ndarray], at: Sequence[int] = (), of: int = 0) -> np.ndarray:
    """uint8 RGBA [H, W, 4], clear where no tile lies."""
    height, width = tiles[0].shape[:2]
    whole = np.zeros((height, (of or len(tiles)) * (width + GAP) - GAP, 4), np.uint8)
    for place, tile in zip(at or range(len(tiles)), tiles, strict=True):
        left = place * (width + GAP)
        whole[:, left : left + width, :3] = tile
        whole[:, left : left + width, 3] = 255
    return whole


def _encoded(pixels: np.ndarray, words: str, label: str, lossless: bool) -> Picture:
    """WebP, which keeps the clear gaps: small for what a camera saw, exact where colours speak."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "WEBP", quality=80, lossless=lossless, method=3)
    data = base64.b64encode(file.getvalue()).decode()
    return Picture(f"data:image/webp;base64,{data}", pixels.shape[1], pixels.shape[0], words, label)
