"""The toy world with broken physics: beside each video a twin in which, at a known moment, nature fails."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from vjepa_distill.data.world import Story, paint, tell, write_video

BREAKS = ("jump", "stop", "vanish", "colour")
COLUMNS = ("file", "pair", "break", "second", "shape")
FPS = 10
EARLIEST = 0.3  # share of the video before which nothing breaks: something must have been seen
SHADE = 0.225  # change of each channel: half the range that the world's colours lie in


def write_broken(
    root: str | Path,
    pairs: int,
    seed: int,
    frames: int = 20,
    size: int = 64,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write root/videos/000000.mp4 and its twin 000000_jump.mp4, ... and root/labels.csv.

    Breaks take turns. They come before the shape meets its wall, whose stop is no break. labels.csv:
    file, pair (a number), break (none, jump, stop, vanish, colour), second (of the first frame that is wrong;
    empty for none), shape.
    """
    root = Path(root)
    (root / "videos").mkdir(parents=True, exist_ok=True)
    rows = []
    for number in range(pairs):
        kind = BREAKS[number % len(BREAKS)]
        film, twin, frame, shape = films(seed, number, kind, frames, size)
        sound, wrong = f"videos/{number:06d}.mp4", f"videos/{number:06d}_{kind}.mp4"
        write_video(root / sound, film, fps=FPS)
        write_video(root / wrong, twin, fps=FPS)
        rows += [[sound, number, "none", "", shape], [wrong, number, kind, f"{frame / FPS:.2f}", shape]]
        if progress:
            progress(number + 1, pairs)
    with open(root / "labels.csv", "w", newline="", encoding="utf-8") as table:
        csv.writer(table).writerows([COLUMNS, *rows])


def films(
    seed: int, number: int, kind: str, frames: int, size: int
) -> tuple[np.ndarray, np.ndarray, int, str]:
    """A video and its broken twin, uint8 [frames, size, size, 3]; the first frame that differs; the shape."""

    def painted(change: Callable[[Story], Story] = lambda story: story, shade: float = 0.0) -> np.ndarray:
        """The same ground and colour whenever it is drawn."""
        draw = np.random.default_rng((seed, number))
        return paint(change(tell(draw, frames, size)), draw, frames, size, shade)

    story = tell(np.random.default_rng((seed, number)), frames, size)
    draw = np.random.default_rng((seed, number, BREAKS.index(kind)))
    frame = int(draw.integers(math.ceil(EARLIEST * frames), int(story.arrival)))
    film = painted()
    after = {
        "jump": lambda: painted(lambda story: jumped(story, frame, size, draw)),
        "stop": lambda: painted(lambda story: replace(story, arrival=frame - 1)),
        "vanish": lambda: painted(lambda story: replace(story, x=-9.0 * size, vx=0.0)),
        "colour": lambda: painted(shade=SHADE),
    }[kind]()
    return film, np.concatenate([film[:frame], after[frame:]]), frame, story.shape


def jumped(story: Story, frame: int, size: int, draw: np.random.Generator) -> Story:
    """The story as if it had always been elsewhere: from the frame on at least a quarter of the picture away.

    It moves on as before, to the first wall that it meets now.
    """
    here, low, high = story.at(frame), story.radius, size - story.radius
    while math.dist(here, there := tuple(draw.uniform(low, high, 2))) < size / 4:
        pass
    walls = [
        (side, speed) for side, speed in zip(there, (story.vx, story.vy), strict=True) if abs(speed) > 1e-9
    ]
    left = min(((high if speed > 0 else low) - side) / speed for side, speed in walls)
    x, y = there[0] - story.vx * frame, there[1] - story.vy * frame
    return replace(story, x=x, y=y, arrival=frame + left)
