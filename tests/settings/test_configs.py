"""Every file in configs/: it parses, so does the command it opens with, and a tiny version makes steps."""

from __future__ import annotations

import inspect
import json
import math
import shlex
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from vjepa_distill import cli, registry
from vjepa_distill.cli import TRAINING, build_parser, configured, main
from vjepa_distill.commands.arguments import with_named_config, with_nested_options
from vjepa_distill.errors import UserError
from vjepa_distill.modules.heads import Predictor
from vjepa_distill.registry import lookup
from vjepa_distill.runs.folder import plain
from vjepa_distill.settings import Component, DistillConfig, JepaConfig, Run

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "configs").glob("*.yaml"))
STAGE = {file.stem: "distill" if file.stem.startswith("distill") else "jepa-train" for file in FILES}

SMALL = [
    "--data.num_frames=8",
    "--data.size=32",
    "--data.heldout=0.2",
    "--batch_size=4",
    "--steps=2",
    "--device=cpu",
]
SMALL += ["--log_every=1", "--optimizer.warmup=1", "--amp=fp32"]
STUDENT = [f"--student.options.{word}" for word in ("depth=1", "width=24", "heads=2")]
TEACHER = ["--statistics_batches=1", "--teachers.main.options.pretrained=false"]
TEACHER += ['--teachers.main.options.timm={"depth": 1, "embed_dim": 24, "num_heads": 2}']
JEPA = ["--spans.now=2", "--spans.soon=2", "--spans.eventually=4"]
JEPA += ["--predictor.depth=1", "--predictor.width=24", "--predictor.heads=2"]
PATCH = ["--student.options.patch=8"]
TINY = {
    "distill": [*SMALL, *STUDENT, *TEACHER],
    "distill_small": [*SMALL, *STUDENT, *TEACHER, *PATCH],
    "jepa": [*SMALL, *STUDENT, *JEPA, *PATCH],
    "jepa_small": [*SMALL, *JEPA],
    "scaffold": [*SMALL, *STUDENT, *JEPA, *PATCH, "--objectives.eventually.options.heads=2"],
}


def every_file() -> pytest.MarkDecorator:
    return pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)


def parsed(*words: str) -> Run:
    """The typed configuration of a command line, made as the command line makes it."""
    parser = build_parser()
    chosen = parser.parse_args(with_nested_options([str(word) for word in words]))
    verb = parser._subcommands_action.choices[chosen.command]
    return configured(TRAINING[chosen.command], verb, chosen[chosen.command])


def opening(file: Path) -> list[str]:
    """The words of the command that a file opens with."""
    return shlex.split(file.read_text(encoding="utf-8").splitlines()[0].removeprefix("# "))


