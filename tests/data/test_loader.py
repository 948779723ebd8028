"""The same batches for any number of workers, any split of ranks, across a resume, whatever a file does."""

import json
import os
import time

import numpy as np
import pytest
import torch

from vjepa_distill.data.clips import Recipe, VideoClips
from vjepa_distill.data.decoders.pyav import PyAV
from vjepa_distill.data.loader import Loader, collate
from vjepa_distill.data.painted import paint_numbers
from vjepa_distill.data.scan import build_index
from vjepa_distill.data.world import write_video
from vjepa_distill.errors import UserError
from vjepa_distill.protocols import DecodeError

VIDEOS = 11
RECIPE = Recipe(num_frames=3, height=24, width=32)


class Trouble(PyAV):
    """PyAV with files that refuse, hang or kill the process that reads them."""

    def __init__(self, refuse=(), hang=(), kill=()):
        self.refuse, self.hang, self.kill = refuse, hang, kill

    def read(self, path, indices, info):
        name = os.path.basename(path)
        if name in self.refuse:
            raise DecodeError("refused by the test")
        if name in self.hang:
            time.sleep(600)
        if name in self.kill:
            os._exit(5)
        return super().read(path, indices, info)


def write(root, videos):
    (root / "videos").mkdir()
    for v in range(videos):
        write_video(root / "videos" / f"{v}.mp4", paint_numbers(range(100 * v, 100 * v + 12)), fps=10)
    return build_index(root, decoder=PyAV())


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    return write(tmp_path_factory.mktemp("loader"), VIDEOS)


@pytest.fixture
def make(index):
    """Loaders that are closed at the end."""
    made = []

    def build(batch_size=4, decoder=None, seed=7, **options):
        options = {"max_bad": 0.5, **options}
        clips = VideoClips(index.good, index.root, RECIPE, decoder or PyAV(), seed)
        made.append(Loader(clips, batch_size, **options))
        return made[-1]

    yield build
    for loader in made:
        loader.close()


def take(loader, count):
    return [next(loader) for _ in range(count)]


def same(one, other):
    return len(one) == len(other) and all(
        torch.equal(a.clip, b.clip)
        and torch.equal(a.position, b.position)
        and torch.equal(a.video, b.video)
        and a.extras == b.extras
        for a, b in zip(one, other, strict=True)
    )


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_workers_change_nothing(make, workers):
    plain = take(make(), 7)  # 28 positions: into the third epoch
    assert same(plain, take(make(workers=workers), 7))
    assert plain[0].clip.shape == (4, 3, 3, 24, 32)
    assert plain[0].clip.dtype == torch.uint8
    assert [batch.position.tolist() for batch in plain] == [list(range(n, n + 4)) for n in range(0, 28, 4)]


@pytest.mark.parametrize("workers", [0, 2])
def test_two_ranks_are_one(make, workers):
    whole = take(make(batch_size=8), 4)
    halves = zip(*(take(make(rank=rank, world=2, workers=workers), 4) for rank in range(2)), strict=True)
    joined = [
        torch.cat([getattr(part, name) for part in parts])
        for parts in halves
        for name in ("clip", "position", "video")
    ]
    assert all(
        torch.equal(a, b)
        for a, b in zip(joined, [t for w in whole for t in (w.clip, w.position, w.video)], strict=True)
    )


@pytest.mark.parametrize(("before", "after"), [(0, 0), (2, 2), (0, 3), (3, 0)])
def test_a_resume_in_mid_epoch_goes_on_exactly(make, before, after):
    unbroken = take(make(), 9)
    first = make(workers=before)
    take(first, 4)
    state = json.loads(json.dumps(first.state_dict()))
    assert state["position"] == 16  # handed out: workers have read further
    second = make(workers=after)
    second.load_state_dict(state)
    assert same(unbroken[4:], take(second, 5))
    assert not after or min(second._reader.ready, default=99) >= second.position  # nothing was read in vain


def test_going_back_in_a_running_loader(make):
    loader = make(workers=2)
    state = loader.state_dict()
    one = take(loader, 3)
    loader.load_state_dict(state)
    assert same(one, take(loader, 3))


def test_other_videos_are_refused_at_resume(make, tmp_path):
    other = write(tmp_path, 3)
    state = Loader(VideoClips(other.good, other.root, RECIPE, PyAV(), 7), 4).state_dict()
    with pytest.raises(UserError, match="not those the run was started with"):
        make().load_state_dict(state)
    with pytest.raises(UserError, match="format 2, this version reads up to 1"):
        make().load_state_dict({**state, "format": 2})


