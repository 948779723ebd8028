"""Who may import whom: the layer table of CONTRIBUTING.md as data, and every import, lazy ones too."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "vjepa_distill"

# A module may import from lower layers and from its own folder; a folder stands for all that is in it.
LAYERS = [
    {
        "errors",
        "tokens",
        "distributed",
        "files",
        "optim",
        "progress",
        "rng",
        "values",
    },  # know nothing of ours
    {"schedule", "protocols", "hookspecs", "offers", "transformer", "standardise", "settings", "kernels"},
    {"config", "masks", "heads"},
    {"backbones", "objectives", "data", "testing", "template", "builtin", "discovery"},
    {"registry"},
    {"stages", "checkpoint", "exports", "health", "log", "evaluate", "folder", "train"},
    {"assemble", "loop"},
    {"initial"},
    {"runs"},
    {"demo"},
    {"commands", "arguments", "wording"},
    {"cli"},
    {"__main__"},
]

# What a layer number does not say.
NEVER = {
    "backbones": {"masks", "heads", "config", "schedule", "distributed", "standardise"},
    "objectives": {"config", "schedule"},
    "data": {"masks", "heads", "config", "schedule"},
    "registry": {"backbones", "objectives", "data", "builtin"},
    "stages": {"backbones", "objectives", "data", "config"},
    "checkpoint": {"backbones", "objectives", "data", "config", "registry"},
    "exports": {"backbones", "objectives", "data", "config"},
    "evaluate": {"backbones", "objectives"},
    "kernels": {"distributed", "optim"},
    "train": {"backbones", "objectives", "data", "config", "stages"},
    "loop": {"backbones", "objectives", "stages"},
}

MAY_USE_TORCH_DISTRIBUTED = {"distributed"}

# What --help and the lists need.
WITHOUT_TORCH = [
    "schedule",
    "config",
    "discovery",
    "builtin",
    "registry",
    "commands",
    "wording",
    "cli",
    "__main__",
]

# A stage is a function of its arguments: where it runs, and what is done with its losses, is train's to say.
STAGES_NEVER_CALL = {"backward", "compile", "cuda", "getLogger", "print", "step"}


def imports(source: str, package: str = "") -> Iterator[str]:
    """Every module that a source names: at the top, inside functions, and by ``import_module("…")``.

    ``from a import b`` yields ``a.b``, as ``vjepa_distill.b`` does after ``import vjepa_distill``; a relative
    import is resolved against ``package``.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*parts, *([node.module] if node.module else [])])
            yield from (f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            yield from (word.value for word in node.args if isinstance(word, ast.Constant))
        elif isinstance(node, ast.Attribute) and ast.unparse(node.value) == "vjepa_distill":
            yield f"vjepa_distill.{node.attr}"


def ours(source: str, package: str) -> set[str]:
    """The rooms of vjepa_distill that a source imports; ``""`` for a name taken from the front door."""
    words = [name.split(".") for name in imports(source, package) if name.startswith("vjepa_distill.")]
    rooms = {word[1] for word in words} - {"__version__"}
    return {room if (PACKAGE / room).is_dir() or (PACKAGE / f"{room}.py").exists() else "" for room in rooms}


def modules() -> list[Path]:
    """Every module of the package but its front door, which only forwards names."""
    return [path for path in sorted(PACKAGE.rglob("*.py")) if path != PACKAGE / "__init__.py"]


def room_of(path: Path) -> str:
    """The name by which the table knows a module: its folder's, or its own."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def layer_of(room: str) -> int:
    """The number of the layer; a room that is in none fails the test that asks."""
    for number, layer in enumerate(LAYERS):
        if room in layer:
            return number
    pytest.fail(f"{room} is in no layer: give it one in tests/test_layers.py and in CONTRIBUTING.md")


def every_module() -> pytest.MarkDecorator:
    return pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))


@every_module()
def test_imports_go_strictly_downwards(path: Path) -> None:
    room = room_of(path)
    package = ".".join(path.relative_to(ROOT).parent.parts)
    for other in ours(path.read_text(), package) - {room}:
        assert other, f"{room} imports from vjepa_distill itself: inside, import from the module that has it"
        assert layer_of(other) < layer_of(room), f"{room} (layer {layer_of(room)}) imports {other}"
        assert other not in NEVER.get(room, set()), f"{room} must not know {other}"


@every_module()
def test_few_modules_know_torch_distributed(path: Path) -> None:
    names = imports(path.read_text())
    if any(name.startswith(("torch.distributed", "torch.nn.parallel")) for name in names):
        assert room_of(path) in MAY_USE_TORCH_DISTRIBUTED


@pytest.mark.parametrize("path", sorted((PACKAGE / "stages").glob("*.py")), ids=lambda path: path.name)
def test_a_stage_leaves_the_loop_to_the_loop(path: Path) -> None:
    calls = [node.func for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    called = {ast.unparse(function).split(".")[-1] for function in calls}
    assert not called & STAGES_NEVER_CALL


def test_the_table_names_each_room_once_and_only_rooms_that_exist() -> None:
    names = [name for layer in LAYERS for name in layer]
    assert len(names) == len(set(names))
    assert set(names) == {room_of(path) for path in modules()}


def test_contributing_shows_the_same_table() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text().replace("\\_", "_")
    rows = re.findall(r"^\| (\d+) \| ([\w ]+) \|", text, flags=re.MULTILINE)
    assert [(int(number), set(names.split())) for number, names in rows] == list(enumerate(LAYERS))


def test_what_the_help_needs_never_imports_torch() -> None:
    names = ", ".join(f"vjepa_distill.{name}" for name in WITHOUT_TORCH)
    program = f"import sys, {names}; print(*{{'torch', 'timm', 'av', 'sklearn'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.stdout.strip(), done.returncode) == ("", 0), done.stderr


def test_plugins_import_only_the_front_door_and_the_contracts() -> None:
    for path in sorted((ROOT / "plugins").rglob("*.py")):
        if "build" not in path.parts:
            assert ours(path.read_text(), "") <= {"", "testing"}, path


def test_the_checker_sees_lazy_relative_and_dynamic_imports() -> None:
    source = """
import os, vjepa_distill, vjepa_distill.masks
print(vjepa_distill.__version__, vjepa_distill.heads.Predictor)
def late():
    from vjepa_distill import registry, take
    from ..data import index
    importlib.import_module("vjepa_distill.log")
"""
    assert ours(source, "vjepa_distill.backbones") == {"masks", "heads", "registry", "", "data", "log"}
