"""Probe scores against rows made by hand whose right score is known, and against seeing what is excluded."""

import csv
import io
import json

import numpy as np
import pytest
import safetensors.numpy

from vjepa_distill.errors import UserError
from vjepa_distill.measures import scores
from vjepa_distill.measures.probe import probe, render
from vjepa_distill.measures.table import groups_of


@pytest.fixture
def draw():
    return np.random.default_rng(0)


def write_features(path, vectors, files=None):
    files = files or [f"videos/{row:03d}.mp4" for row in range(len(vectors))]
    safetensors.numpy.save_file({"features": vectors.astype(np.float32)}, path)
    path.with_suffix(".json").write_text(json.dumps({"format": 1, "files": files}))
    return path


def write_labels(path, **columns):
    count = len(next(iter(columns.values())))
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", *columns])
        for row in range(count):
            writer.writerow([f"videos/{row:03d}.mp4", *(column[row] for column in columns.values())])
    return path


def score_of(result):
    return {name: row["score"] for name, row in result["scores"].items()}


def by_hand(x, labels, groups, k):
    """k-NN, written as one would say it."""
    right = 0
    for i in range(len(x)):
        likeness = {}
        for j in range(len(x)):
            if groups[i] != groups[j]:
                likeness[j] = x[i] @ x[j] / np.linalg.norm(x[i]) / np.linalg.norm(x[j])
        votes = {}
        for j in sorted(likeness, key=likeness.get, reverse=True)[:k]:
            count, total = votes.get(labels[j], (0, 0.0))
            votes[labels[j]] = (count + 1, total + likeness[j])
        right += max(votes, key=votes.get) == labels[i]
    return right / len(x)


def test_knn_is_what_it_says(draw):
    x, labels, groups = draw.normal(size=(80, 3)), draw.choice(list("abcd"), 80), draw.integers(0, 30, 80)
    for k in (1, 2, 5, 79):  # 2: ties are common; 79: more than there are rows of other groups
        assert scores.knn_accuracy(x, labels, groups, k) == by_hand(x, labels, groups, k)


def test_knn_of_numbers_is_the_mean_of_those_there_are(draw):
    """Two groups of 4 and 26 rows: with k = 9 the rows of the larger one have 4 neighbours, not 9."""
    x, values, groups = draw.normal(size=(30, 3)), draw.normal(size=30) + 5, np.array([0] * 4 + [1] * 26)
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    said = []
    for row in range(30):
        others = np.flatnonzero(groups != groups[row])
        said.append(values[others[np.argsort(-(unit[others] @ unit[row]))[:9]]].mean())
    expected = 1 - np.square(values - said).sum() / np.square(values - values.mean()).sum()
    assert scores.knn_r2(x, values, groups, k=9) == pytest.approx(expected)


def test_a_gap_in_an_excluded_column_is_shared_with_nobody():
    table = {
        "a": {"lab": "L", "date": "1"},
        "b": {"lab": "L", "date": "1"},
        "c": {"lab": "L", "date": ""},
        "d": {"lab": "L", "date": ""},
        "e": {"lab": "M", "date": "1"},
    }
    assert groups_of(list("abcdea"), table, ["lab", "date"]).tolist() == [0, 0, 1, 2, 3, 0]
    assert groups_of(list("abca"), table, []).tolist() == [0, 1, 2, 0], "without columns: the same file"


def test_knn_in_pieces_is_knn_at_once(draw, monkeypatch):
    x, values, groups = draw.normal(size=(50, 4)), draw.normal(size=50), np.arange(50)
    whole = scores.knn_r2(x, values, groups)
    monkeypatch.setattr(scores, "QUERIES", 7)
    assert scores.knn_r2(x, values, groups) == pytest.approx(whole, abs=1e-12)


def test_a_readable_class_is_read_and_noise_is_not(tmp_path, draw):
    labels = draw.choice(["square", "circle", "star"], 150)
    centre = {name: draw.normal(size=8) * 4 for name in ("square", "circle", "star")}
    clear = np.stack([centre[name] for name in labels]) + draw.normal(size=(150, 8))
    result = probe(
        write_features(tmp_path / "a.safetensors", clear),
        write_labels(tmp_path / "labels.csv", shape=labels),
        "shape",
        floor=write_features(tmp_path / "b.safetensors", draw.normal(size=(150, 8))),
    )
    assert (result["kind"], result["rows"], result["classes"]) == ("text", 150, 3)
    share = max(np.mean(labels == name) for name in centre)
    for row in result["scores"].values():
        assert row["score"] > 0.95
        assert row["random"] < 0.55
        assert row["floor"] == pytest.approx(share)


