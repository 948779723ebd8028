"""An export hands the same model on, and refuses in words what it cannot be built from."""

import pytest
import torch

from vjepa_distill import cli, registry
from vjepa_distill.errors import UserError
from vjepa_distill.modules.heads import Projector
from vjepa_distill.runs import exports

NAME, OPTIONS = "vjepa/tiny", {"depth": 1, "width": 48, "heads": 2}


def made(options=OPTIONS, stage="distill"):
    return {"backbone": registry.provenance("backbone", NAME, options), "stage": stage}


@pytest.fixture
def student():
    torch.manual_seed(0)
    return registry.create("backbone", NAME, **OPTIONS).eval()


@pytest.fixture
def run(tmp_path, student):
    """A finished stage 1: a student, its average, and a head."""
    exports.export_backbone(tmp_path / "student.safetensors", student, made())
    torch.manual_seed(1)
    average = registry.create("backbone", NAME, **OPTIONS)
    exports.export_backbone(tmp_path / "teacher.safetensors", average, made())
    exports.export_head(tmp_path / "head.safetensors", Projector(48, 10), {"stage": "distill"})
    return tmp_path


@pytest.mark.parametrize("source", ["run", "file"])
def test_an_exported_student_gives_the_same_tokens(run, student, source):
    clip = torch.rand(1, 3, 4, 32, 48)
    loaded = exports.load_backbone(run if source == "run" else run / "student.safetensors").eval()
    assert torch.equal(loaded(clip), student(clip))
    assert not torch.equal(exports.load_backbone(run, "teacher").eval()(clip), student(clip))


def test_an_export_needs_no_file_its_first_values_came_from(tmp_path):
    options = {"timm": {"embed_dim": 48, "depth": 1, "num_heads": 2}}
    name = "timm/vit_tiny_patch16_224"
    encoder = registry.create("backbone", name, **options)
    record = {"backbone": registry.provenance("backbone", name, {**options, "weights": "gone.safetensors"})}
    path = exports.export_backbone(tmp_path / "a.safetensors", encoder, record)
    assert exports.fingerprint(exports.load_backbone(path)) == exports.fingerprint(encoder)


SHAPED = """
import json
from pathlib import Path

from vjepa_distill.backbones.vjepa import tiny


def shaped(weights=None, width=None):
    width = width or json.loads(Path(weights).read_text())["width"]
    encoder = tiny(depth=1, width=width, heads=2, patch=8)
    encoder.rebuild_options = {"width": width}
    return encoder
"""


def test_a_student_whose_shape_was_in_a_file_outlives_the_file(tmp_path, tiny_distill, world_folder):
    (tmp_path / "shaped.py").write_text(SHAPED)
    weights = tmp_path / "weights.json"
    weights.write_text('{"width": 36}')
    given = ["--student.name", f"{tmp_path / 'shaped.py'}:shaped", "--student.options.weights", str(weights)]
    plain = [word for word in tiny_distill if not word.startswith("--student")]
    run = tmp_path / "run"
    assert cli.run(["distill", "--data.root", str(world_folder), "--out", str(run), *plain, *given]) == 0
    weights.unlink()
    record = exports.read_record(run / "student.safetensors")["backbone"]
    assert record["options"] == {"weights": str(weights), "width": 36}
    assert exports.load_backbone(run).embed_dim == 36


def test_random_weights_are_the_same_architecture_and_other_values(run, student):
    floor = exports.load_backbone(run, random_weights=True)
    assert floor.state_dict().keys() == student.state_dict().keys()
    assert exports.fingerprint(floor) != exports.fingerprint(student)


def test_loading_is_strict_and_says_what_is_wrong(tmp_path, student):
    record = made()
    record["backbone"]["options"]["depth"] = 2
    path = exports.export_backbone(tmp_path / "a.safetensors", student, record)
    with pytest.raises(UserError, match=r"does not fit.*blocks\.1"):
        exports.load_backbone(path)
    with pytest.raises(UserError, match="brings its own"):
        exports.load_backbone(path, options={"depth": 1})
    (tmp_path / "noise.safetensors").write_bytes(b"noise")
    with pytest.raises(UserError, match="cannot be read"):
        exports.load_backbone(tmp_path / "noise.safetensors")
    with pytest.raises(UserError, match=r"holds no student.*no config.yaml: it is no run's folder"):
        exports.load_backbone(tmp_path)
    (tmp_path / "config.yaml").write_text("steps: 1")
    with pytest.raises(UserError, match=r"holds no student.*finish it with --resume$"):
        exports.load_backbone(tmp_path)
    exports.export_backbone(tmp_path / "best" / "student.safetensors", student, made())
    with pytest.raises(UserError, match=rf"finish it with --resume, or give {tmp_path / 'best'}"):
        exports.load_backbone(tmp_path)
    with pytest.raises(UserError, match="the targets of that run were no copy of its student"):
        exports.load_backbone(tmp_path / "best", which="teacher")
    with pytest.raises(UserError, match="no backbone"):
        exports.load_backbone("vjepa/tinny")


def test_a_missing_plugin_is_named_with_what_to_install(tmp_path, student):
    record = made()
    record["backbone"] |= {"name": "gone/small", "distribution": "vjepa-distill-gone", "plugin": "gone"}
    path = exports.export_backbone(tmp_path / "a.safetensors", student, record)
    with pytest.raises(UserError, match=r"pip install .vjepa-distill-gone=="):
        exports.load_backbone(path)


def test_a_file_that_changed_since_the_run_is_told(tmp_path, caplog):
    file = tmp_path / "own.py"
    file.write_text(
        "from vjepa_distill.backbones.vjepa import VideoViT\n"
        "class Own(VideoViT): __init__ = lambda self: VideoViT.__init__(self, 1, 24, 2)\n"
    )
    own = registry.create("backbone", f"{file}:Own")
    record = {"backbone": registry.provenance("backbone", f"{file}:Own", {})}
    exports.export_backbone(tmp_path / "student.safetensors", own, record)
    exports.load_backbone(tmp_path)
    assert not caplog.records
    file.write_text(file.read_text() + "# a comment\n")
    exports.load_backbone(tmp_path)
    (said,) = caplog.records
    assert "its file has changed since the run" in said.getMessage()
    assert said.getMessage().count("sha256:") == 2


def test_a_head_fits_only_the_student_it_was_trained_with(run, student):
    assert exports.load_head(run)(torch.randn(1, 5, 48)).shape == (1, 5, 10)
    exports.export_backbone(run / "student.safetensors", student, made(stage="jepa"))
    for source in (run, NAME):
        with pytest.raises(UserError, match="--space backbone"):
            exports.load_head(source)


def test_teacher_space_is_the_head_upon_the_students_tokens(run, student):
    clip = torch.rand(2, 3, 4, 32, 48)
    both = exports.load_encoder(run, space="teacher").eval()
    assert torch.equal(both(clip), exports.load_head(run)(student(clip)))
    assert torch.equal(exports.load_encoder(run, space="backbone").eval()(clip), student(clip))
