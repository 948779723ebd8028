"""The plugin printed in CONTRIBUTING.md, installed as it stands, keeps the contracts it explains."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[1] / "CONTRIBUTING.md"
BLOCK = re.compile(r"^```(?:python|toml)\n# (\S+)\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)

CONTRACTS = """
import sys
import numpy as np
from vjepa_distill import create, registry

assert [plugin.error for plugin in registry.plugins()] == ["", ""], registry.plugins()
assert "torch" not in sys.modules
from vjepa_distill.testing import check_backbone, check_objective
check_backbone(lambda: create("backbone", "mosaic/small"))
check_objective(lambda **given: create("objective", "mosaic-gist", **given))
frames = np.random.default_rng(0).integers(0, 256, (12, 32, 48, 3), dtype=np.uint8)
np.save(sys.argv[1], frames)
decoder = create("decoder", "mosaic-npy")
info = decoder.scan(sys.argv[1])
assert (decoder.read(sys.argv[1], [7, 0, 7], info) == frames[[7, 0, 7]]).all()
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package of the page, installed into a folder."""
    source, target = tmp_path_factory.mktemp("mosaic"), tmp_path_factory.mktemp("site")
    for name, text in BLOCK.findall(PAGE.read_text()):
        (source / name).parent.mkdir(exist_ok=True)
        (source / name).write_text(text)
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-index",
        "--no-deps",
        "--no-build-isolation",
    ]
    done = subprocess.run([*pip, "--target", str(target), str(source)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return target


def test_the_printed_plugin_keeps_every_contract(site: Path, tmp_path: Path) -> None:
    env = os.environ | {"PYTHONPATH": str(site), "VJEPA_DISTILL_LOAD_PLUGINS": "mosaic"}
    command = [sys.executable, "-c", CONTRACTS, str(tmp_path / "clip.npy")]
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
