"""Out of memory, for real: one line that names the knobs in their order."""

import os
import subprocess
import sys

import pytest


@pytest.mark.skipif(sys.platform != "linux", reason="a process is limited with ulimit here")
def test_out_of_memory_is_one_line_that_names_the_knobs_in_order(tmp_path, world_folder, tiny_jepa):
    huge = [*tiny_jepa, "--student.options.width=8192", "--student.options.heads=64"]
    where = [f"--data.root={world_folder}", "--out=run"]
    command = [sys.executable, "-m", "vjepa_distill", "jepa-train", *huge, *where]
    limited = ["sh", "-c", 'ulimit -v 6000000; exec "$@"', "sh", *command]
    done = subprocess.run(limited, cwd=tmp_path, env=os.environ, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2, done.stderr[-2000:]
    assert "Traceback" not in done.stderr
    line = done.stderr.strip().splitlines()[-1]
    assert line.startswith("vjepa-distill: error: out of memory")
    knobs = ["batch_size", "checkpointing", "amp", "teacher_context", "data.size", "data.num_frames"]
    places = [line.index(f"--{knob}") for knob in knobs]
    assert places == sorted(places)
