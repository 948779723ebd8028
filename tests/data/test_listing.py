"""A video is one video: the same identity however its folder was typed, listed once however it is linked."""

import hashlib
import os
import time

import pytest

from vjepa_distill.data.decoders.pyav import PyAV
from vjepa_distill.data.index import Index, video_id
from vjepa_distill.data.listing import find
from vjepa_distill.data.painted import paint_numbers
from vjepa_distill.data.scan import build_index
from vjepa_distill.data.world import write_video


@pytest.fixture
def home(tmp_path, monkeypatch):
    """The user is at home, where `my [toy] set/videos/0.mp4` to 4.mp4 are, which are no real videos."""
    folder = tmp_path / "home" / "my [toy] set" / "videos"
    folder.mkdir(parents=True)
    for number in range(5):
        (folder / f"{number}.mp4").write_text(f"{number}")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "home")
    return tmp_path / "home"


@pytest.fixture
def toy(home):
    return home / "my [toy] set"


def paths(root, *files):
    return [entry.path for entry in find(root, files or ["videos/*.mp4"]).entries]


def identities(root, *files):
    return [entry.key or entry.path for entry in find(root, files or ["videos/*.mp4"]).entries]


TYPED = {
    "absolute": "{toy}",
    "relative": "my [toy] set",
    "with dots": "../home/./my [toy] set/../my [toy] set/",
    "from home": "~/my [toy] set",
    "through a link": "linked",
    "through a link and dots": "deep/link/../videos/..",
}


@pytest.mark.parametrize("way", TYPED)
def test_every_way_of_typing_the_root_gives_the_same_index(way, home, toy):
    (home / "linked").symlink_to(toy)
    (home / "deep").mkdir()
    (home / "deep" / "link").symlink_to(toy / "videos")
    whole = find(toy, ["**/*.mp4"])
    assert [entry.path for entry in whole.entries] == [f"videos/{n}.mp4" for n in range(5)]
    assert find(TYPED[way].format(toy=toy), ["videos/*.mp4"]) == whole


@pytest.mark.parametrize(
    "pattern",
    [
        "videos/*.mp4", "**/*.mp4", "**", "./videos/../videos/?.mp4", "{toy}/videos/*.mp4", "v*s/[0-9].mp4",
        "~/my [toy] set/videos/*.mp4", "../my [toy] set/**/*.mp4", "{toy}/../../home/my*/videos/*.mp4",
    ],
)  # fmt: skip
def test_every_way_of_typing_a_pattern_gives_the_same_names(pattern, toy):
    entries = find(toy, [pattern.format(toy=toy)]).entries
    assert [(entry.path, entry.key) for entry in entries] == [(f"videos/{n}.mp4", "") for n in range(5)]


def test_globs_are_those_of_python(toy):
    for name in ("videos/.hidden.mp4", "videos/a/b/x.mp4", ".git/x.mp4", "top.mp4", "videos/a/take [5].mp4"):
        (toy / name).parent.mkdir(parents=True, exist_ok=True)
        (toy / name).write_text(name)
    for pattern in ("**/*.mp4", "*", "*/*", "videos/**", "**/b/*", "videos/.*", "**/[!a-z]*", "v*/**/x.mp4"):
        expected = [p for p in sorted(_globbed(toy, pattern)) if os.path.isfile(toy / p)]
        assert paths(toy, pattern) == expected, pattern
    assert paths(toy, "videos/a/take [5].mp4") == ["videos/a/take [5].mp4"]
    assert paths(toy, "none/*.mp4", "top.mp4/*", "") == []


def _globbed(root, pattern):
    import glob

    return glob.glob(pattern, root_dir=root, recursive=True)


def test_a_file_named_twice_is_listed_once_and_told(toy):
    os.link(toy / "videos" / "1.mp4", toy / "videos" / "hard.mp4")
    (toy / "videos" / "another.mp4").symlink_to("2.mp4")
    (toy / "a").symlink_to("videos")
    listing = find(toy, ["videos/*.mp4", "**/*.mp4", str(toy / "videos" / "*"), "a/3.mp4"])
    assert [entry.path for entry in listing.entries] == [f"videos/{n}.mp4" for n in range(5)]
    assert listing.duplicates == {
        "videos/another.mp4": "videos/2.mp4",
        "videos/hard.mp4": "videos/1.mp4",
        "a/3.mp4": "videos/3.mp4",
    }
    assert find(toy, ["**/[0-9].mp4"]).duplicates == {"a/": "videos/"}


def test_files_of_one_size_and_time_are_not_taken_for_one(toy):
    for number in range(5):
        os.utime(toy / "videos" / f"{number}.mp4", ns=(10**18, 10**18))
    assert len(find(toy, ["videos/*.mp4"]).entries) == 5


