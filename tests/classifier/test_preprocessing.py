"""Preprocessing equals torchvision's to the last bit, and maps return to where they came from."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from reportgen.classifier.preprocessing import (
    Prepared,
    display_copy,
    display_size,
    place_back,
    prepare,
    prepare_mask,
)
from reportgen.classifier.torchvision_operators import ensure_torchvision
from reportgen.errors import ImageError, ModelError
from reportgen.image import open_image
from reportgen.records import Box, Preprocessing

ensure_torchvision()

from torchvision import transforms  # noqa: E402

SIZES = [(500, 375), (375, 500), (333, 217), (224, 224), (57, 300), (301, 58), (31, 29), (2, 2)]
RESIZES: list[int | tuple[int, int]] = [256, 224, 33, (64, 64), (57, 90), (301, 35)]
CROPS = [(224, 224), (32, 32), (31, 60), (255, 33)]
INTERPOLATIONS = ("nearest", "bilinear", "bicubic")


def noise(size: tuple[int, int], mode: str = "RGB") -> Image.Image:
    """Return a picture in which every pixel differs from its neighbours."""
    shape = (size[1], size[0], 3) if mode == "RGB" else (size[1], size[0])
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8))


def plan(
    resize: int | tuple[int, int],
    crop: tuple[int, int],
    channels: int = 3,
    interpolation: str = "bilinear",
) -> Preprocessing:
    return Preprocessing.model_validate(
        {
            "channels": channels,
            "resize": resize,
            "crop": crop,
            "interpolation": interpolation,
            "mean": (0.5,) * channels,
            "std": (0.25,) * channels,
        }
    )


def torchvisions(image: Image.Image, preprocessing: Preprocessing) -> torch.Tensor:
    """Return what torchvision makes of ``image``."""
    chain = transforms.Compose(
        [
            transforms.Resize(
                preprocessing.resize,
                transforms.InterpolationMode(preprocessing.interpolation),
                antialias=True,
            ),
            transforms.CenterCrop(preprocessing.crop),
            transforms.ToTensor(),
        ]
    )
    tensor = chain(image)
    assert isinstance(tensor, torch.Tensor)
    return tensor


def largest_gap(left: torch.Tensor, right: torch.Tensor) -> float:
    """Return the largest difference of two tensors, infinite where shape or dtype differ."""
    if (left.shape, left.dtype) != (right.shape, right.dtype):
        return math.inf
    return float((left - right).abs().max())


def test_the_comparison_can_fail() -> None:
    pixels = torch.zeros(3, 4, 5)
    other = pixels.clone()
    other[2, 3, 4] = 1e-7
    assert largest_gap(pixels, pixels.clone()) == 0
    assert largest_gap(pixels, other) > 0
    assert largest_gap(pixels, pixels.permute(0, 2, 1)) == math.inf
    assert largest_gap(pixels, pixels.double()) == math.inf


# --- forward: equal to torchvision ------------------------------------------------------------


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("size", SIZES)
def test_pixels_equal_torchvisions_exactly(size: tuple[int, int], interpolation: str) -> None:
    image = noise(size)
    for resize, crop in itertools.product(RESIZES, CROPS):
        preprocessing = plan(resize, crop, interpolation=interpolation)
        prepared = prepare(image, preprocessing)
        assert largest_gap(prepared.pixels, torchvisions(image, preprocessing)) == 0, (resize, crop)


@settings(deadline=None, max_examples=150)
@given(
    size=st.tuples(st.integers(2, 120), st.integers(2, 120)),
    resize=st.integers(1, 90) | st.tuples(st.integers(1, 90), st.integers(1, 90)),
    crop=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    channels=st.sampled_from([1, 3]),
    interpolation=st.sampled_from(INTERPOLATIONS),
)
def test_any_size_equals_torchvisions(
    size: tuple[int, int],
    resize: int | tuple[int, int],
    crop: tuple[int, int],
    channels: int,
    interpolation: str,
) -> None:
    image = noise(size, "RGB" if channels == 3 else "L")
    preprocessing = plan(resize, crop, channels, interpolation)
    prepared = prepare(image, preprocessing)
    assert largest_gap(prepared.pixels, torchvisions(image, preprocessing)) == 0
    assert prepared.pixels.shape == (channels, *crop)
    assert 0 <= prepared.pixels.min() <= prepared.pixels.max() <= 1
    assert prepared.size == size


def test_another_interpolation_gives_other_pixels() -> None:
    made = [prepare(noise((50, 40)), plan(30, (30, 30), 3, i)).pixels for i in INTERPOLATIONS]
    gaps = [largest_gap(a, b) for a, b in itertools.combinations(made, 2)]
    assert min(gaps) > 0.1


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB")])
@pytest.mark.parametrize("source", ["L", "RGB", "RGBA"])
def test_the_network_decides_the_channels(channels: int, mode: str, source: str) -> None:
    image = noise((40, 50)).convert(source)
    prepared = prepare(image, plan(32, (32, 32), channels))
    assert largest_gap(prepared.pixels, torchvisions(image.convert(mode), plan(32, (32, 32)))) == 0


@pytest.mark.parametrize("channels", [2, 4, 13])
def test_a_picture_without_the_channels_of_the_network_is_refused(channels: int) -> None:
    with pytest.raises(ImageError, match=f"of {channels} channels, but this one has 3; give"):
        prepare(noise((40, 50)), plan(32, (32, 32), channels))
    other = np.zeros((50, 40, 5), np.float32)
    with pytest.raises(ImageError, match=f"of {channels} channels, but this one has 5; give"):
        prepare(noise((40, 50)), plan(32, (32, 32), channels), other)


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_each_plane_is_prepared_as_a_grey_picture_is(interpolation: str) -> None:
    planes = np.random.default_rng(3).integers(0, 256, (50, 40, 4), dtype=np.uint8)
    way = plan(33, (32, 40), 4, interpolation)
    found = prepare(noise((40, 50)), way, planes)
    alone = [
        prepare(Image.fromarray(planes[..., i]), plan(33, (32, 40), 1, interpolation)).pixels
        for i in range(4)
    ]
    assert largest_gap(found.pixels, torch.cat(alone)) == 0
    assert largest_gap(found.pixels, torch.cat(alone[::-1])) > 0
    floats = prepare(noise((40, 50)), way, planes.astype(np.float32) / 255).pixels
    assert floats.min() >= 0 and floats.max() <= 1
    # Bytes are rounded to bytes, and by the bicubic filter cut off between its two passes.
    assert largest_gap(floats, found.pixels) < (0.2 if interpolation == "bicubic" else 0.01)


def test_changed_colours_are_noted() -> None:
    grey, colour = noise((40, 50), "L"), noise((40, 50))
    assert "repeated for red, green and blue" in prepare(grey, plan(32, (32, 32))).notes[0]
    assert "turned into grey" in prepare(colour, plan(32, (32, 32), 1)).notes[0]
    assert prepare(grey, plan(32, (32, 32), 1)).notes == prepare(colour, plan(32, (32, 32))).notes


@pytest.mark.parametrize(
    ("resize", "crop"), [(0, (32, 32)), ((32, 0), (32, 32)), (32, (32, 0)), (32, (-1, 32))]
)
def test_impossible_sizes_are_refused(resize: int | tuple[int, int], crop: tuple[int, int]) -> None:
    with pytest.raises(ModelError, match="at least 1 pixel"):
        prepare(noise((40, 50)), plan(resize, crop))


@pytest.mark.parametrize("size", [(2, 60_000), (60_000, 2)])
def test_a_picture_too_long_and_thin_is_refused_before_it_fills_the_memory(
    size: tuple[int, int],
) -> None:
    with pytest.raises(ImageError, match="less extreme"):
        prepare(Image.new("RGB", size), plan(256, (224, 224)))


def test_the_picture_stays_as_it_is() -> None:
    image = noise((40, 50))
    before = image.tobytes()
    prepare(image, plan((50, 40), (50, 40))).pixels.zero_()
    assert image.tobytes() == before


@pytest.mark.parametrize(
    "name",
    ["images/extra/dog_cat.jfif", "images/extra/both.png", "masks/coral/bird_segmentation.bmp"],
)
def test_real_pictures_equal_torchvisions(assets: Path, name: str) -> None:
    image = open_image(assets / name).image
    for interpolation in INTERPOLATIONS:
        preprocessing = plan(256, (224, 224), interpolation=interpolation)
        prepared = prepare(image, preprocessing)
        with Image.open(assets / name) as opened:
            expected = torchvisions(opened.convert("RGB"), preprocessing)
        assert largest_gap(prepared.pixels, expected) == 0


# --- normalisation ----------------------------------------------------------------------------


# --- the crop ---------------------------------------------------------------------------------


def edges(box: Box) -> tuple[float, float, float, float]:
    return box.left, box.top, box.right, box.bottom


@pytest.mark.parametrize(
    ("size", "resize", "crop", "expected"),
    [
        ((640, 480), 240, (240, 240), (80, 0, 560, 480)),
        ((480, 640), 240, (240, 240), (0, 80, 480, 560)),
        ((512, 512), 256, (224, 224), (32, 32, 480, 480)),
        ((640, 480), (240, 240), (240, 240), (0, 0, 640, 480)),
        ((100, 50), (50, 100), (30, 60), (20, 10, 80, 40)),
        ((28, 28), 28, (32, 32), (-2, -2, 30, 30)),
        ((28, 28), 28, (31, 31), (-1, -1, 30, 30)),
        ((28, 28), 28, (24, 40), (-6, 2, 34, 26)),
    ],
)
def test_the_crop_in_pixels_of_the_picture(
    size: tuple[int, int],
    resize: int | tuple[int, int],
    crop: tuple[int, int],
    expected: tuple[int, int, int, int],
) -> None:
    prepared = prepare(noise(size), plan(resize, crop))
    assert edges(prepared.crop) == pytest.approx(expected, abs=1e-9)
    assert padded(prepared) == (min(expected) < 0)


def padded(prepared: Prepared) -> bool:
    return any("padded" in note for note in prepared.notes)


def test_padding_is_black_and_said() -> None:
    prepared = prepare(Image.new("RGB", (20, 10), "white"), plan((10, 20), (14, 16)))
    assert prepared.pixels[:, :2].max() == 0
    assert prepared.pixels[:, -2:].max() == 0
    assert prepared.pixels[:, 2:-2].min() == 1
    assert prepared.notes == (
        "padded with black, as the resized picture (20x10 pixels) is smaller than what the network "
        "sees (16x14)",
    )


@settings(deadline=None, max_examples=100)
@given(
    size=st.tuples(st.integers(2, 400), st.integers(2, 400)),
    resize=st.integers(1, 90) | st.tuples(st.integers(1, 90), st.integers(1, 90)),
    crop=st.tuples(st.integers(1, 90), st.integers(1, 90)),
)
def test_the_crop_returns_to_whole_pixels_of_the_resized_picture(
    size: tuple[int, int], resize: int | tuple[int, int], crop: tuple[int, int]
) -> None:
    prepared = prepare(Image.new("L", size), plan(resize, crop, channels=1))
    across, down = (prepared.resized[i] / size[i] for i in (0, 1))
    left, top, right, bottom = edges(prepared.crop)
    cut = (left * across, top * down, right * across, bottom * down)
    assert cut == pytest.approx([round(edge) for edge in cut], abs=1e-6)
    assert (cut[3] - cut[1], cut[2] - cut[0]) == pytest.approx(crop, abs=1e-6)
    left, top, right, bottom = (round(edge) for edge in cut)
    inside = min(left, top) >= 0 and right <= prepared.resized[0] and bottom <= prepared.resized[1]
    assert inside == (not padded(prepared))


# --- back -------------------------------------------------------------------------------------


def slowly_placed(
    saliency: NDArray[np.float32], crop: Box, size: tuple[int, int]
) -> NDArray[np.float64]:
    """Place a map pixel by pixel, as the definition says."""
    height, width = saliency.shape
    placed = np.full((size[1], size[0]), np.nan)
    for row, column in np.ndindex(*placed.shape):
        x, y = column + 0.5, row + 0.5
        if not (crop.left <= x < crop.right and crop.top <= y < crop.bottom):
            continue
        u = (x - crop.left) / (crop.right - crop.left) * width - 0.5
        v = (y - crop.top) / (crop.bottom - crop.top) * height - 0.5
        u, v = min(max(u, 0), width - 1), min(max(v, 0), height - 1)
        u0, v0 = math.floor(u), math.floor(v)
        u1, v1 = min(u0 + 1, width - 1), min(v0 + 1, height - 1)
        above = saliency[v0, u0] * (u0 + 1 - u) + saliency[v0, u1] * (u - u0)
        below = saliency[v1, u0] * (u0 + 1 - u) + saliency[v1, u1] * (u - u0)
        placed[row, column] = above * (v0 + 1 - v) + below * (v - v0)
    return placed


def a_map(height: int, width: int) -> NDArray[np.float32]:
    return np.random.default_rng(1).normal(size=(height, width)).astype(np.float32)


@settings(deadline=None, max_examples=60)
@given(
    shape=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    size=st.tuples(st.integers(2, 40), st.integers(2, 40)),
    corner=st.tuples(st.floats(-5, 15), st.floats(-5, 15)),
    extent=st.tuples(st.floats(2, 40), st.floats(2, 40)),
)
def test_placing_equals_its_definition(
    shape: tuple[int, int],
    size: tuple[int, int],
    corner: tuple[float, float],
    extent: tuple[float, float],
) -> None:
    crop = Box(
        left=corner[0], top=corner[1], right=corner[0] + extent[0], bottom=corner[1] + extent[1]
    )
    placed = place_back(a_map(*shape), crop, size)
    expected = slowly_placed(a_map(*shape), crop, size)
    assert placed.dtype == np.float32
    np.testing.assert_allclose(placed, expected, atol=1e-5, equal_nan=True)


@pytest.mark.parametrize("shape", [(7, 7), (14, 5), (1, 1)])
def test_a_map_of_the_whole_picture_is_enlarged_as_torch_does(shape: tuple[int, int]) -> None:
    saliency = a_map(*shape)
    placed = place_back(saliency, Box(left=0, top=0, right=90, bottom=60), (90, 60))
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(saliency)[None, None], (60, 90), mode="bilinear", align_corners=False
    )
    np.testing.assert_allclose(placed, expected[0, 0].numpy(), atol=1e-5)


def test_outside_the_crop_is_nan() -> None:
    placed = place_back(np.ones((4, 4)), Box(left=2, top=1, right=6, bottom=5), (10, 7))
    assert np.array_equal(np.argwhere(np.isfinite(placed)).min(0), [1, 2])
    assert np.array_equal(np.argwhere(np.isfinite(placed)).max(0), [4, 5])
    assert np.isfinite(placed).sum() == 16


def test_a_map_on_the_pixels_themselves_comes_back_unchanged() -> None:
    saliency = a_map(6, 8)
    box = Box(left=0, top=0, right=8, bottom=6)
    assert np.array_equal(place_back(saliency, box, (8, 6)), saliency)
    assert not np.array_equal(place_back(saliency[::-1], box, (8, 6)), saliency)


def spot_comes_back_at(prepared: Prepared) -> tuple[float, float]:
    """Return (x, y) of the weighted centre of what the network sees, placed back."""
    saliency = prepared.pixels.mean(0).numpy()
    weights = np.nan_to_num(place_back(saliency, prepared.crop, prepared.size))
    rows, columns = np.indices(weights.shape) + 0.5
    return (
        float((columns * weights).sum() / weights.sum()),
        float((rows * weights).sum() / weights.sum()),
    )


@pytest.mark.parametrize(
    ("size", "resize", "crop"),
    [
        ((500, 375), 256, (224, 224)),
        ((375, 500), 256, (224, 224)),
        ((375, 500), (224, 224), (224, 224)),
        ((640, 300), 120, (96, 200)),
        ((90, 70), 256, (224, 224)),
        ((90, 70), (70, 90), (128, 128)),
    ],
)
@pytest.mark.parametrize("place", [(0.5, 0.5), (0.35, 0.3), (0.65, 0.72)])
def test_a_bright_spot_comes_back_where_it_was_drawn(
    size: tuple[int, int],
    resize: int | tuple[int, int],
    crop: tuple[int, int],
    place: tuple[float, float],
) -> None:
    left, top = round(size[0] * place[0]), round(size[1] * place[1])
    image = Image.new("RGB", size)
    image.paste((255, 255, 255), (left, top, left + 6, top + 6))
    x, y = spot_comes_back_at(prepare(image, plan(resize, crop)))
    assert abs(x - (left + 3)) < 1
    assert abs(y - (top + 3)) < 1


def test_a_spot_outside_the_crop_does_not_come_back() -> None:
    image = Image.new("RGB", (300, 100))
    image.paste((255, 255, 255), (10, 40, 20, 50))
    prepared = prepare(image, plan(100, (100, 100)))
    placed = place_back(prepared.pixels.mean(0).numpy(), prepared.crop, prepared.size)
    assert np.nanmax(placed) == 0
    assert np.isnan(placed[45, 15])


# --- the display copy -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "limit", "expected"),
    [
        ((500, 375), None, (500, 375)),
        ((500, 375), 500, (500, 375)),
        ((500, 375), 1000, (500, 375)),
        ((500, 375), 100, (100, 75)),
        ((375, 500), 100, (75, 100)),
        ((3000, 2), 100, (100, 1)),
    ],
)
def test_the_longer_side_is_at_most_the_limit(
    size: tuple[int, int], limit: int | None, expected: tuple[int, int]
) -> None:
    assert display_size(size, limit) == expected


def test_picture_map_and_crop_share_one_grid() -> None:
    image = noise((501, 375))
    prepared = prepare(image, plan(256, (224, 224)))
    copy, crop = display_copy(image, prepared.crop, 100)
    placed = place_back(np.ones((7, 7)), crop, copy.size)
    assert placed.shape == (copy.height, copy.width) == (75, 100)
    rows, columns = np.nonzero(np.isfinite(placed))
    assert abs(columns.min() - crop.left) <= 0.5
    assert abs(columns.max() + 1 - crop.right) <= 0.5
    assert abs(rows.min() - crop.top) <= 0.5
    assert abs(rows.max() + 1 - crop.bottom) <= 0.5


def test_the_display_copy_is_reduced_by_lanczos() -> None:
    image, box = noise((60, 40)), Box(left=0, top=0, right=60, bottom=40)
    copy, crop = display_copy(image, box, 30)
    expected = image.resize((30, 20), Image.Resampling.LANCZOS)
    assert copy.tobytes() == expected.tobytes()
    assert edges(crop) == (0, 0, 30, 20)


def test_the_display_copy_is_a_copy() -> None:
    image = noise((60, 40))
    copy, crop = display_copy(image, Box(left=1, top=2, right=3, bottom=4))
    copy.paste((0, 0, 0), (0, 0, 60, 40))
    assert image.tobytes() == noise((60, 40)).tobytes()
    assert edges(crop) == (1, 2, 3, 4)


def blobs(size: tuple[int, int]) -> Image.Image:
    """Return a mask of two boxes without symmetry, one of them at the border."""
    width, height = size
    values = np.zeros((height, width), dtype=np.uint8)
    values[height // 8 : height // 2, width // 5 : width // 2] = 255
    values[-max(1, height // 6) :, -max(1, width // 3) :] = 255
    return Image.fromarray(values)


def check_geometry(own: NDArray[np.bool_], size: tuple[int, int], way: Preprocessing) -> None:
    """A mask lies where the same mask, sent through as a picture without smoothing, lies."""
    nearest = way.model_copy(update={"interpolation": "nearest", "channels": 1})
    assert np.array_equal(own, prepare(blobs(size), nearest).pixels[0].numpy() > 0)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("resize", RESIZES)
def test_a_mask_goes_the_way_of_its_picture(
    size: tuple[int, int], resize: int | tuple[int, int]
) -> None:
    for crop in CROPS:
        mask = prepare_mask(blobs(size), plan(resize, crop))
        assert (mask.dtype, mask.shape) == (torch.bool, crop)
        check_geometry(mask.numpy(), size, plan(resize, crop))


def test_a_mask_one_pixel_off_is_seen() -> None:
    way, size = plan(33, (31, 31)), (57, 41)
    mask = prepare_mask(blobs(size), way).numpy()
    check_geometry(mask, size, way)
    for axis in (0, 1):
        with pytest.raises(AssertionError):
            check_geometry(np.roll(mask, 1, axis), size, way)


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_a_mask_covers_the_object_of_its_smoothed_picture(interpolation: str) -> None:
    size = (333, 217)
    way = plan(64, (64, 60), channels=1, interpolation=interpolation)
    bright = prepare(blobs(size), way).pixels[0].numpy()
    mask = prepare_mask(blobs(size), way).numpy()
    # Smoothing makes the border grey; what is clearly in or out is in or out of the mask.
    assert mask[bright > 0.9].all()
    assert not mask[bright < 0.1].any()
    shifted = np.roll(mask, 3, axis=1)
    assert not shifted[bright > 0.9].all()


def test_an_object_can_be_cropped_away_and_padding_is_none() -> None:
    edge = Image.fromarray((np.arange(64) < 8)[None].repeat(32, 0).astype(np.uint8) * 255)
    assert not prepare_mask(edge, plan(32, (32, 32))).any()
    padded = prepare_mask(Image.new("L", (10, 10), 255), plan(10, (14, 16)))
    assert padded.sum() == 100
    assert padded[2:12, 3:13].all()
