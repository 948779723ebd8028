"""A decoder returns exactly the frames asked for, or says why not: clean files, cuts, odd clocks."""

from fractions import Fraction
from itertools import islice
from pathlib import Path

import av
import numpy as np
import pytest

from vjepa_distill.data.decoders import frames, pyav
from vjepa_distill.data.decoders.decord import Decord
from vjepa_distill.data.decoders.pyav import PyAV
from vjepa_distill.data.decoders.torchcodec import TorchCodec
from vjepa_distill.data.painted import paint_numbers, read_numbers
from vjepa_distill.data.world import write_video
from vjepa_distill.errors import UserError
from vjepa_distill.protocols import DecodeError

SPARSE = [0, 5, 6, 41, 79, 80, 97, 99]


def encode(path, numbers, codec="libx264", pts=None, rotation=None, **options):
    """Painted frames; `pts` gives each its own time in 1/600 s."""
    if codec not in av.codecs_available:
        pytest.skip(f"this PyAV has no encoder {codec}")
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=30, options=options)
        stream.height, stream.width, stream.pix_fmt = 48, 96, "yuv420p"
        if codec == "libvpx-vp9":
            stream.bit_rate = 4_000_000
        if rotation is not None:
            stream.set_display_rotation(rotation)
        for i, picture in enumerate(paint_numbers(numbers)):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            if pts is not None:
                frame.pts, frame.time_base = pts[i], Fraction(1, 600)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return str(path)


def copy_from(source, target, first):
    """What `ffmpeg -ss ... -c copy` makes: packets from the keyframe on, and an edit list hiding some."""
    with av.open(source) as a, av.open(str(target), "w") as b:
        old = a.streams.video[0]
        new = b.add_stream_from_template(old)
        packets = [packet for packet in a.demux(old) if packet.size]
        start = sorted(packet.pts for packet in packets)[first]
        key = max(i for i, packet in enumerate(packets) if packet.is_keyframe and packet.pts <= start)
        for packet in packets[key:]:
            packet.pts, packet.dts, packet.stream = packet.pts - start, packet.dts - start, new
            b.mux(packet)
    return str(target)


def assert_exact(path, numbers, decoder=None):
    """Every frame, one by one and in any order, is the frame that carries the number it should."""
    decoder = decoder or PyAV()
    info = decoder.scan(path)
    assert info.frames == len(numbers)
    assert read_numbers(decoder.read(path, range(info.frames), info)) == list(numbers)
    draw = np.random.default_rng(0)
    for _ in range(5):
        indices = draw.integers(0, info.frames, 7).tolist()
        assert read_numbers(decoder.read(path, indices, info)) == [numbers[i] for i in indices]
    return info


LONG_GOP = {"x264-params": "keyint=250:bframes=0"}
SHORT_GOP = {"x264-params": "keyint=10:min-keyint=10:scenecut=0:bframes=3"}
OPEN_GOP = {"x264-params": "keyint=12:min-keyint=1:scenecut=0:bframes=3:b-adapt=0:open-gop=1"}
PYRAMID = {"x264-params": "keyint=250:bframes=8:b-pyramid=normal:b-adapt=0"}


@pytest.mark.parametrize(
    "options", [LONG_GOP, SHORT_GOP, OPEN_GOP, PYRAMID], ids=["long", "short", "open", "pyramid"]
)
def test_h264_is_exact(tmp_path, options):
    info = assert_exact(encode(tmp_path / "a.mp4", range(100), **options), range(100))
    assert info.fps == pytest.approx(30)
    assert (info.width, info.height, info.codec) == (96, 48, "h264")


@pytest.mark.parametrize(
    ("codec", "name"),
    [("libx265", "a.mp4"), ("libvpx-vp9", "a.webm"), ("libsvtav1", "a.mkv"), ("libx264", "a.mkv")],
)
def test_other_codecs_and_boxes_are_exact(tmp_path, codec, name):
    assert_exact(encode(tmp_path / name, range(60), codec), range(60))


@pytest.mark.parametrize("name", ["a.avi", "a.ts"])
def test_boxes_that_lie_about_time_are_counted(tmp_path, name):
    assert_exact(encode(tmp_path / name, range(60), **SHORT_GOP), range(60))


def test_variable_rate_keeps_the_times(tmp_path):
    pts = np.cumsum([0] + [20, 60, 20, 20, 140] * 12)
    info = assert_exact(
        encode(tmp_path / "a.mp4", range(len(pts)), pts=pts.tolist(), **SHORT_GOP), range(len(pts))
    )
    assert np.allclose(np.array(info.times) - info.times[0], pts / 600, atol=1e-4)


