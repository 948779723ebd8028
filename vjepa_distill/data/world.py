"""A toy world of real mp4 files: shapes drift over a textured ground until a wall stops them."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np

SHAPES = ("disc", "square", "triangle", "cross")
WALLS = ("left", "right", "top", "bottom")
BRIGHT = (0.55, 1.0)  # between them lies every channel of a shape's colour
COLUMNS = ("file", "shape", "x", "y", "vx", "vy", "outcome", "split")


@dataclass(frozen=True)
class Story:
    """One video: a shape starts somewhere, moves evenly, and stays at the first wall it meets."""

    shape: str
    radius: float
    """Pixels, of the disc of the same area: all shapes are equally large, so that colour says nothing."""
    turn: float
    x: float
    y: float
    vx: float
    """Pixels a frame."""
    vy: float
    arrival: float
    """Frames until the wall."""
    outcome: str
    """The wall. Neither start nor direction alone decides it, and it comes after half of the video."""

    def at(self, frame: int) -> tuple[float, float]:
        """The shape's centre."""
        moved = min(frame, self.arrival)
        return self.x + self.vx * moved, self.y + self.vy * moved


def write_world(
    root: str | Path,
    videos: int,
    seed: int,
    frames: int = 20,
    size: int = 64,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write root/videos/000000.mp4, ... (H.264) and root/labels.csv; the same seed gives the same world.

    labels.csv: file, shape, x and y (start, pixels), vx and vy (pixels a frame), outcome (the wall), split
    (every fifth video is `test`).
    """
    root = Path(root)
    (root / "videos").mkdir(parents=True, exist_ok=True)
    rows = []
    for number in range(videos):
        draw = np.random.default_rng((seed, number))
        story, name = tell(draw, frames, size), f"videos/{number:06d}.mp4"
        write_video(root / name, paint(story, draw, frames, size), fps=10)
        numbers = [f"{value:.4f}" for value in (story.x, story.y, story.vx, story.vy)]
        rows.append([name, story.shape, *numbers, story.outcome, "train" if number % 5 else "test"])
        if progress:
            progress(number + 1, videos)
    # last: a world with labels is a whole one
    with open(root / "labels.csv", "w", newline="", encoding="utf-8") as table:
        csv.writer(table).writerows([COLUMNS, *rows])


def tell(draw: np.random.Generator, frames: int, size: int) -> Story:
    """Draw a story: any shape, start and direction; so fast that it meets the wall in the second half."""
    radius = size * draw.uniform(0.16, 0.19)
    x, y = draw.uniform(0.25 * size, 0.75 * size, 2)
    angle = draw.uniform(0, 2 * math.pi)
    dx, dy = math.cos(angle), math.sin(angle)
    reach = {
        "left": (x - radius) / max(-dx, 1e-9),
        "right": (size - radius - x) / max(dx, 1e-9),
        "top": (y - radius) / max(-dy, 1e-9),
        "bottom": (size - radius - y) / max(dy, 1e-9),
    }
    outcome = min(WALLS, key=lambda wall: reach[wall])
    arrival = (frames - 1) * draw.uniform(0.55, 0.95)
    speed = reach[outcome] / arrival
    shape = str(draw.choice(SHAPES))
    return Story(shape, radius, draw.uniform(-0.3, 0.3), x, y, dx * speed, dy * speed, arrival, outcome)


def paint(story: Story, draw: np.random.Generator, frames: int, size: int, shade: float = 0.0) -> np.ndarray:
    """uint8 RGB [frames, size, size, 3]; `shade`: how far off every channel of the shape's colour is."""
    across, down = np.meshgrid(np.arange(size) + 0.5, np.arange(size) + 0.5)
    ground = _texture(draw, across, down, size)
    colour = _bright(draw)
    colour = colour + np.where(colour < np.mean(BRIGHT), shade, -shade)
    film = np.empty((frames, size, size, 3), np.uint8)
    for frame in range(frames):
        x, y = story.at(frame)
        inside = 0.5 - _distance(story, across - x, down - y)
        cover = np.clip(inside, 0, 1)[..., None]
        film[frame] = np.round(255 * (ground * (1 - cover) + colour * cover))
    return film


def _texture(draw: np.random.Generator, across: np.ndarray, down: np.ndarray, size: int) -> np.ndarray:
    """A dim ground of faint waves in random colours, with grain: [size, size, 3] in [0, 1].

    Faint, because a small network must learn the shapes in a minute: on strong waves it was still at
    chance after 400 steps.
    """
    ground = draw.uniform(0.1, 0.35, 3) + draw.normal(0, 0.01, (size, size, 1))
    for _ in range(4):
        along = draw.uniform(-4, 4, 2) * 2 * math.pi / size
        wave = np.sin(along[0] * across + along[1] * down + draw.uniform(0, 2 * math.pi))
        ground = ground + wave[..., None] * draw.uniform(-0.02, 0.02, 3)
    return ground.clip(0, 1)


def _bright(draw: np.random.Generator) -> np.ndarray:
    """A shape's colour: any hue, always brighter than the ground."""
    return draw.uniform(*BRIGHT, 3)


def _distance(story: Story, dx: np.ndarray, dy: np.ndarray) -> np.ndarray:
    """Pixels to the shape's edge, negative inside (corners rounded outside: it is only used at the edge)."""
    cos, sin = math.cos(story.turn), math.sin(story.turn)
    dx, dy = cos * dx + sin * dy, cos * dy - sin * dx
    side = story.radius * math.sqrt(math.pi)  # of the square of the disc's area
    if story.shape == "disc":
        return np.hypot(dx, dy) - story.radius
    if story.shape == "square":
        return np.maximum(abs(dx), abs(dy)) - side / 2
    if story.shape == "cross":  # five squares
        arm = side / math.sqrt(5) / 2
        near, far = np.minimum(abs(dx), abs(dy)), np.maximum(abs(dx), abs(dy))
        return np.maximum(far - 3 * arm, near - arm)
    inner = side / math.sqrt(3 * math.sqrt(3))  # the equilateral triangle's inscribed circle
    return np.maximum(dy, abs(dx) * math.sqrt(3) / 2 - dy / 2) - inner


def write_video(path: str | Path, film: np.ndarray, fps: int, **options: str) -> None:
    """film uint8 RGB [T, H, W, 3], H and W even -> an H.264 mp4; `options` go to the encoder."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(
            "libx264", rate=fps, options={"crf": "16", "preset": "veryfast", **options}
        )
        stream.height, stream.width = film.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1  # the same bytes on any machine
        for picture in film:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
