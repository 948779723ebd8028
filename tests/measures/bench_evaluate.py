"""Seconds that `evaluate` takes on a folder of videos, without labels, beside random weights and a start.

Run: python tests/measures/bench_evaluate.py [--videos 300] [--size 112] [--frames 20] [--depth 12]
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

import torch

from vjepa_distill import create_backbone, evaluate
from vjepa_distill.data.world import write_world


def main() -> None:
    """Of a folder of the toy world, 320 px and twice as many frames as a clip has."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, value in {"videos": 300, "size": 112, "frames": 20, "depth": 12}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--amp", default="bf16")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root, cache = Path(folder) / "world", Path(folder) / "cache"
        os.environ["XDG_CACHE_HOME"] = str(cache)
        write_world(root, given.videos, seed=0, frames=2 * given.frames, size=320)
        this, random, start = (create_backbone("vjepa/tiny", depth=given.depth) for _ in range(3))
        data = {"root": str(root), "num_frames": given.frames, "size": given.size}
        before = time.perf_counter(), time.process_time()
        evaluate(this, data, random=random, start=start, amp=given.amp, device="cpu")
        wall, work = time.perf_counter() - before[0], time.process_time() - before[1]
    threads = torch.get_num_threads()
    print(f"{given.videos} videos, {threads} threads: {wall:.0f} s, of processor time {work:.0f} s")


if __name__ == "__main__":
    main()