@pytest.mark.parametrize("first", [0, 3, 47, 79, 95])
@pytest.mark.parametrize(
    "options", [LONG_GOP, SHORT_GOP, OPEN_GOP, PYRAMID], ids=["long", "short", "open", "pyramid"]
)
def test_stream_copied_cuts_are_exact(tmp_path, first, options):
    whole = encode(tmp_path / "whole.mp4", range(100), **options)
    assert_exact(copy_from(whole, tmp_path / "cut.mp4", first), range(first, 100))


@pytest.mark.parametrize("degrees", [90, 180, -90])
def test_rotation_is_applied(tmp_path, degrees):
    path = encode(tmp_path / "a.mp4", range(4), rotation=degrees)
    with av.open(
        path
    ) as container:  # a reference without our arithmetic: FFmpeg's tag says how far to turn left
        turns = next(container.decode(video=0)).rotation // 90
    info = PyAV().scan(path)
    shown = PyAV().read(path, [2], info)
    assert turns % 4 != 0
    assert shown.shape[1:3] == (info.height, info.width) == ((96, 48) if turns % 2 else (48, 96))
    assert read_numbers(np.rot90(shown, -turns, axes=(1, 2))) == [2]


def test_repeats_and_disorder_are_served(tmp_path):
    path = encode(tmp_path / "a.mp4", range(30))
    info = PyAV().scan(path)
    asked = [29, 0, 7, 7, 29, 3]
    assert read_numbers(PyAV().read(path, asked, info)) == asked


def test_passing_over_frames_changes_no_pixel(tmp_path):
    path = encode(tmp_path / "a.mp4", range(100), **PYRAMID)
    info = PyAV().scan(path)
    with av.open(path) as container:
        plain = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert np.array_equal(PyAV().read(path, SPARSE, info), np.stack([plain[i] for i in SPARSE]))


def test_seeks_instead_of_decoding_everything(tmp_path, monkeypatch):
    path = encode(tmp_path / "a.mp4", range(100), **SHORT_GOP)
    info = PyAV().scan(path)
    seen = []
    put = frames.Packets.until
    monkeypatch.setattr(
        frames.Packets, "until", lambda self, t: (seen.append(f.pts) or f for f in put(self, t))
    )
    monkeypatch.setattr(pyav, "read_by_count", lambda *_: pytest.fail("a clean mp4 was read from its start"))
    assert read_numbers(PyAV().read(path, [95, 52], info)) == [95, 52]
    assert len(seen) < 20


def test_a_seek_that_misses_falls_back_to_counting(tmp_path, monkeypatch):
    path = encode(tmp_path / "a.mp4", range(100), **SHORT_GOP)
    info = PyAV().scan(path)

    def land_late(self, target):
        self.container.seek(target + 10**5, stream=self.stream)
        self.source = iter(self.container.demux(self.stream))

    monkeypatch.setattr(frames.Packets, "_jump", land_late)
    assert read_numbers(PyAV().read(path, SPARSE, info)) == SPARSE


@pytest.mark.parametrize(
    "options", [LONG_GOP, SHORT_GOP, OPEN_GOP, PYRAMID], ids=["long", "short", "open", "pyramid"]
)
@pytest.mark.parametrize("first", [0, 47])
def test_a_long_file_is_scanned_at_its_ends_with_the_same_result(tmp_path, monkeypatch, options, first):
    path = copy_from(encode(tmp_path / "whole.mp4", range(300), **options), tmp_path / "cut.mp4", first)
    whole = PyAV().scan(path)
    monkeypatch.setattr(pyav, "EXHAUSTIVE", 50)
    monkeypatch.setattr(pyav, "END", 20)
    monkeypatch.setattr(pyav, "_shown", lambda source, shown=pyav._shown: shown(islice(source, 60)))
    assert PyAV().scan(path) == whole


def test_a_long_file_that_breaks_its_promise_is_decoded_whole(tmp_path, monkeypatch):
    path = encode(tmp_path / "a.mp4", range(100), **SHORT_GOP)
    whole = PyAV().scan(path)
    monkeypatch.setattr(pyav, "EXHAUSTIVE", 50)
    promised = pyav._promised
    monkeypatch.setattr(pyav, "_promised", lambda *a: [-512, *promised(*a)])
    assert PyAV().scan(path) == whole