def test_a_readable_number_is_read_and_noise_is_not(tmp_path, draw):
    speed = draw.normal(size=200)
    clear = np.stack([np.cos(speed), np.sin(speed), speed], axis=1) + draw.normal(size=(200, 3)) * 0.05
    result = probe(
        write_features(tmp_path / "a.safetensors", clear),
        write_labels(tmp_path / "labels.csv", vx=speed),
        "vx",
        floor=write_features(tmp_path / "b.safetensors", draw.normal(size=(200, 3))),
    )
    assert result["kind"] == "number"
    for row in result["scores"].values():
        assert row["score"] > 0.9
        assert row["random"] < 0.1
        assert row["floor"] == 0


def test_an_excluded_day_cannot_be_read_from_its_own_rows(tmp_path, draw):
    """Features that know the day and nothing else: perfect with the day's other rows, useless without."""
    day = np.repeat(np.arange(20), 6)
    lab = np.array(["a", "b"])[day % 2]
    features = write_features(tmp_path / "a.safetensors", draw.normal(size=(20, 16))[day])
    labels = write_labels(tmp_path / "labels.csv", lab=lab, date=[f"day {number}" for number in day])
    seen = score_of(probe(features, labels, "lab"))
    unseen = score_of(probe(features, labels, "lab", exclude=["lab", "date"]))
    assert min(seen.values()) == 1
    assert max(unseen.values()) < 0.75


def test_rows_are_left_out_only_if_they_share_every_column(tmp_path):
    """One lab on two days: only rows of the same lab *and* day are hidden, so the other day answers."""
    features = write_features(tmp_path / "a.safetensors", np.repeat(np.eye(2), 12, axis=0))
    labels = write_labels(tmp_path / "labels.csv", lab=["a"] * 12 + ["b"] * 12, date=["mo", "tu"] * 12)
    assert score_of(probe(features, labels, "lab", exclude=["lab", "date"]))["k-NN"] == 1
    assert score_of(probe(features, labels, "lab", exclude=["lab"]))["k-NN"] == 0


def test_labels_that_take_turns_do_not_fall_into_step_with_the_folds(tmp_path, draw):
    labels = [str(row % 5) for row in range(100)]
    clear = np.eye(5)[np.arange(100) % 5] + draw.normal(size=(100, 5)) * 0.01
    features = write_features(tmp_path / "a.safetensors", clear)
    table = write_labels(tmp_path / "labels.csv", shape=labels)
    result = probe(features, table, "shape", kind="text")
    assert score_of(result) == {"k-NN": 1, "linear": 1}


def test_rare_labels_count_as_wrong_and_break_nothing(draw):
    x, labels = draw.normal(size=(30, 4)), np.array(["common"] * 28 + ["rare", "once"])
    groups = np.arange(30)
    assert 0 < scores.linear_accuracy(x, labels, groups) <= 28 / 30
    assert 0 < scores.knn_accuracy(x, labels, groups) <= 28 / 30
    both = np.array([0] * 15 + [1] * 15)  # two groups, each with one label alone: a fold of a single class
    assert scores.linear_accuracy(x, np.array(["a"] * 15 + ["b"] * 15), both) == 0


def test_only_rows_that_all_have_are_used_and_tokens_are_averaged(tmp_path, draw):
    vectors = draw.normal(size=(40, 3, 4))
    tokens = write_features(tmp_path / "a.safetensors", vectors)
    files = [f"videos/{row:03d}.mp4" for row in range(5, 40)]
    pooled = write_features(tmp_path / "b.safetensors", vectors[5:].mean(axis=1), files)
    labels = write_labels(tmp_path / "labels.csv", shape=["", "", *["a", "b"] * 19])
    result = probe(tokens, labels, "shape", floor=pooled)
    assert (result["rows"], result["skipped"]) == (35, 5)
    assert all(row["score"] == pytest.approx(row["random"]) for row in result["scores"].values())