@pytest.mark.parametrize("workers", [0, 2])
def test_a_bad_file_is_replaced_alike_everywhere(make, workers):
    decoder = Trouble(refuse=("3.mp4", "8.mp4"))
    plain = take(make(decoder=decoder), 8)
    loader = make(decoder=decoder, workers=workers)
    assert same(plain, take(loader, 8))
    bad = [["videos/3.mp4", "refused by the test"], ["videos/8.mp4", "refused by the test"]]
    assert loader.state_dict()["quarantine"] == bad
    untouched = take(make(), 8)
    shown = [
        (a, b)
        for x, y in zip(plain, untouched, strict=True)
        for a, b in zip(x.extras["path"], y.extras["path"], strict=True)
    ]
    assert {b for a, b in shown if a != b} == {"videos/3.mp4", "videos/8.mp4"}


def test_ranks_agree_on_replacements(make):
    decoder = Trouble(refuse=("0.mp4", "5.mp4"))
    whole = take(make(batch_size=8, decoder=decoder), 4)
    ranks = [take(make(rank=rank, world=2, decoder=decoder), 4) for rank in range(2)]
    for n in range(4):
        assert torch.equal(whole[n].video, torch.cat([ranks[0][n].video, ranks[1][n].video]))


@pytest.mark.parametrize("trouble", ["hang", "kill"])
def test_a_file_that_hangs_or_kills_is_quarantined_and_its_position_read_again(make, trouble):
    expected = take(make(decoder=Trouble(refuse=("4.mp4",))), 6)
    loader = make(decoder=Trouble(**{trouble: ("4.mp4",)}), workers=2, timeout=0.7)
    began = time.monotonic()
    assert same(expected, take(loader, 6))
    assert time.monotonic() - began < 10
    [[path, why]] = loader.state_dict()["quarantine"]
    assert path == "videos/4.mp4"
    assert ("no answer within 0.7 s" if trouble == "hang" else "ended with code 5") in why


def test_a_resumed_quarantine_is_not_tried_again(make):
    first = make(decoder=Trouble(hang=("4.mp4",)), workers=1, timeout=0.7)
    take(first, 3)
    second = make(decoder=Trouble(hang=("4.mp4",)), workers=0)  # nothing could interrupt a hang here
    second.load_state_dict(first.state_dict())
    assert same(take(second, 4), take(make(decoder=Trouble(refuse=("4.mp4",))), 7)[3:])


@pytest.mark.parametrize("workers", [0, 2])
def test_too_many_bad_files_stop_the_run_with_words(make, workers):
    loader = make(decoder=Trouble(refuse=("1.mp4", "2.mp4", "3.mp4")), workers=workers, max_bad=0.2)
    with pytest.raises(UserError, match=r"3 of 11 videos \(27.3%\).*videos/1.mp4 \(refused.*--data.max_bad"):
        take(loader, 4)


def test_a_single_bad_file_within_the_share_does_not_stop(make):
    take(make(decoder=Trouble(refuse=("1.mp4",)), max_bad=0.1), 6)


def test_a_mistake_in_the_code_is_raised_and_not_quarantined(make):
    class Mistaken(PyAV):
        def read(self, path, indices, info):
            raise KeyError("a mistake")

    for workers in (0, 2):
        with pytest.raises(KeyError, match="a mistake"):
            next(make(decoder=Mistaken(), workers=workers))


def test_reading_leaves_the_global_generators_alone(make):
    torch.manual_seed(0)
    np.random.seed(0)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    take(make(), 3)
    assert torch.equal(before[0], torch.get_rng_state())
    assert np.array_equal(before[1], np.random.get_state()[1])


def test_collate_keeps_rows_together():
    samples = [
        {
            "clip": torch.full((3, 2, 4, 4), i, dtype=torch.uint8),
            "position": 2**40 + i,
            "video": 2**62 + i,
            "path": str(i),
        }
        for i in range(3)
    ]
    batch = collate(samples)
    assert batch.clip[:, 0, 0, 0, 0].tolist() == [0, 1, 2]
    assert batch.position.tolist() == [2**40 + i for i in range(3)]
    assert batch.video.tolist() == [2**62 + i for i in range(3)]
    assert batch.extras["path"] == ["0", "1", "2"]
