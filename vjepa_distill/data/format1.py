"""What runs of settings format 1 did, kept so that they can be gone on with: no other run comes here.

Their videos were named and hashed by the path as it had been typed (a root with ``..`` made all of them
absolute; a link counted as another video), and their crops knew nothing of the clip's shape, so that all but
square clips of square pictures came out distorted.
"""

from __future__ import annotations

import glob
import math
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vjepa_distill.data.index import Entry
from vjepa_distill.data.listing import UNSCANNED, Listing
from vjepa_distill.data.transforms import Box, centre_box


def find(root: str | os.PathLike, files: Sequence[str]) -> Listing:
    """The files that match, in the stead of `listing.find`."""
    inside = Path(root).absolute()
    found = set()
    for pattern in files:
        # a literal path first: names may hold [brackets]
        literal = os.path.join(inside, pattern)
        for path in [literal] if os.path.isfile(literal) else glob.glob(literal, recursive=True):
            absolute = Path(os.path.normpath(path))
            if absolute.is_file():
                found.add(
                    (absolute.relative_to(inside) if absolute.is_relative_to(inside) else absolute).as_posix()
                )
    return Listing(str(inside), [_unscanned(inside, path) for path in sorted(found)], {})


def _unscanned(root: Path, path: str) -> Entry:
    status = os.stat(root / path)
    return Entry(path, status.st_size, status.st_mtime_ns, None, UNSCANNED)


def random_box(
    height: int,
    width: int,
    scale: tuple[float, float],
    aspect: tuple[float, float],
    draw: np.random.Generator,
) -> Box:
    """A box of a share of the area uniform in `scale` and an aspect (width / height) log-uniform in `aspect`.

    As in Szegedy et al. 2014 (Going deeper with convolutions); ten tries to find one that fits, else the
    largest centred box of a permitted aspect.
    """
    for _ in range(10):
        area = height * width * draw.uniform(*scale)
        ratio = math.exp(draw.uniform(math.log(aspect[0]), math.log(aspect[1])))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            return Box(int(draw.integers(height - h + 1)), int(draw.integers(width - w + 1)), h, w)
    return centre_box(height, width, min(max(width / height, aspect[0]), aspect[1]))
