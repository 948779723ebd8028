"""What README.md prints is run: blocks marked <!-- run --> and all Python; other commands are parsed."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from vjepa_distill.cli import build_parser
from vjepa_distill.commands.arguments import with_nested_options

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "README.md").read_text(encoding="utf-8")
FENCE = re.compile(r"^(<!-- run -->\n)?```(\w+)\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """One fenced block of the page."""

    run: bool
    language: str
    text: str


BLOCKS = [Block(bool(mark), language, text) for mark, language, text in FENCE.findall(PAGE)]


def script(folder: Path) -> str:
    """The page as one shell script: runnable blocks as they stand, Python blocks as files, in order."""
    parts = ["set -eu"]
    for number, block in enumerate(BLOCKS):
        if block.language == "python":
            named = re.match(r"# (\w+\.py)\n", block.text)
            name = named[1] if named else f"block_{number}.py"
            (folder / name).write_text(block.text, encoding="utf-8")
            parts.append(f"{shlex.quote(sys.executable)} {name}")
        elif block.run:
            parts.append(block.text)
    return "\n".join(parts)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_runnable_block_runs_as_printed(tmp_path: Path) -> None:
    """A minute or two: the page makes its own toy world and goes every road on it."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = os.environ | {"PATH": path, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    shell = ["sh", "-c", script(tmp_path)]
    done = subprocess.run(shell, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=870)
    assert done.returncode == 0, done.stderr[-3000:]
    for run in ("distilled", "future", "two_ranks", "mine"):
        assert (tmp_path / "runs" / run / "student.safetensors").exists(), run
    for words in ("random weights", "no leak from hidden pixels", '"distribution"'):
        assert words in done.stdout, words
    assert "2 rank(s)" in done.stderr


def test_both_makes_stand_first_and_exist() -> None:
    first = BLOCKS[0].text.splitlines()
    assert [line.split("#")[0].split() for line in first] == [["make", "demo"], ["make", "test"]]
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    assert {"demo", "test"} <= set(targets)


def commands(text: str) -> list[list[str]]:
    """The words after vjepa-distill of every such command in a shell block."""
    lines = [shlex.split(line, comments=True) for line in text.replace("\\\n", " ").splitlines()]
    return [words[1:] for words in lines if words and words[0] == "vjepa-distill"]


STAGE2 = (ROOT / "docs" / "stage2.md").read_text(encoding="utf-8")
NOT_RUN = [text for run, language, text in FENCE.findall(PAGE + STAGE2) if language == "sh" and not run]
PRINTED = [words for text in NOT_RUN for words in commands(text)]


@pytest.mark.parametrize("words", PRINTED, ids=" ".join)
def test_commands_that_are_not_run_are_parsed(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert build_parser().parse_args(with_nested_options(words)).command == words[0]


def test_every_subcommand_is_shown() -> None:
    shown = {words[0] for block in BLOCKS if block.language == "sh" for words in commands(block.text)}
    assert shown == set(build_parser()._subcommands_action.choices)


def test_options_named_in_the_text_exist() -> None:
    verbs = build_parser()._subcommands_action.choices.values()
    known = {option for verb in verbs for action in verb._actions for option in action.option_strings}
    assert set(re.findall(r"`(--[\w.]+)", FENCE.sub("", PAGE))) <= known


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\(([\w./-]+)\)", PAGE))))
def test_links_lead_somewhere(target: str) -> None:
    assert (ROOT / target).exists()