def leaves(settings: Any, place: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every value of nested settings, with the keys that lead to it."""
    if not isinstance(settings, dict):
        yield place, settings
        return
    for key, inner in settings.items():
        yield from leaves(inner, (*place, key))


def at(settings: Any, place: tuple[str, ...]) -> Any:
    for key in place:
        settings = settings[key]
    return settings


def test_every_file_has_a_tiny_version() -> None:
    assert set(TINY) == {file.stem for file in FILES}


@every_file()
def test_every_value_of_the_file_arrives_in_the_configuration(file: Path) -> None:
    config = parsed(STAGE[file.stem], "--config", str(file), "--out=x")
    assert type(config) is {"distill": DistillConfig, "jepa-train": JepaConfig}[STAGE[file.stem]]
    resolved = plain(config)
    for place, value in leaves(yaml.safe_load(file.read_text(encoding="utf-8"))):
        found = at(resolved, place)
        assert found == value, ".".join(place)
        assert isinstance(found, str | bool) == isinstance(value, str | bool), "a number stays a number"


@every_file()
@pytest.mark.parametrize("form", ["--config {}", "--config={}", "--config {}.yaml"])
def test_its_name_is_enough_in_any_folder(
    file: Path, form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / file.stem).mkdir()  # a folder of that name is no configuration
    seen: list[Run] = []
    monkeypatch.setattr(cli.train, "train", lambda name, config: seen.append(config) or 0)
    assert cli.run([STAGE[file.stem], *form.format(file.stem).split(), "--out=x"]) == 0
    assert plain(seen[0]) == plain(parsed(STAGE[file.stem], "--config", str(file), "--out=x"))


def test_an_unknown_name_lists_those_there_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as refused:
        cli.run(["distill", "--config", "distil", "--out=x"])
    assert str(refused.value).startswith("--config distil: ")
    assert str(refused.value).endswith(", ".join(file.stem for file in FILES))
    assert "\n" not in str(refused.value)


def test_a_path_wins_over_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "jepa").write_text("steps: 3")
    for words in (["--config", "jepa"], ["--config=jepa"], ["--config", "none/jepa.yaml"], ["--config"]):
        assert with_named_config(["jepa-train", *words]) == ["jepa-train", *words]


@pytest.mark.slow
def test_the_wheel_has_every_file_and_every_module(tmp_path: Path) -> None:
    """Offline, from a copy: nothing that a former build left behind helps."""
    source = tmp_path / "source"
    shutil.copytree(
        ROOT / "vjepa_distill", source / "vjepa_distill", ignore=shutil.ignore_patterns("__pycache__")
    )
    shutil.copytree(ROOT / "configs", source / "configs")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-index", "--no-deps", "--no-build-isolation"]
    done = subprocess.run([*pip, "-w", str(tmp_path), str(source)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    packed = zipfile.ZipFile(wheel)
    for file in FILES:
        assert packed.read(f"vjepa_distill/configs/{file.name}") == file.read_bytes()
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "vjepa_distill").rglob("*.py")}
    assert modules <= set(packed.namelist()), "pyproject.toml lists the packages by name"


@every_file()
def test_the_command_it_opens_with_parses_and_names_it(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    program, verb, *words = opening(file)
    assert (program, verb) == ("vjepa-distill", STAGE[file.stem])
    assert words[:2] == ["--config", f"configs/{file.name}"]
    config = parsed(verb, *words)
    assert config.out.startswith("runs/")
    assert "Expect" in file.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def distilled(tmp_path_factory: pytest.TempPathFactory, world_folder: Path) -> Path:
    """What configs/distill_small.yaml makes, tiny."""
    return steps(ROOT / "configs" / "distill_small.yaml", tmp_path_factory.mktemp("d") / "run", world_folder)


def steps(file: Path, out: Path, world: Path, *more: str) -> Path:
    """Two steps of the tiny version of a file."""
    words = [
        STAGE[file.stem],
        "--config",
        file,
        *TINY[file.stem],
        *more,
        f"--data.root={world}",
        f"--out={out}",
    ]
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    assert ended.value.code == 0
    return out


@every_file()
def test_a_tiny_version_makes_real_steps(
    file: Path, tmp_path: Path, world_folder: Path, distilled: Path
) -> None:
    more = ["--init", str(distilled)] if file.stem == "jepa_small" else []
    out = distilled if file.stem == "distill_small" else steps(file, tmp_path / "run", world_folder, *more)
    rows = [json.loads(row) for row in (out / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2]
    losses = ["match"] if STAGE[file.stem] == "distill" else ["now", "soon", "eventually"]
    for row in rows:
        assert all(math.isfinite(row[name]) and row["norm"] > 0 for name in losses)
    assert (out / "student.safetensors").exists()


def test_the_default_recipes_are_the_defaults() -> None:
    """distill.yaml and jepa.yaml spell defaults out; a default that changes must change there too."""
    teacher = {"main": Component("timm/vit_base_patch16_224", {"pretrained": True, "time": "first"})}
    for stem, default in (
        ("distill", DistillConfig(out="x", teachers=teacher)),
        ("jepa", JepaConfig(out="x")),
    ):
        config = plain(parsed(STAGE[stem], "--config", str(ROOT / "configs" / f"{stem}.yaml"), "--out=x"))
        for term in config["objectives"].values():
            factory = inspect.signature(lookup._factory(registry.resolve("objective", term["name"])[0]))
            for name, value in term.pop("options").items():
                assert factory.parameters[name].default == value, name
            term["options"] = {}
        assert config == plain(default)


# The scaffold's mathematics and defaults, written down from its description.
SCAFFOLD = {
    "student.name": "vjepa/base",
    "student.options.width": 768,
    "student.options.depth": 12,
    "student.options.heads": 12,
    "student.options.mlp_ratio": 4.0,
    "student.options.tubelet": 2,
    "student.options.patch": 16,
    "student.options.position": "sincos",
    "student.options.normalise": "none",
    "data.num_frames": 84,
    "data.size": 224,
    "data.sampling": "uniform",
    "data.crop": "center",
    "data.flip": 0.0,
    "data.heldout": 0.0,
    "spans.now": 4,
    "spans.soon": 16,
    "spans.eventually": 64,
    "tubelet": 2,
    "predictor.width": 384,
    "predictor.depth": 12,
    "predictor.heads": 12,
    "predictor.context_positions": False,
    "predictor.anchor": "none",
    "predictor.project_positions": True,
    "predictor.rope": None,
    "objectives.now.weight": 1.0,
    "objectives.now.name": "now",
    "objectives.now.options.short": [8, 0.15],
    "objectives.now.options.long": [2, 0.7],
    "objectives.now.options.aspect": [0.75, 1.5],
    "objectives.now.options.layout": "shared",
    "objectives.soon.weight": 1.0,
    "objectives.soon.name": "soon",
    "objectives.soon.options": {},
    "objectives.eventually.weight": 0.25,
    "objectives.eventually.name": "eventually",
    "objectives.eventually.options.temperature": 0.2,
    "objectives.eventually.options.symmetric": False,
    "objectives.eventually.options.queue": 0,
    "objectives.eventually.options.queries": 8,
    "objectives.eventually.options.heads": 12,
    "teacher_context": "full",
    "normalise_target": False,
    "ema.half_life": None,
    "ema.momentum": [0.996, 0.996],
    "collapse.stop": 0,
    "optimizer.lr": 1e-4,
    "optimizer.lr_batch": None,
    "optimizer.betas": [0.9, 0.95],
    "optimizer.student": 1.0,
    "optimizer.weight_decay": 0.05,
    "optimizer.decay_all": True,
    "optimizer.warmup": 2000,
    "optimizer.final": 0.0,
    "optimizer.clip": 1.0,
    "steps": 200000,
}


def scaffold() -> JepaConfig:
    config = parsed("jepa-train", "--config", str(ROOT / "configs" / "scaffold.yaml"), "--out=x")
    assert isinstance(config, JepaConfig)
    return config


def test_the_scaffold_value_by_value() -> None:
    resolved = plain(scaffold())
    for place, value in SCAFFOLD.items():
        assert at(resolved, tuple(place.split("."))) == value, place
    for group in ("student", "spans", "predictor", "objectives", "ema", "optimizer"):
        found = {".".join(place) for place, _ in leaves(resolved[group], (group,))}
        described = {place for place in SCAFFOLD if place.startswith(f"{group}.")}
        assert found == described - {"objectives.soon.options"}, "every setting of a group is accounted for"


def test_the_scaffolds_parts_have_its_sizes() -> None:
    config, dim = scaffold(), 768
    with torch.device("meta"):
        student = registry.create("backbone", config.student.name, **config.student.options)
        predictor = Predictor(dim, **vars(config.predictor))

    def block(width: int) -> int:
        """Four attention matrices and two of the MLP, all with biases, and two norms."""
        return 4 * (width * width + width) + 2 * 4 * width * width + 5 * width + 4 * width

    def size(module: torch.nn.Module) -> int:
        return sum(parameter.numel() for parameter in module.parameters())

    assert size(student) == (3 * 2 * 16 * 16 * dim + dim) + 12 * block(dim) + 2 * dim
    linears = 2 * (dim * 384 + 384) + (384 * dim + dim)
    assert size(predictor) == linears + 384 + 12 * block(384) + 2 * 384
    assert student.grid(84, 224, 224).length == 8232
    assert (student.blocks[0].attention.heads, predictor.blocks[0].attention.heads) == (12, 12)
    assert student.blocks[0].mlp[1].approximate == "none", "exact GELU"
