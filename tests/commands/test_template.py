"""`plugins new` and docs/plugins.md: what it writes, and every block of the page, as a reader runs them."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from vjepa_distill import registry
from vjepa_distill.cli import run
from vjepa_distill.commands.template import write_plugin
from vjepa_distill.errors import UserError

PAGE = Path(__file__).parents[2] / "docs" / "plugins.md"
BLOCK = re.compile(r"^(<!-- run -->\n)?```(\w*)\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)


def script(folder: Path) -> str:
    """Python blocks become the files they are named after; what the page runs, in order."""
    lines = ["set -eu"]
    for runs, language, text in BLOCK.findall(PAGE.read_text(encoding="utf-8")):
        if language == "python":
            name = re.match(r"# (\w+\.py)\n", text)
            assert name, f"a block without a file name: {text[:40]}"
            (folder / name[1]).write_text(text, encoding="utf-8")
            lines += ["python use.py"] if name[1] == "use.py" else []
        elif runs:
            lines.append(text)
    return "\n".join(lines)


@pytest.mark.slow
def test_every_block_of_the_page_runs_in_order(layered: dict[str, str], tmp_path: Path) -> None:
    """Offline: pip is kept from every index."""
    env = {**layered, "PIP_NO_INDEX": "1"}
    shell = ["sh", "-c", script(tmp_path)]
    done = subprocess.run(shell, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert "my-encoder" in done.stdout
    assert "2 passed" in done.stdout
    for name in ("mine", "scan", "mine_future"):
        assert (tmp_path / "runs" / name / "student.safetensors").exists()


def test_encoders_of_the_page_have_at_most_thirty_lines() -> None:
    blocks = [text for _, language, text in BLOCK.findall(PAGE.read_text()) if language == "python"]
    encoders = [text for text in blocks if "nn.Module" in text]
    assert len(encoders) == 3
    for text in encoders:
        assert len([line for line in text.splitlines()[1:] if line.strip()]) <= 30


def test_names_are_filled_in_everywhere(tmp_path: Path) -> None:
    folder = write_plugin("wave-net2", tmp_path / "p")
    texts = {path: path.read_text() for path in folder.rglob("*") if path.is_file()}
    assert not [path for path, text in texts.items() if "$" in text]
    assert (folder / "vjepa_distill_wave_net2" / "model.py").exists()
    assert "class WaveNet2(" in texts[folder / "vjepa_distill_wave_net2" / "model.py"]
    for path, text in texts.items():
        if path.suffix == ".py":
            compile(text, str(path), "exec")


@pytest.mark.parametrize("name", ["My", "a_b", "-a", "a--b", "a/b", "2a", ""])
def test_a_name_that_is_no_family_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"as in my-encoder"):
        write_plugin(name, tmp_path / "p")
    assert not (tmp_path / "p").exists()


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("mine")
    with pytest.raises(UserError, match="give another folder"):
        write_plugin("wave", tmp_path)
    with pytest.raises(UserError, match="give another folder"):
        write_plugin("wave", tmp_path / "kept")
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


@pytest.mark.parametrize(
    "family", sorted({name.partition("/")[0] for name in registry.catalogue("backbone")})
)
def test_a_family_that_is_there_is_refused(family: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="give another name"):
        run(["plugins", "new", family, str(tmp_path / "p")])
    assert not (tmp_path / "p").exists()


@pytest.mark.parametrize("words", [["new"], ["list", "extra"]])
def test_what_to_type_is_said(words: list[str]) -> None:
    with pytest.raises(UserError, match="plugins list, or vjepa-distill plugins new NAME"):
        run(["plugins", *words])
