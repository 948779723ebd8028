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

# A module may import from lower layers and from its own room: a folder is one room with all that is in it.
LAYERS = [
    {"errors", "tokens", "distributed", "files", "progress"},  # know nothing of ours
    {"protocols", "settings", "kernels", "pages"},
    {"registry", "modules", "data", "testing"},
    {"backbones", "objectives", "stages", "training"},
    {"measures"},
    {"runs"},
    {"demo"},
    {"commands"},
    {"cli"},
    {"__main__"},
]

# What a layer number does not say: a room, or a file in it, must not know rooms or files in them.
NEVER = {
    "settings": {"tokens", "distributed", "files", "progress"},
    "kernels": {"distributed"},
    "pages": {"distributed", "files", "progress"},
    "registry": {"data", "kernels", "settings.run", "settings.data", "distributed"},
    "modules": {"settings", "kernels", "distributed"},
    "data": {"settings", "kernels", "distributed"},
    "testing": {"settings", "distributed", "files"},
    "backbones": {
        "modules.heads",
        "modules.masks",
        "modules.standardise",
        "settings",
        "distributed",
        "data",
        "registry",
        "testing",
    },
    "objectives": {"settings", "data", "registry", "modules.transformer", "modules.standardise", "testing"},
    "stages": {"settings", "data", "registry", "distributed", "testing"},
    "training": {"registry", "modules", "testing"},
    "training.step": {"settings", "data"},
    "training.checkpoint": {"settings", "data"},
    "measures": {"registry", "modules", "settings", "backbones", "objectives", "stages", "testing"},
    "runs": {"objectives", "testing"},
    "runs.exports": {"data", "settings", "stages", "backbones"},
}

MAY_USE_TORCH_DISTRIBUTED = {"distributed"}

# What --help and the lists need.
WITHOUT_TORCH = [
    "settings",
    "registry",
    "registry.builtin",
    "commands",
    "commands.arguments",
    "commands.template",
    "commands.wording",
    "cli",
    "__main__",
]

# A stage is a function of its arguments: where it runs, and what becomes of its losses, is for others to say.
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
        elif isinstance(node, ast.Attribute) and ast.unparse(node).startswith("vjepa_distill."):
            yield ast.unparse(node)


def ours(source: str, package: str) -> set[str]:
    """What a source imports of vjepa_distill, below its name; ``""`` for a name taken from the front door."""
    words = [name.split(".") for name in imports(source, package) if name.startswith("vjepa_distill.")]
    found = {".".join(word[1:]) for word in words} - {"__version__"}
    return {name if is_room(name.split(".")[0]) else "" for name in found}


def is_room(name: str) -> bool:
    return (PACKAGE / name).is_dir() or (PACKAGE / f"{name}.py").exists()


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


def within(name: str, place: str) -> bool:
    """Whether a dotted name is a room or file, or something in it."""
    return f"{name}.".startswith(f"{place}.")


@every_module()
def test_imports_go_strictly_downwards(path: Path) -> None:
    room, file = room_of(path), ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
    package = ".".join(path.relative_to(ROOT).parent.parts)
    forbidden = {place for here, places in NEVER.items() if within(file, here) for place in places}
    for name in ours(path.read_text(), package):
        assert name, f"{file} imports from vjepa_distill itself: inside, import from the module that has it"
        other = name.split(".")[0]
        assert other == room or layer_of(other) < layer_of(room), (
            f"{room} (layer {layer_of(room)}) imports {other} (layer {layer_of(other)})"
        )
        for place in forbidden:
            assert not within(name, place), f"{file} must not know {place}"


def test_what_is_forbidden_exists() -> None:
    for place in {*NEVER, *(place for places in NEVER.values() for place in places)}:
        path = PACKAGE / place.replace(".", "/")
        assert path.is_dir() or path.with_suffix(".py").is_file(), place


@pytest.mark.parametrize("room", sorted(path.parent for path in PACKAGE.rglob("*/__init__.py")), ids=str)
def test_every_room_says_what_it_is_for(room: Path) -> None:
    words = ast.get_docstring(ast.parse((room / "__init__.py").read_text())) or ""
    for part in ("In come", "; out go", "must never"):
        assert part in " ".join(words.split()), f"{room.name}/__init__.py does not say: {part} …"


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
            rooms = {name.split(".")[0] for name in ours(path.read_text(), "")}
            assert rooms <= {"", "testing"}, path


def test_the_checker_sees_lazy_relative_and_dynamic_imports() -> None:
    source = """
import os, vjepa_distill, vjepa_distill.modules.masks
print(vjepa_distill.__version__, vjepa_distill.modules.heads.Predictor)
def late():
    from vjepa_distill import registry, take
    from ..data import index
    importlib.import_module("vjepa_distill.training.log")
"""
    found = {
        "modules.masks",
        "modules.heads.Predictor",
        "modules.heads",
        "registry",
        "",
        "data.index",
        "training.log",
    }
    assert ours(source, "vjepa_distill.backbones") - {"data", "modules"} == found
