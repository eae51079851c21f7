"""Maps and pictures: the right colour at the right place."""

from __future__ import annotations

import base64
from io import BytesIO

import matplotlib
import numpy as np
import pytest
from PIL import Image

from reportgen.render.pictures import (
    LARGEST,
    MARK,
    Frame,
    Pixels,
    coloured,
    cropped,
    data_address,
    enlargement,
    outlined,
    overlay,
    placed,
    raw,
    rgb,
    seen,
)

RED, BLUE = (np.array(matplotlib.colormaps["RdBu_r"](end)[:3]) * 255 for end in (1.0, 0.0))


def half_and_half() -> np.ndarray:
    """Return a map (100, 100): 1 on the left, -1 on the right, and a row of zeros on top."""
    values = np.ones((100, 100), np.float32)
    values[:, 50:] = -1
    values[0] = 0
    return values


def grey(size: tuple[int, int], level: int = 128) -> Pixels:
    return np.full((*size, 3), level, np.uint8)


def opened(address: str) -> Image.Image:
    return Image.open(BytesIO(base64.b64decode(address.partition(",")[2])))


def colour_at(picture: Image.Image, x: int, y: int) -> np.ndarray:
    return np.array(picture.convert("RGB").getpixel((x, y)), float)


def test_the_scale_ends_at_the_percentile_of_the_sizes() -> None:
    values = np.linspace(-1, 0.5, 1000, dtype=np.float32).reshape(20, 50)
    chart = coloured(values, signed=True)
    assert chart.limit == pytest.approx(np.percentile(np.abs(values), 99.5))
    assert chart.strength.min() == -1
    assert chart.strength.max() == pytest.approx(0.5 / chart.limit)


def test_an_unsigned_scale_starts_at_zero_not_at_the_smallest_value() -> None:
    chart = coloured(np.linspace(3, 4, 100, dtype=np.float32).reshape(10, 10), signed=False)
    assert chart.strength.min() == pytest.approx(3 / chart.limit)


def test_a_map_with_few_values_ends_at_the_largest() -> None:
    values = np.zeros((100, 100), np.float32)
    values[3, 4] = 7
    chart = coloured(values, signed=False)
    assert chart.limit == 7
    assert chart.strength[3, 4] == 1


@pytest.mark.parametrize(
    ("value", "flaw"),
    [(0.0, "constant map"), (2.5, "constant map"), (np.nan, "values are not finite")],
)
def test_a_map_without_colours_says_why(value: float, flaw: str) -> None:
    chart = coloured(np.full((40, 40), value, np.float32), signed=True)
    assert chart.flaw == flaw
    over = overlay(grey((40, 40)), chart)
    assert not np.array_equal(np.asarray(over), np.asarray(seen(grey((40, 40)))))


def test_the_map_alone_has_the_colours_of_the_bar() -> None:
    picture = raw(coloured(half_and_half(), signed=True))
    assert picture.size == (100, 100)
    assert colour_at(picture, 10, 50) == pytest.approx(RED, abs=1)
    assert colour_at(picture, 90, 50) == pytest.approx(BLUE, abs=1)
    assert colour_at(picture, 10, 0).min() > 240


def test_colours_are_opaque_where_the_map_is_large_and_absent_where_it_is_zero() -> None:
    picture = overlay(grey((100, 100)), coloured(half_and_half(), signed=True))
    assert picture.size == (400, 400)
    assert colour_at(picture, 40, 200) == pytest.approx(0.9 * RED + 0.1 * 128, abs=1)
    assert colour_at(picture, 360, 200) == pytest.approx(0.9 * BLUE + 0.1 * 128, abs=1)
    assert colour_at(picture, 40, 1) == pytest.approx([128, 128, 128], abs=1)


def test_the_picture_below_a_map_is_grey() -> None:
    pixels = np.zeros((100, 100, 3), np.uint8)
    pixels[..., 0] = 200
    values = np.zeros((100, 100), np.float32)
    values[99, 99] = 1
    red, green, blue = colour_at(overlay(pixels, coloured(values, signed=False)), 10, 10)
    assert red == green == blue == 60


def test_borders_lie_where_segments_meet() -> None:
    segments = np.zeros((100, 100), np.int32)
    segments[:, 50:] = 1
    chart = coloured(half_and_half(), signed=True)
    plain, bordered = (np.asarray(raw(chart, s)) for s in (segments * 0, segments))
    assert sorted(set(np.nonzero((plain != bordered).any(axis=2))[1])) == [199]


def test_lines_are_drawn_on_an_overlay_and_leave_it_as_it_is() -> None:
    segments = np.zeros((100, 100), np.int32)
    segments[:, 50:] = 1
    marked = np.zeros((100, 100), np.uint8)
    marked[:20] = 1
    chart = coloured(half_and_half(), signed=True)
    plain = overlay(grey((100, 100)), chart)
    before = np.asarray(plain).copy()
    lines = outlined(plain, chart, segments, marked)
    assert colour_at(lines, 199, 200) == pytest.approx(
        0.4 * colour_at(plain, 199, 200) + 153, abs=1
    )
    assert colour_at(lines, 100, 79) == pytest.approx(MARK)
    changed = (np.asarray(lines) != before).any(axis=2)
    assert sorted(set(np.nonzero(changed[100:])[1])) == [199]
    assert sorted(set(np.nonzero(changed[:, :150])[0])) == [79]
    assert np.array_equal(np.asarray(plain), before)
    assert outlined(plain, chart, None, None) is plain


