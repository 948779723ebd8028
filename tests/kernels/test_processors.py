"""The same answers on processors of three kinds: with AMX, with AVX512-bf16, with AVX2 alone.

torch and oneDNN are told, in a fresh process, to use no more of this machine than the kind has; on a machine
that has less, a level is what the machine has.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from vjepa_distill import registry

LEVELS = {
    "all there is": {},
    "AVX512-bf16": {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_BF16", "ATEN_CPU_CAPABILITY": "avx512"},
    "AVX2": {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"},
}
SMALL = {"depth": 2, "embed_dim": 48, "num_heads": 2, "num_classes": 0}
OURS: dict[str, dict[str, Any]] = {
    "vjepa/tiny": {"depth": 4},
    "conv/small": {},
    "timm/vit_tiny_patch16_224": {"temporal": "joint", "timm": SMALL},
    "ruffle/tiny": {},
}
SIZE = (8, 64, 96)
ENCODE = """
import sys, torch
from safetensors.torch import load_file, save_file
from tests.kernels.test_processors import OURS, SIZE
from vjepa_distill import registry

found = {}
clip = load_file(f"{sys.argv[1]}/clip.safetensors")["clip"]
for number, (name, options) in enumerate(OURS.items()):
    encoder = registry.create("backbone", name, **options).eval()
    encoder.load_state_dict(load_file(f"{sys.argv[1]}/{number}.safetensors"))
    for kind, on in (("fp32", False), ("bf16", True)):
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=on):
            found[f"{name} {kind}"] = encoder(clip).float().contiguous()
save_file(found, sys.argv[2])
print(torch.backends.cpu.get_cpu_capability())
"""
ROOT = Path(__file__).parents[2]


def at(level: str, *command: str) -> str:
    """What a program prints that is limited to a level; one thread, as the other tests."""
    given = {**os.environ, **LEVELS[level], "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    with tempfile.TemporaryDirectory() as compiled:  # what was compiled at another level is not taken
        given["TORCHINDUCTOR_CACHE_DIR"] = compiled
        done = subprocess.run(
            [sys.executable, *command], env=given, cwd=ROOT, capture_output=True, text=True, timeout=280
        )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout


def apart(one: torch.Tensor, two: torch.Tensor) -> float:
    return float((one - two).norm() / two.norm())


@pytest.mark.slow
def test_our_encoders_give_the_same_tokens_at_every_level(tmp_path: Path) -> None:
    """In fp32 but for the order of sums; in bf16 within what rounding the same numbers costs at any level."""
    torch.manual_seed(0)
    for number, (name, options) in enumerate(OURS.items()):
        save_file(
            registry.create("backbone", name, **options).state_dict(), tmp_path / f"{number}.safetensors"
        )
    save_file({"clip": torch.rand(2, 3, *SIZE)}, tmp_path / "clip.safetensors")
    tokens = {}
    for number, level in enumerate(LEVELS):
        out = tmp_path / f"tokens{number}.safetensors"
        capability = at(level, "-c", ENCODE, str(tmp_path), str(out)).split()[-1]
        assert level != "AVX2" or capability == "AVX2", "the level was not taken"
        tokens[level] = load_file(out)
    exact = tokens["all there is"]
    for level, found in tokens.items():
        for name in OURS:
            right = exact[f"{name} fp32"]
            assert apart(found[f"{name} fp32"], right) < 1e-5, (level, name)
            # An operation rounds to 2^-9 of its result; some tens of them in a row to some times that.
            assert apart(found[f"{name} bf16"], right) < 2**-6, (level, name)


@pytest.mark.slow
@pytest.mark.parametrize("level", [level for level in LEVELS if LEVELS[level]])
def test_what_depends_on_kernels_passes_at_this_level(level: str) -> None:
    """Models of convolutions held to the contract, ours too, and the tests of the kernels themselves."""
    files = [
        "tests/backbones/test_torchvision.py",
        "tests/backbones/test_joint.py",
        "tests/kernels/test_kernels.py",
        "tests/testing/test_contracts.py",
    ]
    words = "(contract or tubelet or kernel or trial or computed) and not every_video and not hangs"
    printed = at(level, "-m", "pytest", "-q", "-p", "no:cacheprovider", *files, "-k", words)
    assert " passed" in printed
