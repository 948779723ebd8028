"""The command line: help without torch, one line for bad input, settings that survive YAML and back."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml

from vjepa_distill import encode
from vjepa_distill.cli import build_parser, main
from vjepa_distill.commands.arguments import value_of, with_clip_of_run, with_nested_options, with_run_config
from vjepa_distill.errors import UserError

COMMANDS = [
    "distill",
    "jepa-train",
    "encode",
    "probe",
    "evaluate",
    "surprise",
    "report",
    "backbones",
    "plugins",
    "demo",
]
HEAVY = {"torch", "numpy", "timm", "av", "sklearn"}
# Runs the command line with the words given, then says which heavy modules it loaded, and its CPU seconds.
WATCHED = f"""
import sys, time
from vjepa_distill.cli import main
try:
    main(sys.argv[1:])
except SystemExit as ended:
    code = ended.code or 0
print(*sorted({HEAVY!r} & set(sys.modules)), file=sys.stderr)
print(time.process_time(), file=sys.stderr)
sys.exit(code)
"""
DISTILL = ["distill", "--out=x", "--teachers.main.name=conv/small"]
JEPA = ["jepa-train", "--out=x"]


def run(*words: Any) -> int:
    """The command line in this process; its exit code."""
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    return ended.value.code or 0


def watched(*words: str) -> tuple[str, str, float]:
    """What a command prints, which heavy modules it loaded, and its CPU seconds, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", WATCHED, *words], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    loaded, seconds = done.stderr.splitlines()[-2:]
    return done.stdout, loaded, float(seconds)


@pytest.mark.parametrize("words", [["--help"], *([name, "--help"] for name in COMMANDS)], ids=" ".join)
def test_help_answers_fast_and_without_torch(words: list[str]) -> None:
    said, loaded, seconds = watched(*words)
    assert said.startswith("usage: vjepa-distill")
    assert loaded == ""
    assert seconds < 3, "about 0.3 on one core; torch alone takes longer"


@pytest.mark.parametrize("what", ["backbones", "plugins"])
def test_lists_are_json_without_torch(what: str) -> None:
    said, loaded, _ = watched(what, "list", "--json")
    rows = json.loads(said)
    assert loaded == ""
    assert "builtin" in {row.get("plugin", row["name"]) for row in rows}
    assert watched(what, "list")[1] == ""


def test_the_list_names_every_registered_backbone() -> None:
    from vjepa_distill.registry import catalogue

    rows = json.loads(watched("backbones", "list", "--json")[0])
    assert [row["name"] for row in rows] == list(catalogue("backbone"))


def test_the_help_lists_every_subcommand_and_every_setting() -> None:
    from vjepa_distill.settings import DistillConfig, JepaConfig

    assert list(build_parser()._subcommands_action.choices) == COMMANDS
    for name, schema in (("distill", DistillConfig), ("jepa-train", JepaConfig)):
        text = build_parser()._subcommands_action.choices[name].format_help()
        assert not [field.name for field in fields(schema) if f"--{field.name}" not in text]


