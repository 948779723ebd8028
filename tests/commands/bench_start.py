"""Seconds from typing to the answer for what must answer at once, the help and the lists, beside Python.

Run: python tests/commands/bench_start.py [--rounds 9]
"""

import argparse
import statistics
import subprocess
import sys
import time

ANSWERS = {
    "python -c pass": ["-c", "pass"],
    "--help": ["-m", "vjepa_distill", "--help"],
    "distill --help": ["-m", "vjepa_distill", "distill", "--help"],
    "backbones list": ["-m", "vjepa_distill", "backbones", "list"],
    "plugins list": ["-m", "vjepa_distill", "plugins", "list"],
    "import torch": ["-c", "import torch"],
}


def seconds(words: list[str]) -> float:
    """Of one process, from its start to its end."""
    start = time.perf_counter()
    subprocess.run([sys.executable, *words], stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - start


def main() -> None:
    """All of them in turn, so that a busy moment falls on each; the median of the rounds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    rounds = range(parser.parse_args().rounds)
    times = [{name: seconds(words) for name, words in ANSWERS.items()} for _ in rounds]
    for name in ANSWERS:
        print(f"{name:16} {statistics.median(row[name] for row in times):.2f} s")


if __name__ == "__main__":
    main()
