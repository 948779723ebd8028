"""A row is the tokens of the file beside it, whatever was interrupted, bad, or read in whichever batches."""

import json

import numpy as np
import pytest
import safetensors.torch
import torch

from vjepa_distill.data.clips import Recipe, VideoClips
from vjepa_distill.data.index import Entry
from vjepa_distill.data.loader import Loader
from vjepa_distill.errors import UserError
from vjepa_distill.measures.encode import encode
from vjepa_distill.protocols import DecodeError, VideoInfo

RECIPE = Recipe(num_frames=2, height=8, width=8, crop="center", flip=0.0)
RECORD = {"source": "a test"}


class Painted:
    """A decoder whose file "07.mp4" is grey 7 throughout."""

    name, version = "painted", "1"

    def __init__(self, bad=()):
        self.bad, self.opened = bad, []

    def read(self, path, indices, info):
        name = path.rsplit("/", 1)[-1]
        self.opened.append(name)
        if name in self.bad:
            raise DecodeError("torn")
        return np.full((len(indices), 8, 8, 3), int(name[:2]), dtype=np.uint8)


class Grey(torch.nn.Module):
    """Two tokens of two channels: the grey value and one more; and its negative, so the mean is [grey, 0]."""

    def __init__(self, stop_after=10**9):
        super().__init__()
        self.left = stop_after

    def forward(self, clip):
        self.left -= len(clip)
        if self.left < 0:
            raise KeyboardInterrupt
        grey = clip.mean(dim=(1, 2, 3, 4)) * 255
        return torch.stack([torch.stack([grey, grey + 1], 1), torch.stack([grey, -grey - 1], 1)], 1)


def loader(count=12, batch=5, bad=()):
    info = VideoInfo(
        frames=4, fps=2.0, width=8, height=8, rotation=0, codec="none", times=(0.0, 0.5, 1.0, 1.5)
    )
    entries = [Entry(f"{row:02d}.mp4", 1, 1, info, "") for row in range(count)]
    return Loader(
        VideoClips(entries, "root", RECIPE, Painted(bad), seed=0, shuffle=False), batch, max_bad=1.0
    )


def features(path):
    return safetensors.torch.load_file(path)["features"]


def numbers(record):
    return [float(name[:2]) for name in record["files"]]


@pytest.mark.parametrize("batch", [1, 5, 12, 40])
def test_every_file_once_beside_its_own_row(tmp_path, batch):
    record = encode(Grey(), loader(batch=batch), tmp_path / "f.safetensors", RECORD)
    assert numbers(record) == list(range(12))
    found = features(tmp_path / "f.safetensors")
    torch.testing.assert_close(
        found, torch.tensor([[float(row), 0.0] for row in range(12)]), atol=1e-4, rtol=0
    )
    assert json.loads((tmp_path / "f.json").read_text()) == record
    assert sorted(path.name for path in tmp_path.iterdir()) == ["f.json", "f.safetensors"]


def test_tokens_may_be_kept_and_their_mean_is_the_pooled_row(tmp_path):
    encode(Grey(), loader(), tmp_path / "mean.safetensors", RECORD, part_rows=3)
    encode(Grey(), loader(), tmp_path / "none.safetensors", RECORD, pool="none", part_rows=3)
    tokens = features(tmp_path / "none.safetensors")
    assert tokens.shape == (12, 2, 2)
    assert torch.equal(tokens.mean(dim=1), features(tmp_path / "mean.safetensors"))


def test_bad_files_are_listed_and_are_no_rows(tmp_path):
    record = encode(
        Grey(),
        loader(bad=("00.mp4", "04.mp4", "11.mp4")),
        tmp_path / "f.safetensors",
        RECORD,
        bad={"x": "empty"},
    )
    assert numbers(record) == [1, 2, 3, 5, 6, 7, 8, 9, 10]
    assert features(tmp_path / "f.safetensors")[:, 0].round().tolist() == numbers(record)
    assert record["bad"] == {"x": "empty"} | dict.fromkeys(("00.mp4", "04.mp4", "11.mp4"), "torn")


@pytest.mark.parametrize("stop_after", [0, 2, 5, 9])
def test_interrupted_and_called_again_is_as_if_never_interrupted(tmp_path, stop_after):
    bad = ("01.mp4", "06.mp4")
    whole = encode(Grey(), loader(batch=2, bad=bad), tmp_path / "whole.safetensors", RECORD, part_rows=3)
    out = tmp_path / "f.safetensors"
    with pytest.raises(KeyboardInterrupt):
        encode(Grey(stop_after), loader(batch=2, bad=bad), out, RECORD, part_rows=3)
    assert not out.exists()
    again = loader(batch=2, bad=bad)
    assert encode(Grey(), again, out, RECORD, part_rows=3) == whole
    assert torch.equal(features(out), features(tmp_path / "whole.safetensors"))
    kept = max(0, stop_after - 1)  # the batch that was interrupted is encoded again
    assert len(again.clips.decoder.opened) <= 12 + 3 - kept


def test_a_finished_result_is_not_made_again_and_another_one_not_overwritten(tmp_path):
    out = tmp_path / "f.safetensors"
    first = encode(Grey(), loader(), out, RECORD)
    unused = loader()
    assert encode(Grey(), unused, out, RECORD) == first
    assert unused.clips.decoder.opened == []
    with pytest.raises(UserError, match="another source: --overwrite"):
        encode(Grey(), loader(), out, {"source": "another"})
    with pytest.raises(UserError, match="another pool"):
        encode(Grey(), loader(), out, RECORD, pool="none")
    assert encode(Grey(), loader(), out, {"source": "another"}, overwrite=True)["source"] == "another"


def test_an_interrupted_result_is_not_continued_with_other_settings(tmp_path):
    out = tmp_path / "f.safetensors"
    with pytest.raises(KeyboardInterrupt):
        encode(Grey(5), loader(), out, RECORD)
    with pytest.raises(UserError, match="begun with another source"):
        encode(Grey(), loader(), out, {"source": "another"})


def test_numbers_that_are_none_name_their_file(tmp_path):
    class Broken(Grey):
        def forward(self, clip):
            tokens = super().forward(clip)
            return torch.where(tokens[:, :1, :1].round() == 7, torch.nan, tokens)

    with pytest.raises(UserError, match=r"07\.mp4 are not finite"):
        encode(Broken(), loader(), tmp_path / "f.safetensors", RECORD)


def test_nothing_readable_is_an_error_not_an_empty_file(tmp_path):
    with pytest.raises(UserError, match="torn"):
        encode(Grey(), loader(2, bad=("00.mp4", "01.mp4")), tmp_path / "f.safetensors", RECORD)
    assert not (tmp_path / "f.safetensors").exists()
