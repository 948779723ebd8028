"""Pictures: exact colours, clear gaps, cells where they lie, components equal to a reference."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image
from sklearn.decomposition import PCA

from tests.pages import facts
from vjepa_distill.pages import pictures
from vjepa_distill.pages.colours import RAMP, components, ramp, token_colours
from vjepa_distill.pages.contents import Clips, Mask, Segment
from vjepa_distill.pages.films import COLUMNS, columns, films, masks, searches
from vjepa_distill.pages.pictures import GAP, Picture


def pixels(picture: Picture) -> np.ndarray:
    """What a browser would show: RGBA."""
    head, data = picture.source.split(",")
    assert head == "data:image/webp;base64"
    found = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGBA"))
    assert found.shape[:2] == (picture.height, picture.width)
    return found


def tile(picture: Picture, number: int, width: int) -> np.ndarray:
    left = number * (width + GAP)
    return pixels(picture)[:, left : left + width]


def test_components_are_those_of_a_pca():
    tokens = np.random.default_rng(1).normal(size=(2, 3, 4, 4, 12)) * np.arange(1, 13)
    placed, share = components(tokens)
    reference = PCA(3).fit(tokens.reshape(-1, 12))
    due = reference.transform(tokens.reshape(-1, 12))
    signs = np.sign((placed.reshape(-1, 3) * due).sum(axis=0))
    assert np.allclose(placed.reshape(-1, 3), due * signs)
    assert np.allclose(share, reference.explained_variance_ratio_)


def test_equal_tokens_have_equal_colours_in_all_clips_and_others_do_not():
    few = np.random.default_rng(2).normal(size=(5, 16))
    which = np.random.default_rng(3).integers(0, 5, (3, 4, 2, 2))
    colours, _ = token_colours(few[which])
    shown = [{tuple(rgb) for rgb in colours[which == number]} for number in range(5)]
    assert all(len(one) == 1 for one in shown)
    assert len(set.union(*shown)) == 5


@pytest.mark.parametrize("tokens", [np.ones((1, 2, 2, 2, 8)), np.zeros((1, 1, 1, 1, 1))])
def test_tokens_that_are_all_alike_are_one_grey(tokens):
    colours, share = token_colours(tokens)
    assert {tuple(rgb) for rgb in colours.reshape(-1, 3)} == {(128, 128, 128)}
    assert not share.any()


def test_a_single_direction_is_one_channel():
    along = np.linspace(-1, 1, 50)[:, None] * np.array([[0.0, 3.0, 0.0]])
    colours, share = token_colours(along.reshape(1, 50, 1, 1, 3))
    flat = colours.reshape(-1, 3)
    assert (np.diff(flat[:, 0].astype(int)) >= 0).all()
    assert (flat[0, 0], flat[-1, 0]) == (0, 255)
    assert (flat[:, 1:] == 128).all()
    assert flat[25, 0] == pytest.approx(131, abs=2)  # the middle of the direction is that of the channel
    assert share.tolist() == pytest.approx([1, 0, 0])


def test_the_ramp_ends_where_it_should_and_brightens_all_the_way():
    shown = ramp(np.linspace(0, 2, 30), 0.0, 2.0)
    assert (shown[0] == RAMP[0]).all()
    assert (shown[-1] == RAMP[-1]).all()
    assert (ramp(np.array(9.0), 0.0, 2.0) == RAMP[-1]).all()
    assert (np.diff(shown @ np.array([0.2126, 0.7152, 0.0722])) > 0).all()


def test_cells_are_exact_and_lie_where_they_lie_in_the_frame():
    colours = np.random.default_rng(4).integers(0, 255, (2, 2, 3, 3), dtype=np.uint8)
    picture = pictures.cells(colours, np.zeros((2, 20, 30, 3), np.uint8), "")
    for number in range(2):
        shown = tile(picture, number, 30)
        for y, x in np.ndindex(20, 30):
            assert tuple(shown[y, x]) == (*colours[number, y * 2 // 20, x * 3 // 30], 255)
    assert not pixels(picture)[:, 30 : 30 + GAP, 3].any()


def test_frames_keep_their_order_and_large_ones_are_made_small():
    frames = np.zeros((3, 400, 200, 3), np.uint8)
    frames[0, :, :, 0], frames[1, :, :, 1], frames[2, :, :, 2] = 220, 220, 220
    picture = pictures.strip(frames, "three")
    assert (picture.height, picture.width) == (128, 3 * 64 + 2 * GAP)
    for number in range(3):
        middle = tile(picture, number, 64)[64, 32, :3]
        assert middle.argmax() == number
        assert middle[number] > 150


def test_hidden_cells_are_hatched_and_seen_ones_are_not():
    frames = np.full((1, 32, 32, 3), 40, np.uint8)
    hidden = np.array([[[True, False], [False, False]]])
    shown = pixels(pictures.masked(frames, hidden, ""))[..., :3].astype(int)
    assert abs(shown[16:, 16:] - 40).max() < 12
    assert abs(shown[18:, :14] - 40).max() < 12
    assert shown[:14, :14].min() > 80
    assert shown[:14, :14].std() > 5


def test_errors_stand_in_their_columns():
    heat, frames = np.full((1, 2, 2, 3), 200, np.uint8), np.zeros((1, 16, 16, 3), np.uint8)
    shown = pixels(pictures.errors(heat, frames, "", at=[2], of=4))
    solid = [bool(shown[8, number * (16 + GAP) + 8, 3]) for number in range(4)]
    assert solid == [False, False, True, False]


@pytest.mark.parametrize("tubelets", [1, 2, COLUMNS, 42])
def test_the_columns_span_the_clip(tubelets):
    shown = columns(tubelets)
    assert len(shown) == min(tubelets, COLUMNS)
    assert (shown[0], shown[-1]) == (0, tubelets - 1)


def test_a_film_has_its_rows_and_soon_lies_under_soon():
    told = films(facts.clips())
    film = told.films[0]
    assert [row.label for row in film.rows][:2] == ["frames", "tokens"]
    assert [tuple(part) for part in film.segments] == [("NOW", 1), ("SOON", 2), ("EVENTUALLY", 1)]
    widths = {row.width for row in film.rows}
    assert len(widths) == 1
    for row in film.rows[2:]:
        solid = [bool(pixels(row)[16, n * (32 + GAP) + 16, 3]) for n in range(4)]
        assert solid == [False, True, True, False]
    assert told.scale
    assert told.scale[0] == 0 < told.scale[1] <= 1


def test_without_a_predictor_there_are_frames_and_tokens_alone():
    told = films(facts.clips(foresight=False))
    assert [len(film.rows) for film in told.films] == [2, 2]
    assert told.scale is None
    assert searches(facts.clips(foresight=False)) == []


def test_a_mask_alike_in_all_moments_is_one_picture_of_every_clip():
    made = facts.clips()
    [alike] = masks(made)
    assert alike.columns == 2
    span = np.ones((2, 4, 2, 2), bool)
    span[:, 0] = False
    [over_time] = masks(Clips(made.names, made.frames, masks=[Mask("NOW is seen", "", span)]))
    assert over_time.columns == 4
    assert "75%" in over_time.pictures[0].words


def test_a_long_clips_parts_keep_their_share_of_the_columns():
    frames = np.zeros((1, 42, 8, 8, 3), np.uint8)
    parts = [Segment("NOW", 2), Segment("SOON", 8), Segment("EVENTUALLY", 32)]
    [film] = films(Clips(["a"], frames, segments=parts)).films
    assert sum(count for _, count in film.segments) == COLUMNS == film.columns
    assert [name for name, _ in film.segments] == ["NOW", "SOON", "EVENTUALLY"]
