"""Checkpoints survive being killed, refuse what they cannot read, and hand the same model on."""

import random

import numpy as np
import pytest
import torch

from vjepa_distill import checkpoint, registry
from vjepa_distill.errors import UserError
from vjepa_distill.files import write_atomic
from vjepa_distill.heads import Projector
from vjepa_distill.rng import rng_state, set_rng_state

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
    checkpoint.export_backbone(tmp_path / "student.safetensors", student, made())
    torch.manual_seed(1)
    average = registry.create("backbone", NAME, **OPTIONS)
    checkpoint.export_backbone(tmp_path / "teacher.safetensors", average, made())
    checkpoint.export_head(tmp_path / "head.safetensors", Projector(48, 10), {"stage": "distill"})
    return tmp_path


def test_a_state_comes_back_as_it_was(tmp_path):
    weight = torch.nn.Linear(3, 2).double()
    optimizer = torch.optim.AdamW(weight.parameters())
    weight(torch.ones(1, 3).double()).sum().backward()
    optimizer.step()
    state = {"step": 7, "optimizer": optimizer.state_dict(), "rng": rng_state(), "best": None, "name": "x"}
    back = checkpoint.load(checkpoint.save(tmp_path / "a.pt", state))
    assert back.pop("format") == 1
    assert back["step"] == 7
    moments = state["optimizer"]["state"][0]["exp_avg"]
    assert torch.equal(back["optimizer"]["state"][0]["exp_avg"], moments)
    assert back["optimizer"]["param_groups"] == state["optimizer"]["param_groups"]


def test_random_numbers_go_on_where_they_were_after_a_file(tmp_path):
    path = checkpoint.save(tmp_path / "a.pt", {"rng": rng_state()})

    def draw():
        return torch.rand(3).tolist(), np.random.rand(3).tolist(), np.random.randn(), random.random()

    drawn = draw()
    draw()
    set_rng_state(checkpoint.load(path)["rng"])
    assert draw() == drawn


def test_what_could_not_be_read_later_is_refused_at_save(tmp_path):
    with pytest.raises(TypeError, match=r"state\['loader'\]\[1\] is a float64"):
        checkpoint.save(tmp_path / "a.pt", {"loader": [1, np.float64(2)]})
    assert not list(tmp_path.iterdir())


def test_a_crash_while_writing_leaves_the_old_file(tmp_path):
    path = checkpoint.save(tmp_path / "a.pt", {"step": 1})

    def crash(file):
        file.write(b"half a checkpoint")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomic(path, crash)
    assert checkpoint.load(path)["step"] == 1
    assert list(tmp_path.iterdir()) == [path]


def test_damaged_newer_and_foreign_files_are_refused_in_words(tmp_path):
    path = checkpoint.save(tmp_path / "a.pt", {"weight": torch.randn(1000)})
    (tmp_path / "b.pt").write_bytes(path.read_bytes()[:1500])
    torch.save({"format": 2}, tmp_path / "c.pt")
    torch.save({"model": torch.zeros(1)}, tmp_path / "d.pt")
    for name, words in {
        "b": "damaged",
        "c": "format 2.*upgrade",
        "d": "no format",
        "e": "no checkpoint",
    }.items():
        with pytest.raises(UserError, match=words):
            checkpoint.load(tmp_path / f"{name}.pt")


def test_latest_counts_steps_not_names_and_prune_keeps_the_last(tmp_path):
    assert checkpoint.latest(tmp_path) is None
    for step in (5, 100, 20):
        checkpoint.save(checkpoint.path_for(tmp_path, step), {"step": step})
    assert checkpoint.latest(tmp_path) == checkpoint.path_for(tmp_path, 100)
    final = checkpoint.save(checkpoint.path_for(tmp_path), {"step": 100})
    assert checkpoint.latest(tmp_path) == final, "the same step, and the end of the run"
    checkpoint.save(checkpoint.path_for(tmp_path, 120), {"step": 120})
    assert checkpoint.latest(tmp_path) == checkpoint.path_for(tmp_path, 120), "a run continued past its end"
    checkpoint.prune(tmp_path, keep=2)
    left = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert left == ["ckpt_100.pt", "ckpt_120.pt", "ckpt_final.pt"]


@pytest.mark.parametrize("source", ["run", "file"])
def test_an_exported_student_gives_the_same_tokens(run, student, source):
    clip = torch.rand(1, 3, 4, 32, 48)
    loaded = checkpoint.load_backbone(run if source == "run" else run / "student.safetensors").eval()
    assert torch.equal(loaded(clip), student(clip))
    assert not torch.equal(checkpoint.load_backbone(run, "teacher").eval()(clip), student(clip))


def test_an_export_needs_no_file_its_first_values_came_from(tmp_path):
    options = {"timm": {"embed_dim": 48, "depth": 1, "num_heads": 2}}
    name = "timm/vit_tiny_patch16_224"
    encoder = registry.create("backbone", name, **options)
    record = {"backbone": registry.provenance("backbone", name, {**options, "weights": "gone.safetensors"})}
    path = checkpoint.export_backbone(tmp_path / "a.safetensors", encoder, record)
    assert checkpoint.fingerprint(checkpoint.load_backbone(path)) == checkpoint.fingerprint(encoder)


def test_random_weights_are_the_same_architecture_and_other_values(run, student):
    floor = checkpoint.load_backbone(run, random_weights=True)
    assert floor.state_dict().keys() == student.state_dict().keys()
    assert checkpoint.fingerprint(floor) != checkpoint.fingerprint(student)


def test_loading_is_strict_and_says_what_is_wrong(tmp_path, student):
    record = made()
    record["backbone"]["options"]["depth"] = 2
    path = checkpoint.export_backbone(tmp_path / "a.safetensors", student, record)
    with pytest.raises(UserError, match=r"does not fit.*blocks\.1"):
        checkpoint.load_backbone(path)
    with pytest.raises(UserError, match="brings its own"):
        checkpoint.load_backbone(path, options={"depth": 1})
    (tmp_path / "noise.safetensors").write_bytes(b"noise")
    with pytest.raises(UserError, match="cannot be read"):
        checkpoint.load_backbone(tmp_path / "noise.safetensors")
    with pytest.raises(UserError, match="holds no student"):
        checkpoint.load_backbone(tmp_path)
    with pytest.raises(UserError, match="no backbone"):
        checkpoint.load_backbone("vjepa/tinny")


def test_a_missing_plugin_is_named_with_what_to_install(tmp_path, student):
    record = made()
    record["backbone"] |= {"name": "gone/small", "distribution": "vjepa-distill-gone", "plugin": "gone"}
    path = checkpoint.export_backbone(tmp_path / "a.safetensors", student, record)
    with pytest.raises(UserError, match=r"pip install .vjepa-distill-gone=="):
        checkpoint.load_backbone(path)


def test_a_head_fits_only_the_student_it_was_trained_with(run, student):
    assert checkpoint.load_head(run)(torch.randn(1, 5, 48)).shape == (1, 5, 10)
    checkpoint.export_backbone(run / "student.safetensors", student, made(stage="jepa"))
    for source in (run, NAME):
        with pytest.raises(UserError, match="--space backbone"):
            checkpoint.load_head(source)


def test_teacher_space_is_the_head_upon_the_students_tokens(run, student):
    clip = torch.rand(2, 3, 4, 32, 48)
    both = checkpoint.load_encoder(run, space="teacher").eval()
    assert torch.equal(both(clip), checkpoint.load_head(run)(student(clip)))
    assert torch.equal(checkpoint.load_encoder(run, space="backbone").eval()(clip), student(clip))
