"""Shared by the tests: a small toy world, and the options of the smallest runs."""

import os
import sys
import venv
from pathlib import Path

import pytest
import torch

from vjepa_distill.data.world import write_world

TINY = [
    "--data.num_frames=8", "--data.size=32", "--data.heldout=0.2", "--batch_size=4", "--steps=4",
    "--log_every=2", "--save_every=2", "--eval_every=0", "--optimizer.warmup=1", "--device=cpu",
]  # fmt: skip
STUDENT = [
    "--student.name=vjepa/tiny", "--student.options.depth=2", "--student.options.width=24",
    "--student.options.heads=2", "--student.options.patch=8",
]  # fmt: skip


# Tests are many small models: two threads on two busy cores wait for each other more than they compute.
os.environ["OMP_NUM_THREADS"] = "1"
torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory):
    """Indices of the tests' videos stay out of the user's cache."""
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def world_folder(tmp_path_factory) -> Path:
    """Twelve real mp4 files of the toy world, with labels."""
    root = tmp_path_factory.mktemp("world")
    write_world(root, 12, seed=0, frames=12, size=32)
    return root


@pytest.fixture(scope="session")
def layered(tmp_path_factory) -> dict[str, str]:
    """The environment variables of a virtual environment on top of this one.

    What its `pip` installs is installed for real, with entry points, and is not there for other tests.
    """
    home = tmp_path_factory.mktemp("layered") / "venv"
    venv.create(home, with_pip=False)
    python = home / "bin" / "python"
    paths = [path for path in sys.path if path.endswith("-packages")]
    site = next(home.glob("lib/python*/site-packages"))
    (site / "below.pth").write_text("import site; " + "; ".join(f"site.addsitedir({p!r})" for p in paths))
    for name, words in {
        "pip": f"{sys.executable} -m pip --python {python}",
        "vjepa-distill": f"{python} -m vjepa_distill",
        "pytest": f"{python} -m pytest",
    }.items():
        (home / "bin" / name).write_text(f'#!/bin/sh\nexec {words} "$@"\n')
        (home / "bin" / name).chmod(0o755)
    path = f"{home / 'bin'}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}


@pytest.fixture
def tiny_jepa() -> list[str]:
    """jepa-train at its smallest: a few seconds."""
    spans = ["--spans.now=2", "--spans.soon=2", "--spans.eventually=4"]
    predictor = ["--predictor.width=24", "--predictor.depth=1", "--predictor.heads=2"]
    return [*TINY, *STUDENT, *spans, *predictor]


@pytest.fixture
def tiny_distill() -> list[str]:
    """distill at its smallest, from an untrained convolutional teacher."""
    return [*TINY, *STUDENT, "--teachers.main.name=conv/small", "--teachers.main.options.patch=8"]
