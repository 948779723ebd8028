"""Writes a new plugin: a complete, installable package with a small encoder that works and a test of it.

In comes the name of a family; out go the files that lie here as .txt, with its words filled in. What they
import of ours must never be more than a plugin may.
"""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path
from string import Template

from vjepa_distill.errors import UserError
from vjepa_distill.registry.hookspecs import PROJECT

# The template's files and where each one goes; $-words are filled in.
FILES = {
    "pyproject.toml": "pyproject.toml",
    "README.md": "README.md",
    "hooks.py": "$module/__init__.py",
    "model.py": "$module/model.py",
    "test_model.py": "tests/test_model.py",
}
NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


def write_plugin(name: str, folder: Path | str | None = None) -> Path:
    """A package for the family `name`, in `folder` (by default vjepa-distill-<name>); returns the folder.

    UserError for a name that is no family's, and for a folder that holds anything.
    """
    if not NAME.fullmatch(name):
        raise UserError(
            f"plugin name {name!r}: expected small letters, digits and single hyphens, as in my-encoder"
        )
    folder = Path(folder or f"vjepa-distill-{name}")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} is there already and not empty: give another folder")
    words = {
        "name": name,
        "distribution": f"vjepa-distill-{name}",
        "module": f"{PROJECT}_{name.replace('-', '_')}",
        "Class": "".join(word.capitalize() for word in name.split("-")),
    }
    for source, place in FILES.items():
        target = folder / Template(place).substitute(words)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(Template(_text(source)).substitute(words), encoding="utf-8")
    return folder


def _text(source: str) -> str:
    """A file of the template; they end in .txt because none is Python before its words are filled in."""
    return (resources.files(__name__) / f"{source}.txt").read_text(encoding="utf-8")
