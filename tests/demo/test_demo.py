"""The demo: the whole road at its smallest, the commands it prints, and what it refuses."""

import json
import math
import shlex

import pytest

from vjepa_distill import cli, registry
from vjepa_distill.commands.arguments import with_nested_options
from vjepa_distill.demo import words
from vjepa_distill.demo.road import COLUMNS, Plan, claim, demo
from vjepa_distill.demo.teacher import Steps
from vjepa_distill.errors import UserError
from vjepa_distill.settings import Component, DistillConfig, JepaConfig, Optimizer, Spans

SMALLEST = Plan(
    videos=40,
    frames=8,
    size=32,
    batch=4,
    teacher=Component("conv/small", {"width": 8, "patch": 8}),
    teacher_steps=Steps(2, 2),
    student=Component("ruffle/tiny", {"depth": 1, "width": 24, "heads": 2, "patch": 8}),
    distill_steps=4,
    jepa_steps=4,
)


@pytest.mark.slow
def test_the_whole_road_ends_in_a_table_of_finite_scores(tmp_path, capsys):
    pytest.importorskip("vjepa_distill_ruffle")
    out = tmp_path / "demo"
    assert demo(str(out), SMALLEST) == 0
    scores = json.loads((out / "table.json").read_text())["scores"]
    assert list(scores) == ["random weights", "after distill", "after jepa-train", "the teacher"]
    for row in scores.values():
        assert list(row) == ["shape", "velocity", "outcome"]
        assert all(math.isfinite(value) for cell in row.values() for value in cell.values())
    # each row is another encoder: nothing was probed twice
    assert len({json.dumps(row) for row in scores.values()}) == 4
    said = capsys.readouterr()
    assert (out / "report.html").read_text().count("<img") > 4
    assert "report.html" in said.out
    assert max(map(len, said.out.splitlines())) <= 80
    assert f"{scores['after distill']['shape']['score']:.3f}" in said.out
    assert "vjepa-distill distill --student.name ruffle/tiny" in said.err
    assert said.err.count("vjepa-distill probe ") == said.err.count("vjepa-distill encode ") == 4
    probed = set(json.loads((out / "features" / "distill.json").read_text())["files"])
    trained = {entry["path"] for entry in json.loads((out / "index-train.json").read_text())["entries"]}
    assert len(probed) == 8
    assert not probed & trained


def test_a_second_demo_replaces_the_first(tmp_path):
    claim(tmp_path, SMALLEST)
    (tmp_path / "table.json").write_text("old")
    claim(tmp_path, SMALLEST)
    assert [path.name for path in tmp_path.iterdir()] == ["demo.json"]


def typed(command: str):
    """The configuration that the command line makes of a printed command."""
    program, name, *arguments = shlex.split(command)
    assert program == "vjepa-distill"
    parser = cli.build_parser()
    chosen = parser.parse_args(with_nested_options([name, *arguments]))
    return cli.configured(cli.TRAINING[name], parser._subcommands_action.choices[name], chosen[name])


def test_the_commands_it_prints_make_the_same_runs(tmp_path):
    data = SMALLEST.data(tmp_path / "a folder", "test")
    distill = DistillConfig(
        student=SMALLEST.student,
        teachers={"main": Component("some/teacher", {"width": 8})},
        data=data,
        optimizer=Optimizer(lr=1e-3),
        out="d",
        steps=7,
    )
    assert typed(words.command(distill)) == distill
    jepa = JepaConfig(init="d", data=data, spans=Spans(2, 2, 4), out="j", amp="fp32")
    assert typed(words.command(jepa)) == jepa


def test_the_encode_command_it_prints_reads_the_same_clips(tmp_path):
    data = SMALLEST.data(tmp_path / "a folder", "test")
    line = words.encode_command(tmp_path / "run", tmp_path / "f.safetensors", data, random_weights=True)
    verb = cli.build_parser()._subcommands_action.choices["encode"]
    chosen = verb.instantiate(verb.parse_args(shlex.split(line)[2:]))
    assert (chosen.source, chosen.random_weights, chosen.data) == (str(tmp_path / "run"), True, data)


def test_the_probe_command_it_prints_names_every_column(tmp_path):
    features, labels = tmp_path / "a folder" / "f.safetensors", tmp_path / "labels.csv"
    line = words.probe_command(features, labels, COLUMNS)
    chosen = cli.build_parser()._subcommands_action.choices["probe"].parse_args(shlex.split(line)[2:])
    assert (chosen.features, chosen.labels) == (str(features), str(labels))
    assert chosen.column == "shape,vx,vy,outcome"


def test_someone_elses_folder_is_refused_and_kept(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match="another --out"):
        demo(str(tmp_path), Plan(student=Component("vjepa/tiny")))
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_without_the_plugin_it_says_how_to_install_it(tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "catalogue", lambda kind: {})
    with pytest.raises(UserError, match="pip install -e plugins/vjepa-distill-ruffle"):
        demo(str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()