def test_bad_input_is_named_in_one_line(tmp_path, draw):
    features = write_features(tmp_path / "a.safetensors", draw.normal(size=(6, 2)))
    labels = write_labels(tmp_path / "labels.csv", shape=list("ababab"), same=["x"] * 6, empty=[""] * 6)

    def refused(words, **changed):
        with pytest.raises(UserError, match=words) as caught:
            probe(**{"features": features, "labels": labels, "column": "shape"} | changed)
        assert "\n" not in str(caught.value)

    refused("no column 'shap'.*Did you mean 'shape'", column="shap")
    refused("no column 'day'", exclude=["day"])
    refused("nothing to tell apart", column="same")
    refused("share one same", exclude=["same"])
    refused("no file of the features has a empty", column="empty")
    refused("is missing", features=tmp_path / "b.safetensors")
    refused("there are no labels", labels=tmp_path / "none.csv")
    refused("cannot be read: .*[Dd]irectory", labels=tmp_path)
    (tmp_path / "empty.csv").write_text("")
    refused("empty.csv are empty", labels=tmp_path / "empty.csv")
    (tmp_path / "head.csv").write_text("file,shape\n")
    refused("head.csv have no rows", labels=tmp_path / "head.csv")
    (tmp_path / "twice.csv").write_text("file,shape\na.mp4,x\na.mp4,x\nb.mp4,x\nb.mp4,y\n")
    refused("two rows of b.mp4 that differ", labels=tmp_path / "twice.csv")
    infinite = write_labels(tmp_path / "infinite.csv", x=["1", "2", "inf", "4", "5", "6"])
    refused("column x holds inf, which is no number", labels=infinite, column="x")
    refused("no column of numbers \\('a'\\)", kind="number")
    refused("no column of numbers", kind="number")
    features.with_suffix(".json").write_text(json.dumps({"format": 2, "files": []}))
    refused("format 2", features=features)


def test_a_cell_that_is_nan_is_empty(tmp_path, draw):
    features = write_features(tmp_path / "a.safetensors", draw.normal(size=(40, 2)))
    found = []
    for gap in ("", "nan", " NaN"):
        values = [gap if row % 3 == 0 else f"{row * 0.7}" for row in range(40)]
        found.append(probe(features, write_labels(tmp_path / "labels.csv", x=values), "x"))
    assert (found[0]["kind"], found[0]["rows"], found[0]["skipped"]) == ("number", 26, 14)
    assert found[0] == found[1] == found[2]


def test_the_table_shows_what_was_measured(tmp_path, draw):
    from rich.console import Console

    features = write_features(tmp_path / "a.safetensors", draw.normal(size=(12, 2)))
    labels = write_labels(tmp_path / "labels.csv", shape=list("ab") * 6, day=[*"xyzxyz"] * 2)
    result = probe(features, labels, "shape", exclude=["day"], floor=features)
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(render([result]))
    text = console.export_text()
    assert all(word in text for word in ("shape", "12 rows", "same day", "k-NN", "linear", "random weights"))
    assert text.count(f"{result['scores']['k-NN']['score']:.3f}") >= 2


def shown(results):
    from rich.console import Console

    console = Console(width=80, record=True, file=io.StringIO())
    console.print(render(results))
    return console.export_text()


def test_several_columns_share_one_table_of_80_columns(tmp_path, draw):
    features = write_features(tmp_path / "a.safetensors", draw.normal(size=(12, 2)))
    long = "[b]" + "a_name_without_end_" * 5
    columns = {"shape": list("ab") * 6, long: draw.normal(size=12), "some": [*"ab" * 5, "", ""]}
    labels = write_labels(tmp_path / "labels.csv", **columns)
    results = [probe(features, labels, column, floor=features) for column in columns]
    even, uneven = shown(results[:2]), shown(results)
    assert even.count("random weights") == uneven.count("random weights") == 1
    assert max(map(len, uneven.splitlines())) <= 80
    assert [text.splitlines()[0] for text in (even, uneven)] == ["12 rows", "12 rows, some skipped"]
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in uneven.splitlines() if "│" in line]
    assert "".join(row[0] for row in rows).count(long) == 2, "folded, and neither cut nor taken for markup"
    expected = [
        [name, str(result["rows"]), *(f"{row[which]:.3f}" for which in ("score", "floor", "random"))]
        for result in results
        for name, row in result["scores"].items()
    ]
    assert [row[1:] for row in rows if row[1]] == expected
