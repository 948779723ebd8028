"""Where clips come from and how they are cut."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from vjepa_distill.settings.checks import not_negative, ordered, positive, require, share
from vjepa_distill.settings.plain import settle


@dataclass
class Data:
    """Where clips come from and how they are cut."""

    source: Literal["files", "world"] = "files"
    """Your video files, or a synthetic toy world written under root (asked for by name, never a fallback)."""
    root: str = "data"
    """The folder of the data set; ~ is your home folder."""
    files: list[str] = field(default_factory=lambda: ["videos/*.mp4"])
    """Globs or paths, relative to root or absolute."""
    num_frames: int = 84
    """T: frames of a clip."""
    size: int | list[int] = 224
    """H and W of a clip in pixels: one number, or [height, width]."""
    sampling: Literal["uniform", "fps"] = "uniform"
    """Frames spread evenly over the whole video, or at a fixed rate from a random start."""
    fps: float | None = None
    """Frames per second of sampling fps."""
    crop: Literal["random", "center"] = "random"
    """Random resized crop, or the centre of the picture."""
    scale: tuple[float, float] = (0.5, 1.0)
    """Share that a random crop takes of the largest box of its shape that fits into the picture."""
    aspect: tuple[float, float] = (0.75, 1.3333)
    """Width / height of a random crop, relative to the clip's own: how far it may be stretched."""
    flip: float = 0.5
    """Probability of a horizontal flip."""
    decoder: str = "auto"
    """auto (pyav), pyav, decord, torchcodec, or a plugin's."""
    workers: int = 0
    """Processes that read video beside the training process."""
    timeout: float = 60.0
    """Seconds after which a file that does not answer is given up."""
    max_bad: float = 0.01
    """Share of files that may turn out bad during training before the run stops."""
    heldout: float = 0.05
    """Share of the videos (by a stable hash of the path in root) kept out of training for held-out scores."""
    heldout_clips: int = 64
    """Held-out clips that are scored, at most."""
    world_videos: int = 256
    """How many videos source world writes."""
    index: str | None = None
    """Where the index of the files is kept; null: in the user's cache folder."""

    def __post_init__(self) -> None:
        settle(self)
        positive(self, "data.num_frames", "data.timeout", "data.world_videos")
        require(min(self.shape) > 0, f"data.size={self.size}: give pixels above 0")
        require(
            self.sampling != "fps" or bool(self.fps and self.fps > 0),
            f"data.sampling=fps needs data.fps above 0, not {self.fps}: type e.g. --data.fps 8",
        )
        share(self, "data.heldout", below=True)
        share(self, "data.flip", "data.max_bad")
        ordered(self, "data.scale", most=1)
        ordered(self, "data.aspect")
        not_negative(self, "data.heldout_clips", "data.workers")

    @property
    def clip(self) -> tuple[int, int, int]:
        """Frames, height and width of a clip."""
        return self.num_frames, *self.shape

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        sides = [self.size, self.size] if isinstance(self.size, int) else self.size
        require(len(sides) == 2, f"data.size={self.size}: give one number, or [height, width]")
        return sides[0], sides[1]