def test_the_package_runs_as_a_module() -> None:
    command = [sys.executable, "-m", "vjepa_distill"]
    done = subprocess.run([*command, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.split()[-1].count(".") == 2
    done = subprocess.run([*command, "distill", "--stpes", "3"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("vjepa-distill: error: ")


REFUSED = {
    "an option nobody knows": ([*DISTILL, "--stpes=3"], ["--stpes", "Did you mean --steps"]),
    "an abbreviated option": ([*DISTILL, "--batch=3"], ["--batch", "Did you mean --batch_size"]),
    "an abbreviated group": ([*DISTILL, "--data.num=3"], ["--data.num"]),
    "an abbreviation in encode": (["encode", "--fro=x", "--out=y"], ["--from"]),
    "an abbreviation in probe": (["probe", "--feat=x"], ["--feat=x", "--features"]),
    "required options left out": (["probe", "--features=x"], ["--labels, --column"]),
    "no source to encode": (["encode"], ["--from, --out"]),
    "an abbreviation in demo": (["demo", "--ou=x"], ["--ou", "--out"]),
    "no subcommand": ([], ["distill,jepa-train,encode"]),
    "a misspelt subcommand": (["distil"], ["'distil'", "'distill'", "Did you mean distill?"]),
    "a misspelt action": (["backbones", "shwo", "vjepa/tiny"], ["Did you mean show?"]),
    "a clip that does not fit": (
        ["backbones", "check", "conv/small", "--clip", "4", "33", "48"],
        ["--clip 4 33 48", "4 frames of 32 x 48"],
    ),
    "words where a number belongs": (
        [*DISTILL, "--steps=many"],
        ["error: --steps: expected a whole number; got many"],
    ),
    "words in a clip": (
        ["backbones", "show", "x", "--clip", "a", "b", "c"],
        ["--clip: expected a whole number"],
    ),
    "a word where options belong": (
        [*DISTILL, "--student.options=big"],
        ["--student.options: expected a mapping such as '{a: 1}'; got big"],
    ),
    "a word where a picture's size belongs": (
        [*DISTILL, "--data.size=big"],
        ["--data.size: expected a whole number or a list such as '[a, b]'; got big"],
    ),
    "an unknown precision": ([*DISTILL, "--amp=fp8"], ["--amp: expected one of bf16, fp16, fp32; got fp8"]),
    "a backbone without .name": ([*DISTILL, "--student=vjepa/tiny"], ["type --student.name vjepa/tiny"]),
    "a teacher without .name": ([*DISTILL, "--teachers.main=hf/x"], ["type --teachers.NAME.name hf/x"]),
    "an optimizer of one word": ([*DISTILL, "--optimizer=adam"], ["--optimizer is set", "--optimizer.lr"]),
    "a weight of a word": ([*DISTILL, "--objectives.match.weight=x"], ["weight: expected a number", "got x"]),
    "a key of a component": (
        ["distill", "--out=x", "--teachers.main.nme=conv/small"],
        ["nme", "Did you mean name"],
    ),
    "steps 0": ([*DISTILL, "--steps=0"], ["steps=0", "above 0"]),
    "no run folder": (["jepa-train"], ["--out"]),
    "no teacher": (["distill", "--out=x"], ["0 teachers", "1 is needed", "--teachers.main.name"]),
    "two teachers": ([*DISTILL, "--teachers.other.name=conv/small"], ["2 teachers"]),
    "a teacher without a name": (
        ["distill", "--out=x", "--teachers.main.options.patch=8"],
        ["'main'", "--teachers.main.name"],
    ),
    "a warm-up as long as the run": (
        [*DISTILL, "--steps=10", "--optimizer.warmup=10"],
        ["10 steps", "not shorter than the run of 10"],
    ),
    "a warm-up longer than the run": (
        [*JEPA, "--steps=200", "--optimizer.warmup=2000"],
        ["optimizer.warmup", "2000", "200"],
    ),
    "spans that do not sum": ([*JEPA, "--spans.now=6"], ["6 + 16 + 64 = 86", "data.num_frames is 84"]),
    "a span that is no tubelets": (
        [*JEPA, "--spans.now=5", "--spans.soon=15"],
        ["spans.now=5", "tubelets of 2", "use 4 or 6"],
    ),
    "a span of nothing": (
        [*JEPA, "--spans.now=20", "--spans.soon=0"],
        ["spans.soon=0", "--objectives.soon.weight 0"],
    ),
    "two ways of an average": ([*JEPA, "--ema.momentum=[0.99, 1.0]"], ["ema.half_life=0.05", "null"]),
    "every loss off": ([*DISTILL, "--objectives.match.weight=0"], ["every objective has weight 0"]),
    "a loss below 0": ([*DISTILL, "--objectives.match.weight=-1"], ["weight=-1"]),
    "a picture of three sides": (
        [*DISTILL, "--data.size=[1, 2, 3]"],
        ["data.size=[1, 2, 3]", "[height, width]"],
    ),
    "fps without a rate": ([*DISTILL, "--data.sampling=fps"], ["--data.fps 8"]),
    "resume and overwrite": ([*DISTILL, "--resume", "--overwrite"], ["--resume", "--overwrite"]),
    "resume of nothing": ([*DISTILL, "--resume"], ["x", "config.yaml"]),
    "fp16 on a CPU": ([*DISTILL, "--amp=fp16", "--device=cpu"], ["--amp fp16 needs CUDA", "bf16"]),
    "init from nowhere": ([*JEPA, "--init=nowhere"], ["nowhere"]),
    "a name without clips": (["evaluate", "vjepa/tiny"], ["--data.num_frames N --data.size"]),
    "features that are no safetensors": (
        ["encode", "--from=vjepa/tiny", "--out=f.npy", "--data.size=32"],
        ["f.npy.safetensors"],
    ),
    "an option of encode's backbone": (
        ["encode", "--from=vjepa/tiny", "--out=f.safetensors", "--options.dept=3", "--data.size=32"],
        ["dept", "depth"],
    ),
    "a check of nothing": (["backbones", "check"], ["check NAME"]),
    "a check of an unknown name": (["backbones", "check", "vjepa/tny"], ["vjepa/tiny"]),
    "a home of nobody": ([*DISTILL, "--data.root=~nobody-here/clips"], ["~nobody-here/clips"]),
    "seconds of no labels": (
        ["evaluate", "vjepa/tiny", "--data.size=32", "--data.num_frames=4", "--seconds=1"],
        ["--seconds 1 of which labels", "--labels FILE.csv"],
    ),
    "a newer layout": ([*JEPA, "--format=3"], ["format 3", "upgrade"]),
}


@pytest.mark.parametrize("what", REFUSED)
def test_bad_input_is_one_line_and_code_2(what: str, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    words, expected = REFUSED[what]
    assert run(*words) == 2
    printed = capsys.readouterr()
    (line,) = printed.err.strip().splitlines()
    assert printed.out == ""
    assert line.startswith("vjepa-distill: error: ")
    assert not [piece for piece in expected if piece not in line], line
    assert list(tmp_path.iterdir()) == [], "nothing was written"


UNKNOWN_KEYS = {
    "stpes: 3": ["stpes", "Did you mean steps"],
    "data: {root: x, num_frmes: 4}": ["data.num_frmes", "data.num_frames"],
    "optimizer: {learning_rate: 1}": ["optimizer.learning_rate"],
    "teachers: {main: {nme: conv/small}}": ["nme", "Did you mean name"],
    "objectives: {match: {wieght: 1}}": ["wieght", "Did you mean weight"],
    "steps: [": ["c.yaml is not YAML: ", "at line 2"],
    "steps: many": ["--steps: expected a whole number; got many"],
    "data: 3": ["data is set by its parts, and 3 is none", "data: {source: …"],
    "optimizer: [1]": ["optimizer is set by its parts, and [1] is none"],
    "trouble: null": ["trouble is set by its parts, and null is none"],
    "student: 3": ["student is set by its parts, and 3 is none", "student: {name: …"],
}


@pytest.mark.parametrize("text", UNKNOWN_KEYS)
def test_an_unknown_key_in_yaml_is_one_line_and_code_2(text: str, tmp_path: Path, capsys) -> None:
    (tmp_path / "c.yaml").write_text(text)
    assert run(*DISTILL, "--config", tmp_path / "c.yaml") == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert not [piece for piece in UNKNOWN_KEYS[text] if piece not in line], line


def test_a_missing_yaml_file_is_named(capsys) -> None:
    assert run(*DISTILL, "--config", "nowhere.yaml") == 2
    assert re.search("error: --config: File does not exist: '.*nowhere.yaml'", capsys.readouterr().err)


MANY = {
    "distill": [
        *DISTILL[1:],
        *(
            "--teachers.main.options.patch=8",
            "--teachers.main.options.tubelet",
            "4",
            "--student.options.depth=2",
        ),
        *("--student.options.drop_path=0.1", "--data.size=[64, 96]", "--data.files=['a/*.mp4', 'b.mkv']"),
        *(
            "--objectives.match.options.share=0.5",
            "--optimizer.lr_batch=null",
            "--optimizer.betas=[0.8, 0.9]",
        ),
    ],
    "jepa-train": [
        *JEPA[1:],
        *("--ema.half_life=null", "--ema.momentum=[0.99, 1.0]", "--objectives.eventually.options.queue=32"),
        *("--objectives.soon.weight=0", "--predictor.heads=3", "--teacher_context=segment", "--init=a_run"),
    ],
}


@pytest.mark.parametrize("verb", MANY)
def test_the_printed_configuration_says_the_same_again(verb: str, tmp_path: Path, capsys) -> None:
    assert run(verb, *MANY[verb], "--print_config") == 0
    printed = capsys.readouterr().out
    (tmp_path / "c.yaml").write_text(printed)
    assert run(verb, "--config", tmp_path / "c.yaml", "--print_config") == 0
    assert capsys.readouterr().out == printed
    assert {"distill": "b.mkv", "jepa-train": "a_run"}[verb] in printed


def test_numbers_in_options_stay_numbers(tmp_path: Path, capsys) -> None:
    (tmp_path / "c.yaml").write_text("student: {options: {width: 24, position: rotary}}\n")
    words = ["--config", tmp_path / "c.yaml", *MANY["distill"], "--print_config"]
    assert run("distill", *words) == 0
    settings = yaml.safe_load(capsys.readouterr().out)
    expected = {"width": 24, "position": "rotary", "depth": 2, "drop_path": 0.1}
    assert settings["student"]["options"] == expected, "the file's and the command line's"
    assert settings["teachers"]["main"]["options"] == {"patch": 8, "tubelet": 4}
    assert settings["objectives"]["match"]["options"] == {"share": 0.5}
    assert isinstance(settings["teachers"]["main"]["options"]["patch"], int)


def test_the_command_line_overrules_the_file_and_the_file_the_defaults(tmp_path: Path, capsys) -> None:
    (tmp_path / "c.yaml").write_text("steps: 7\nbatch_size: 5\nteachers: {main: {name: vjepa/tiny}}\n")
    assert run("distill", "--config", tmp_path / "c.yaml", "--out=x", "--steps=9", "--print_config") == 0
    settings = yaml.safe_load(capsys.readouterr().out)
    assert (settings["steps"], settings["batch_size"], settings["accumulate"]) == (9, 5, 1)


def test_dotted_options_of_mappings_keep_what_the_file_gives(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("teachers: {main: {name: timm/x, options: {time: mean, tubelet: 2}}}\n")
    words = ["distill", "--config", str(file), "--teachers.main.options.tubelet", "4", "--steps=3"]
    words += ["--teachers.main.options.weights=a=b.safetensors", "--teachers.main.options.timm={depth: 1}"]
    *rest, option, value = with_nested_options(words)
    assert rest == ["distill", "--config", str(file), "--steps=3"]
    assert option == "--teachers.main.options"
    assert json.loads(value) == {
        "time": "mean",
        "tubelet": 4,
        "weights": "a=b.safetensors",
        "timm": {"depth": 1},
    }


def test_resume_alone_takes_the_settings_of_the_run(tmp_path: Path) -> None:
    assert value_of(["--out=a=b"], "--out") == "a=b"
    assert value_of(["--out", "a"], "--out") == "a"
    assert value_of(["--out"], "--out") is None
    words = ["distill", "--out", str(tmp_path), "--resume"]
    assert with_run_config(words) == words, "there is no run yet"
    (tmp_path / "config.yaml").write_text("steps: 3\n")
    assert with_run_config(words) == ["distill", "--config", str(tmp_path / "config.yaml"), *words[1:]]
    assert with_run_config([*words, "--config=mine.yaml"]) == [*words, "--config=mine.yaml"]
    assert with_run_config(words[:-1]) == words[:-1], "no --resume"


def test_encode_cuts_clips_as_the_run_did_unless_told_otherwise(tmp_path: Path) -> None:
    from vjepa_distill import registry
    from vjepa_distill.runs import exports

    clip = {"num_frames": 8, "height": 32, "width": 48, "sampling": "fps", "fps": 4.0}
    record = {"backbone": registry.provenance("backbone", "conv/small", {}), "clip": clip}
    backbone = registry.create("backbone", "conv/small", width=8)
    exports.export_backbone(tmp_path / "student.safetensors", backbone, record)
    words = ["encode", "--from", str(tmp_path), "--out=f.safetensors", "--data.num_frames=6"]
    data = build_parser().parse_args(with_clip_of_run(words, str(tmp_path))).encode.data
    assert (data.num_frames, data.size, data.sampling, data.fps) == (6, [32, 48], "fps", 4.0)
    named = ["encode", "--from=vjepa/tiny", "--data.size=32"]
    assert with_clip_of_run(named, "vjepa/tiny") == named
    with pytest.raises(UserError, match=r"vjepa/tiny is no run.*: type --data.num_frames N --data.size"):
        with_clip_of_run([*named[:2], "--data.root=data"], "vjepa/tiny")
    with pytest.raises(UserError, match="vjepa/tiny is no run"):
        encode("vjepa/tiny", tmp_path / "f.safetensors", {"root": "data"})


def test_encodes_flags_stand_alone_or_with_a_value() -> None:
    for words, expected in (([], False), (["--overwrite"], True), (["--overwrite", "false"], False)):
        chosen = build_parser().parse_args(["encode", "--from=a", "--out=b", *words]).encode
        assert chosen.overwrite is expected


@pytest.fixture
def probed(tmp_path: Path) -> list[str]:
    """What probe needs before --column: eight files with a shape, a vx and a column "a,b"."""
    import numpy as np
    from safetensors.numpy import save_file

    files = [f"{number}.mp4" for number in range(8)]
    save_file({"features": np.random.default_rng(0).normal(size=(8, 2))}, tmp_path / "f.safetensors")
    (tmp_path / "f.json").write_text(json.dumps({"format": 1, "files": files}))
    rows = [f"{file},{'xy'[number % 2]},{number},{'uv'[number % 2]}" for number, file in enumerate(files)]
    (tmp_path / "labels.csv").write_text("\n".join(['file,shape,vx,"a,b"', *rows]))
    return ["probe", f"--features={tmp_path / 'f.safetensors'}", f"--labels={tmp_path / 'labels.csv'}"]


def test_several_columns_are_one_table_or_a_list_in_order(probed: list[str], capsys, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert run(*probed, "--column=vx,shape") == 0
    table = capsys.readouterr().out
    assert table.count("score") == 1
    assert max(map(len, table.splitlines())) <= 80
    assert [line.split()[1] for line in table.splitlines() if "│" in line] == ["vx", "vx", "shape", "shape"]
    assert run(*probed, "--column=vx,shape", "--json") == 0
    both = json.loads(capsys.readouterr().out)
    for column, one in zip(["vx", "shape"], both, strict=True):
        assert run(*probed, f"--column={column}", "--json") == 0
        assert json.loads(capsys.readouterr().out) == one
    assert run(*probed, "--column=a,b", "--json") == 0
    assert json.loads(capsys.readouterr().out)["column"] == "a,b"


@pytest.mark.parametrize(
    ("column", "said"),
    [
        ("shape,,vx", "--column shape,,vx holds an empty name: type --column shape,vx"),
        ("shape,shape", "--column shape,shape holds a name twice: type --column shape"),
        (",", "--column , holds an empty name: type --column NAME,NAME"),
        ("vx,shap", "has no column 'shap'; it has file, shape, vx, a,b. Did you mean 'shape'?"),
    ],
)
def test_a_bad_list_of_columns_is_one_line(column: str, said: str, probed: list[str], capsys) -> None:
    assert run(*probed, f"--column={column}") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith(said)


def test_a_backbone_is_held_to_its_contract(tmp_path: Path, capsys) -> None:
    (tmp_path / "leak.py").write_text(
        "from vjepa_distill.backbones.vjepa import VideoViT\n"
        "from vjepa_distill import take\n"
        "class Leak(VideoViT):\n"
        "    def __init__(self): super().__init__(1, 24, 2)\n"
        "    def forward(self, clip, keep=None):\n"
        "        tokens = super().forward(clip)\n"
        "        return tokens if keep is None else take(tokens, keep)\n"
    )
    assert run("backbones", "check", "conv/small", "--options.width=8", "--json") == 0
    rows = json.loads(capsys.readouterr().out)
    assert [set(row) for row in rows] == [{"check", "passed", "expected", "came", "mend"}] * len(rows)
    assert {row["passed"] for row in rows} == {True}
    assert run("backbones", "check", f"{tmp_path}/leak.py:Leak", "--json") == 1
    report = {row["check"]: row for row in json.loads(capsys.readouterr().out)}
    assert [name for name, row in report.items() if not row["passed"]] == ["no leak from hidden pixels"]
    assert "vjepa_distill.Hidden" in report["no leak from hidden pixels"]["mend"]


def test_the_table_of_a_check_is_readable_at_80_columns(tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    (tmp_path / "flat.py").write_text(
        "from vjepa_distill.backbones.vjepa import VideoViT\n"
        "class Flat(VideoViT):\n"
        "    def __init__(self): super().__init__(1, 24, 2, tubelet=(2, 32, 32))\n"
        "    def forward(self, *given): return super().forward(*given)[..., 1:]\n"
    )
    assert run("backbones", "check", f"{tmp_path}/flat.py:Flat") == 1
    said = capsys.readouterr().out
    assert max(map(len, said.splitlines())) <= max(80, len(f"{tmp_path}/flat.py:Flat"))
    words = " ".join(said.split())
    assert "tried with 4 frames of 64 x 96 pixels" in words, "32 x 48 is none of its sizes"
    for part in ("pass members", "FAIL shape and grid agree", "expected", "came", "to mend it:", "1 of them"):
        assert part in words
    assert "(2, 12, 23)" in words


def test_a_stored_encoder_is_checked_and_shown(tmp_path: Path, capsys) -> None:
    from vjepa_distill import registry
    from vjepa_distill.runs import exports

    clip = {"num_frames": 4, "height": 32, "width": 48, "sampling": "all", "fps": None}
    record = {"backbone": registry.provenance("backbone", "conv/small", {"width": 8}), "clip": clip}
    backbone = registry.create("backbone", "conv/small", width=8)
    path = exports.export_backbone(tmp_path / "student.safetensors", backbone, record | {"stage": "distill"})
    for source in (tmp_path, path):
        assert run("backbones", "check", source, "--json") == 0
        rows = json.loads(capsys.readouterr().out)
        assert rows[-1]["check"] == "state loads into a fresh one"
    assert run("backbones", "show", tmp_path, "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["clip"] == [4, 32, 48]
    assert facts["weights"] == f"{path} (stage distill)"
    assert facts["parameters"] == sum(p.numel() for p in backbone.parameters())
    assert facts["options"] == {"width": 8}


def test_torchs_fused_layers_are_counted(tmp_path: Path, capsys) -> None:
    """TransformerEncoderLayer in eval() runs one kernel that torch's counter does not know."""
    (tmp_path / "two.py").write_text(
        "from torch import nn\n"
        "from vjepa_distill import Grid\n"
        "class Two(nn.Module):\n"
        "    embed_dim = 8\n"
        "    def __init__(self, depth: int):\n"
        "        super().__init__()\n"
        "        layer = nn.TransformerEncoderLayer(8, 2, 16, 0.0, batch_first=True)\n"
        "        self.mix = nn.TransformerEncoder(layer, depth)\n"
        "    def grid(self, T, H, W): return Grid(1, H // 8, W // 8)\n"
        "    def forward(self, clip, keep=None):\n"
        "        return self.mix(clip[:, :2, :4, ::8, ::8].flatten(1, 2).flatten(2).transpose(1, 2))\n"
    )
    counts = []
    for depth in (1, 2):
        how = ["--options", f"{{depth: {depth}}}", "--clip", 4, 32, 32, "--json"]
        assert run("backbones", "show", f"{tmp_path}/two.py:Two", *how) == 0
        counts.append(json.loads(capsys.readouterr().out)["flops"])
    cells, width = 16, 8
    linear = 2 * cells * width * (4 * width + 2 * 16)
    assert counts[0] >= linear
    assert counts[1] == 2 * counts[0]


def test_show_counts_and_measures(tmp_path: Path, capsys, monkeypatch) -> None:
    """One linear layer on one cell: its FLOPs are 2 x inputs x outputs, its parameters can be counted."""
    (tmp_path / "one.py").write_text(
        "from torch import nn\n"
        "from vjepa_distill import Grid, UserError\n"
        "class One(nn.Module):\n"
        "    embed_dim = 10\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.map = nn.Linear(3 * 2 * 8 * 4, 10, bias=False)\n"
        "        self.spare = nn.Linear(2, 2).requires_grad_(False)\n"
        "    def grid(self, T, H, W):\n"
        "        if (T, H, W) != (2, 8, 4): raise UserError('takes 2 frames of 8 x 4 alone')\n"
        "        return Grid(1, 1, 1)\n"
        "    def forward(self, clip, keep=None): return self.map(clip.flatten(1))[:, None]\n"
        "    def describe(self): return {'licence': '[bold] MIT', 'paper': 'none'}\n"
    )
    assert run("backbones", "show", f"{tmp_path}/one.py:One", "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["clip"], facts["tokens"], facts["embed_dim"]) == ([2, 8, 4], 1, 10)
    assert (facts["parameters"], facts["frozen"], facts["flops"]) == (1926, 6, 2 * 192 * 10)
    assert facts["clips_per_second"] > 0
    assert facts["peak_memory_bytes"] > 2**20
    assert facts["licence"] == "[bold] MIT"
    assert facts["weights"] == "not said"
    monkeypatch.setenv("COLUMNS", "80")
    assert run("backbones", "show", f"{tmp_path}/one.py:One", "--clip", 2, 8, 4) == 0
    said = capsys.readouterr().out
    assert [
        part for part in ("1.93 k, 6 of them frozen", "[bold] MIT", "paper", "not said") if part not in said
    ] == []
    assert run("backbones", "show", f"{tmp_path}/one.py:One", "--clip", 2, 8, 5) == 2
    assert "takes 2 frames of 8 x 4 alone" in capsys.readouterr().err


def test_a_long_clip_is_cut_short_where_it_would_take_too_long(monkeypatch) -> None:
    import torch

    from vjepa_distill import registry
    from vjepa_distill.commands import measure
    from vjepa_distill.commands.show import clips_of

    module = registry.create("backbone", "conv/small", width=8)
    clips = clips_of(module, (16, 32, 32))
    assert clips == [(2, 32, 32), (4, 32, 32), (8, 32, 32), (16, 32, 32)]
    monkeypatch.setattr(measure, "REPEAT", 0)
    assert measure.measure(module, clips, torch.device("cpu")).clip == (16, 32, 32)
    monkeypatch.setattr(measure, "LONGEST", 0)
    assert measure.measure(module, clips, torch.device("cpu")).clip == (2, 32, 32)


def test_a_family_is_listed_by_prefix_and_pattern(capsys) -> None:
    assert run("backbones", "list", "timm/vit_tiny_patch16", "--json") == 0
    names = [row["name"] for row in json.loads(capsys.readouterr().out)]
    assert "timm/vit_tiny_patch16_224" in names
    assert all(name.startswith("timm/vit_tiny_patch16") for name in names)
    assert run("backbones", "list", "timm/*naflex*", "--json") == 0
    assert all("naflex" in row["name"] for row in json.loads(capsys.readouterr().out))
    assert run("backbones", "list", "vjepa/t", "--json") == 0
    assert [row["name"] for row in json.loads(capsys.readouterr().out)] == ["vjepa/tiny"]
    assert run("backbones", "list", "vjepa/teeny") == 2
    assert "Did you mean vjepa/tiny" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["list"], ["list", "--json"]], ids=" ".join)
def test_a_reader_that_stops_listening_hears_no_more(words: list[str]) -> None:
    command = [sys.executable, "-m", "vjepa_distill", "backbones", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()
        complaint = process.stderr.read()
    assert complaint == ""
    assert process.returncode in (1, 141), "rich leaves with 1"
