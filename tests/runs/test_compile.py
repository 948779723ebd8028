"""torch.compile: the same run as without it, for real; needs a C++ compiler on a CPU."""

import shutil

import pytest
import torch
from safetensors.torch import load_file

from tests.runs.test_runs import run


@pytest.mark.slow
@pytest.mark.skipif(
    not (shutil.which("g++") or shutil.which("clang++")), reason="torch.compile needs a C++ compiler"
)
def test_a_compiled_run_learns_the_same(tmp_path, world_folder, tiny_jepa):
    options = [*tiny_jepa, "--amp=fp32", f"--data.root={world_folder}"]
    assert run("jepa-train", *options, "--out", tmp_path / "eager") == 0
    assert run("jepa-train", *options, "--out", tmp_path / "compiled", "--compile", "true") == 0
    eager, compiled = (load_file(tmp_path / name / "student.safetensors") for name in ("eager", "compiled"))
    assert eager.keys() == compiled.keys(), "names in a checkpoint do not tell whether it was compiled"
    for name, value in eager.items():
        torch.testing.assert_close(
            compiled[name], value, atol=1e-4, rtol=0, msg=lambda m, n=name: f"{n}: {m}"
        )