def test_loops_of_links_end(toy):
    for name in ("one", "two", "three"):
        (toy / name).symlink_to(".")
        (toy / "videos" / name).symlink_to("..")
    began = time.monotonic()
    assert paths(toy, "**/*.mp4") == [f"videos/{n}.mp4" for n in range(5)]
    assert paths(toy, "**/videos/**/one/**/*.mp4") == [f"videos/{n}.mp4" for n in range(5)]
    assert time.monotonic() - began < 5
    assert find(toy, ["**/*.mp4"]).duplicates == dict.fromkeys(
        [f"{place}{name}/" for place in ("", "videos/") for name in ("one", "two", "three")], "./"
    )


def test_a_link_within_the_root_is_known_by_what_it_points_at_but_named_as_it_stands(toy):
    (toy / "chosen").mkdir()
    (toy / "chosen" / "best.mp4").symlink_to("../videos/3.mp4")
    (toy / "again").symlink_to("videos")
    assert paths(toy, "chosen/*.mp4") == ["chosen/best.mp4"]
    assert identities(toy, "chosen/*.mp4") == ["videos/3.mp4"]
    assert identities(toy, "again/*.mp4") == identities(toy)
    [entry] = find(toy, ["chosen/*.mp4"]).entries
    assert entry.video == video_id("videos/3.mp4")


def test_a_folder_of_links_to_somewhere_else_keeps_its_keys_wherever_that_is(toy, tmp_path):
    keys = []
    for store in ("one", "another"):
        farm = tmp_path / f"farm of {store}"
        (tmp_path / store).mkdir()
        (farm / "videos").mkdir(parents=True)
        (farm / "whole").symlink_to(tmp_path / store)
        for number in range(3):
            (tmp_path / store / f"{store}{number}").write_text(f"{number}")
            (farm / "videos" / f"{number}.mp4").symlink_to(tmp_path / store / f"{store}{number}")
        (tmp_path / store / "3.mp4").write_text("3")
        keys.append(identities(farm, "**/*.mp4"))
    assert keys == 2 * [["videos/0.mp4", "videos/1.mp4", "videos/2.mp4", "whole/3.mp4"]]


def test_what_lies_elsewhere_is_known_by_its_real_path(toy, home, tmp_path):
    far = tmp_path / "far"
    far.mkdir()
    (far / "x.mp4").write_text("x")
    (home / "near").symlink_to(far)
    ways = (far / "x.mp4", home / "near" / "x.mp4", "../../far/*.mp4", "~/near/*.mp4", f"{far}/../far/x.mp4")
    for way in ways:
        assert identities(toy, str(way)) == [(far / "x.mp4").as_posix()], way
    assert paths(toy, "~/near/*.mp4") == [(home / "near" / "x.mp4").as_posix()]
    assert len(find(toy, [str(way) for way in ways]).entries) == 1


def test_the_split_is_that_of_the_identity_however_the_root_is_typed(tmp_path, monkeypatch):
    folder = tmp_path / "toy" / "videos"
    folder.mkdir(parents=True)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for number in range(12):
        write_video(folder / f"{number}.mp4", paint_numbers(range(2)), fps=10)
    (tmp_path / "here" / "link").symlink_to("../toy")
    cache = tmp_path / "index.json"
    first, *others = (
        build_index(root, decoder=PyAV(), cache=cache) for root in (tmp_path / "toy", "../toy", "link")
    )
    names = [entry.path for entry in first.split(0.4)[1]]

    def share(name):
        return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") / 2**64

    assert names == sorted(name for name in (f"videos/{n}.mp4" for n in range(12)) if share(name) < 0.4)
    assert 1 < len(names) < 11
    assert all(other == first == Index.load(cache) for other in others)


def test_an_index_keeps_identities_and_duplicates(tmp_path):
    (tmp_path / "videos").mkdir()
    write_video(tmp_path / "videos" / "0.mp4", paint_numbers(range(2)), fps=10)
    (tmp_path / "link.mp4").symlink_to("videos/0.mp4")
    cache = tmp_path / "index.json"
    index = build_index(tmp_path, ["link.mp4"], decoder=PyAV(), cache=cache)
    assert [(entry.path, entry.key) for entry in index.good] == [("link.mp4", "videos/0.mp4")]
    assert Index.load(cache) == index
    index = build_index(tmp_path, ["*.mp4", "videos/*.mp4"], decoder=PyAV(), cache=cache)
    assert index.duplicates == {"link.mp4": "videos/0.mp4"}
    assert Index.load(cache) == index


def test_data_sets_are_hashed_apart_and_the_unnamed_one_as_ever():
    assert video_id("videos/000000.mp4") == 4022916010067802768
    assert video_id("a.mp4", "") == video_id("a.mp4")
    pairs = [(name, key) for name in ("", "a", "ab", "b") for key in ("a", "b", "ba", "a/b")]
    assert len({video_id(key, name) for name, key in pairs}) == len(pairs)
    digest = hashlib.sha256(b"droid\0videos/1.mp4").digest()
    assert video_id("videos/1.mp4", "droid") == int.from_bytes(digest[:8], "big") // 2