def test_a_map_lands_inside_the_frame() -> None:
    original = grey((60, 90), 255)
    picture = placed(original, Image.new("RGB", (10, 10), "black"), Frame(30, 0, 90, 60))
    factor = LARGEST / 90
    assert picture.size == (LARGEST, round(60 * factor))
    dark = np.asarray(picture.convert("L")) < 10
    rows, columns = np.nonzero(dark)
    assert (columns.min(), columns.max()) == pytest.approx((30 * factor, 90 * factor), abs=6)
    assert (rows.min(), rows.max()) == pytest.approx((0, 60 * factor), abs=6)


def test_a_frame_beyond_the_picture_is_cut() -> None:
    picture = cropped(grey((60, 90), 50), Frame(-10, -10, 200, 200))
    assert np.asarray(picture.convert("L")).max() == 50


def test_the_picture_outside_the_frame_is_faded() -> None:
    picture = cropped(grey((60, 90), 50), Frame(0, 0, 45, 60))
    assert colour_at(picture, 100, 150) == pytest.approx([50] * 3)
    assert colour_at(picture, 400, 150) == pytest.approx([50 * 0.45 + 255 * 0.55] * 3, abs=1)
    assert np.array_equal(np.asarray(cropped(grey((60, 90), 50), None)), np.full((307, 460, 3), 50))


@pytest.mark.parametrize(("side", "factor"), [(28, 15), (32, 13), (224, 2), (384, 1), (1024, 1)])
def test_pixels_are_enlarged_by_whole_numbers(side: int, factor: int) -> None:
    assert enlargement(grey((side, side // 2)), 420) == factor


@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_of_one_and_three_channels_are_shown(channels: int) -> None:
    picture = seen(np.full((20, 30, channels), 77, np.uint8))
    assert picture.size == (240, 160)
    assert colour_at(picture, 5, 5) == pytest.approx([77] * 3)


def test_noise_becomes_a_data_address() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (224, 224, 3), dtype=np.uint8)
    assert data_address(Image.fromarray(noise)).startswith("data:image/jpeg;base64,")


def test_few_colours_become_a_lossless_png() -> None:
    colours = np.random.default_rng(0).integers(0, 255, (200, 3)).astype(np.uint8)
    pixels = colours[np.arange(10_000).reshape(100, 100) % 200]
    address = data_address(Image.fromarray(pixels))
    assert address.startswith("data:image/png;")
    assert np.array_equal(np.asarray(opened(address).convert("RGB")), pixels)


def test_many_colours_become_a_jpeg_of_limited_size() -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (600, 900, 3)).astype(np.uint8)
    address = data_address(Image.fromarray(pixels))
    assert address.startswith("data:image/jpeg;")
    assert opened(address).size == (460, 307)


@pytest.mark.parametrize(("channels", "kept"), [(1, (0, 0, 0)), (2, (0, 0, 0)), (4, (0, 1, 2))])
def test_of_other_channels_the_first_are_drawn(channels: int, kept: tuple[int, ...]) -> None:
    pixels = np.arange(4 * 5 * channels, dtype=np.uint8).reshape(4, 5, channels)
    assert np.array_equal(rgb(pixels), pixels[..., list(kept)])


def test_the_pixels_of_a_small_picture_stay_squares() -> None:
    pixels = np.zeros((28, 28), np.uint8)
    pixels[10, 12] = 255
    drawn = np.asarray(cropped(pixels, None))
    assert set(np.unique(drawn)) == {0, 255}
    large = np.asarray(cropped(np.repeat(np.repeat(pixels, 8, 0), 8, 1), None))
    assert len(np.unique(large)) > 2


@pytest.mark.parametrize("shape", [(100, 2000), (2000, 100)])
def test_a_long_picture_shows_the_crop_inside_its_frame(shape: tuple[int, int]) -> None:
    pixels = np.zeros((*shape, 3), np.uint8)
    middle = (
        slice(shape[0] // 2 - 25, shape[0] // 2 + 25),
        slice(shape[1] // 2 - 25, shape[1] // 2 + 25),
    )
    pixels[middle] = (255, 0, 0)
    pixels[:50, :50] = (0, 0, 255)  # an object outside the crop
    left, top = shape[1] / 2 - 50, shape[0] / 2 - 50
    drawn = np.asarray(cropped(pixels, Frame(left, top, left + 100, top + 100)))
    centre = drawn[drawn.shape[0] // 2, drawn.shape[1] // 2]
    assert centre.tolist() == [255, 0, 0]
    faded = drawn[2, 2].astype(int)
    assert faded[2] == 255 and 100 < faded[0] < 200
    red = ((drawn[..., 0] > 200) & (drawn[..., 1] < 60)).sum()
    assert red > 0.15 * (LARGEST / 20) ** 2