def test_frames_that_lean_on_what_a_seek_jumped_over_are_not_taken(tmp_path):
    """A seek may land on the keyframe behind: in an open GOP, frames shown before it are stored after it."""
    path = encode(tmp_path / "a.mp4", range(100), **OPEN_GOP)
    with av.open(path) as container:
        stream = container.streams.video[0]
        packets = [packet for packet in container.demux(stream) if packet.size]
        place = [i for i, packet in enumerate(packets) if packet.is_keyframe][3]
        key, leading = packets[place].pts, packets[place + 1].pts
        assert leading < key
        walk = frames.Packets(container, stream, keep={leading: 0})
        walk.container = Landing(container, key)
        assert [frame.pts for frame in walk.until(leading)] == [key]


class Landing:
    """A container whose every seek lands on one keyframe."""

    def __init__(self, container, key):
        self.container, self.key, self.demux = container, key, container.demux

    def seek(self, _, stream):
        self.container.seek(self.key, stream=stream)


def test_damage_is_an_error_with_words(tmp_path):
    path = encode(tmp_path / "a.mp4", range(60), **SHORT_GOP)
    info = PyAV().scan(path)
    data = bytearray(Path(path).read_bytes())
    middle = len(data) // 3
    data[middle : middle + 400] = np.random.default_rng(0).bytes(400)
    Path(path).write_bytes(data)
    with pytest.raises(DecodeError, match=r"\w"):
        PyAV().read(path, range(60), info)
    with pytest.raises(DecodeError, match=r"\w"):
        PyAV().scan(path)


def test_a_file_that_shrank_is_an_error(tmp_path):
    path = encode(tmp_path / "a.mp4", range(60))
    info = PyAV().scan(path)
    encode(path, range(20))
    with pytest.raises(DecodeError, match="has the file changed"):
        PyAV().read(path, [50], info)


@pytest.mark.parametrize("content", [b"", b"version https://git-lfs.github.com/spec/v1\n", b"\0" * 5000])
def test_what_is_no_video_says_so(tmp_path, content):
    path = tmp_path / "a.mp4"
    path.write_bytes(content)
    with pytest.raises(DecodeError, match="Invalid data"):
        PyAV().scan(str(path))


def test_a_missing_file_says_so(tmp_path):
    with pytest.raises(DecodeError, match="No such file"):
        PyAV().scan(str(tmp_path / "gone.mp4"))


def decord():
    pytest.importorskip("decord", reason="decord has wheels for Linux x86-64 and Windows only")
    return Decord()


@pytest.mark.parametrize("options", [LONG_GOP, SHORT_GOP, PYRAMID], ids=["long", "short", "pyramid"])
def test_decord_is_exact_on_clean_files(tmp_path, options):
    assert_exact(encode(tmp_path / "a.mp4", range(60), **options), range(60), decord())


def test_decord_refuses_what_it_would_read_wrong(tmp_path):
    whole = encode(tmp_path / "whole.mp4", range(60), **LONG_GOP)
    with pytest.raises(DecodeError, match="decord counts 60 frames where 53"):
        decord().scan(copy_from(whole, tmp_path / "cut.mp4", 7))
    with pytest.raises(DecodeError, match="use pyav"):
        decord().scan(encode(tmp_path / "a.avi", range(10)))


def test_decord_without_its_package_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "decord", None)
    with pytest.raises(UserError, match="pip install decord"):
        Decord()


def torchcodec():
    try:
        return TorchCodec()
    except UserError as error:
        pytest.skip(f"torchcodec cannot decode here: {str(error)[:150]}")


@pytest.mark.parametrize("options", [LONG_GOP, SHORT_GOP, PYRAMID], ids=["long", "short", "pyramid"])
def test_torchcodec_is_exact_on_clean_files(tmp_path, options):
    assert_exact(encode(tmp_path / "a.mp4", range(60), **options), range(60), torchcodec())


def test_torchcodec_is_exact_on_stream_copied_cuts(tmp_path):
    whole = encode(tmp_path / "whole.mp4", range(60), **LONG_GOP)
    assert_exact(copy_from(whole, tmp_path / "cut.mp4", 7), range(7, 60), torchcodec())


def test_torchcodec_that_imports_but_cannot_decode_says_what_is_missing(monkeypatch):
    pytest.importorskip("torchcodec")

    def fail():
        raise RuntimeError("no FFmpeg")

    monkeypatch.setattr("vjepa_distill.data.decoders.torchcodec._probe", fail)
    with pytest.raises(
        UserError, match=r"cannot decode here .no FFmpeg.*system's FFmpeg.*--data.decoder pyav"
    ):
        TorchCodec()


def test_write_video_is_what_the_world_is_made_of(tmp_path):
    write_video(tmp_path / "a.mp4", paint_numbers(range(9)), fps=10)
    assert assert_exact(str(tmp_path / "a.mp4"), range(9)).fps == pytest.approx(10)
