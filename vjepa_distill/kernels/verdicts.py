"""What trials found, kept on disk for this processor, this torch and these limits."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
from pathlib import Path

import torch

from vjepa_distill.files import write_atomic

_log = logging.getLogger(__name__)

FORMAT = 1
# Read by torch and oneDNN: which of the processor's instructions they may use, and how many threads.
LIMITS = ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "ONEDNN_DEFAULT_FPMATH_MODE")


class Verdicts:
    """Faults by call, "" for a kernel that is right: a dictionary with a file behind it.

    folder: where the file lies; one for each machine that was met.
    """

    def __init__(self, folder: Path) -> None:
        self.machine = machine()
        name = hashlib.sha256(json.dumps(self.machine).encode()).hexdigest()[:16]
        self.path = folder / f"kernels-{name}.json"
        self.faults = self.read()
        self.new: dict[str, str] = {}

    def learn(self, call: str, fault: str) -> None:
        self.faults[call] = self.new[call] = fault

    def read(self) -> dict[str, str]:
        """Empty where there is no file, or none that can be used: then every kernel is tried again."""
        if not self.path.exists():
            return {}
        try:
            found = json.loads(self.path.read_text(encoding="utf-8"))
            faults = found["faults"] if found["format"] == FORMAT else {}
            return {str(call): str(fault) for call, fault in faults.items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as unusable:
            _log.warning("%s cannot be used (%r): kernels are tried anew", self.path, unusable)
            return {}

    def save(self) -> None:
        """Add what was found to what other runs have written meanwhile, if there is anything new."""
        if not self.new:
            return
        self.faults, self.new = {**self.faults, **self.read(), **self.new}, {}
        text = json.dumps({"format": FORMAT, "machine": self.machine, "faults": self.faults}, indent=1)
        try:
            write_atomic(self.path, lambda file: file.write(text.encode()))
        except OSError as full:
            _log.warning("%s cannot be written (%s): the next run tries kernels anew", self.path, full)


def machine() -> dict[str, str]:
    """All that decides which kernels run: processor, its instructions in use, torch, threads."""
    return {
        "processor": processor(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__,
        "threads": str(torch.get_num_threads()),
        **{name: os.environ[name] for name in LIMITS if name in os.environ},
    }


def processor() -> str:
    """Its name and what it can do, as Linux tells it; elsewhere what Python knows."""
    cpuinfo = Path("/proc/cpuinfo")
    if not cpuinfo.exists():
        return f"{platform.machine()} {platform.processor()}"
    told = cpuinfo.read_text(encoding="utf-8", errors="replace").split("\n\n")[0].splitlines()
    pairs = dict([part.strip() for part in line.split(":", 1)] for line in told if ":" in line)
    names = ("model name", "vendor_id", "cpu family", "model", "stepping", "flags", "Features")
    return "; ".join(pairs[name] for name in names if name in pairs)
