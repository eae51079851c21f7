"""What is measured of an image processor gives the pixels that the processor itself gives."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from reportgen.classifier.inputs import preprocessing_of
from reportgen.classifier.measured_preprocessing import measure
from reportgen.classifier.metadata import Hints
from reportgen.classifier.normalisation import normalisation_of
from reportgen.classifier.preprocessing import prepare
from reportgen.classifier.torchvision_operators import ensure_torchvision
from reportgen.errors import ModelError

ensure_torchvision()

transformers = pytest.importorskip("transformers")

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

# Of a level in 255, divided by the smallest of the deviations: what rounding to whole levels does.
ONE_LEVEL = 1 / 255 / 0.224

SIDE: Mapping[str, Any] = {"size": {"height": 48, "width": 40}}
SHORT: Mapping[str, Any] = {
    "size": {"shortest_edge": 40},
    "crop_size": {"height": 32, "width": 32},
}
KINDS: tuple[tuple[str, Mapping[str, Any], object, tuple[int, int]], ...] = (
    ("Beit", SIDE, (48, 40), (48, 40)),
    ("Bit", SHORT, 40, (32, 32)),
    ("CLIP", SHORT, 40, (32, 32)),
    ("ConvNext", {"size": {"shortest_edge": 40}, "crop_pct": 0.8}, 50, (40, 40)),
    ("ConvNext", {"size": {"shortest_edge": 384}}, (384, 384), (384, 384)),
    ("DeiT", {**SIDE, "crop_size": {"height": 32, "width": 32}}, (48, 40), (32, 32)),
    ("EfficientNet", SIDE, (48, 40), (48, 40)),
    ("Levit", {**SHORT, "size": {"shortest_edge": 42}}, 48, (32, 32)),
    ("MobileNetV1", SHORT, 40, (32, 32)),
    ("MobileNetV2", SHORT, 40, (32, 32)),
    ("MobileViT", {**SHORT, "crop_size": {"height": 44, "width": 44}}, 40, (44, 44)),
    ("PoolFormer", {**SHORT, "crop_pct": 0.8}, 50, (32, 32)),
    ("PPLCNet", {**SHORT, "resize_short": 40, "size_divisor": None}, 40, (32, 32)),
    ("Pvt", SIDE, (48, 40), (48, 40)),
    ("Segformer", SIDE, (48, 40), (48, 40)),
    ("Siglip", SIDE, (48, 40), (48, 40)),
    ("ViT", SIDE, (48, 40), (48, 40)),
)


def processor(kind: str, options: Mapping[str, Any], backend: str = "Pil") -> Any:
    made = getattr(transformers, f"{kind}ImageProcessor{backend}", None)
    return (made or getattr(transformers, f"{kind}ImageProcessor"))(**options)


def process(made: Any) -> Callable[[Image.Image], Tensor]:
    def run(picture: Image.Image) -> Tensor:
        return torch.as_tensor(np.asarray(made(picture, return_tensors="pt")["pixel_values"][0]))

    return run


def picture(width: int, height: int, mode: str = "RGB") -> Image.Image:
    shape = (height // 4, width // 4, 3)
    cells = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
    whole = Image.fromarray(cells).resize((width, height), Image.Resampling.BICUBIC)
    return whole.convert(mode)


def ours(hints: Hints, shown: Image.Image) -> Tensor:
    preprocessing = preprocessing_of(hints)
    return normalisation_of(preprocessing)(prepare(shown, preprocessing).pixels)


@pytest.mark.parametrize(("kind", "options", "resize", "crop"), KINDS)
def test_the_pixels_are_those_of_the_image_processor(
    kind: str, options: Mapping[str, Any], resize: object, crop: tuple[int, int]
) -> None:
    run = process(processor(kind, options))
    hints, notes = measure(run, 3, "file")
    assert (hints.resize.value, hints.crop.value, notes) == (resize, crop, ())  # type: ignore[union-attr]
    for shown in (picture(128, 80), picture(80, 128), picture(96, 96)):
        found, wanted = ours(hints, shown), run(shown).float()
        assert found.shape == wanted.shape
        # Pillow resizes on both sides; what is left are the digits of mean and deviation.
        assert (found - wanted).abs().max() < 2e-4


def test_half_a_pixel_is_cut_to_the_next_one() -> None:
    # A crop of 40 from 75 pixels: transformers starts at 17, torchvision and this at 18.
    run = process(processor("ConvNext", {"size": {"shortest_edge": 40}, "crop_pct": 0.8}))
    hints, notes = measure(run, 3, "file")
    found, wanted = ours(hints, picture(120, 80)), run(picture(120, 80))
    assert notes == ()
    assert (found[:, :, :-1] - wanted[:, :, 1:]).abs().max() < 2e-4


@pytest.mark.parametrize("kind", ["ViT", "MobileNetV2", "DeiT"])
def test_torchvisions_own_resize_differs_by_rounding_alone(kind: str) -> None:
    options = next(options for name, options, *_ in KINDS if name == kind)
    hints, _ = measure(process(processor(kind, options)), 3, "file")
    run = process(processor(kind, options, backend=""))
    difference = (ours(hints, picture(120, 80)) - run(picture(120, 80))).abs()
    assert difference.mean() < 1e-2
    assert difference.max() < 2 * ONE_LEVEL


@pytest.mark.parametrize(
    ("options", "mean", "std"),
    [
        ({"image_mean": MEAN, "image_std": STD}, MEAN, STD),
        ({"do_normalize": False}, (0.0,) * 3, (1.0,) * 3),
        ({"do_rescale": False, "do_normalize": False}, (0.0,) * 3, (0.00392157,) * 3),
        ({"rescale_factor": 1 / 127.5, "do_normalize": False}, (0.0,) * 3, (0.5,) * 3),
        ({"do_rescale": False, "image_mean": [128] * 3, "image_std": [64] * 3}, None, None),
    ],
)
def test_values_are_measured_in_pixels_from_0_to_1(
    options: Mapping[str, Any], mean: tuple[float, ...] | None, std: tuple[float, ...] | None
) -> None:
    hints, _ = measure(process(processor("ViT", {**SIDE, **options})), 3, "file")
    assert hints.mean is not None
    assert hints.std is not None
    assert hints.mean.value == pytest.approx(mean or (128 / 255,) * 3, abs=1e-6)
    assert hints.std.value == pytest.approx(std or (64 / 255,) * 3, abs=1e-6)


@pytest.mark.parametrize(
    ("options", "mean", "std"),
    [
        ({"include_top": False, "do_normalize": False}, 0.0, 1.0),
        ({"include_top": False, "do_normalize": False, "rescale_offset": True,
          "rescale_factor": 1 / 127.5}, 0.5, 0.5),
        ({"include_top": True}, 0.5, 0.25),
    ],
)  # fmt: skip
def test_efficientnets_offset_and_second_division(
    options: Mapping[str, Any], mean: float, std: float
) -> None:
    hints, _ = measure(process(processor("EfficientNet", {**SIDE, **options})), 3, "file")
    assert hints.mean is not None
    assert hints.std is not None
    assert (hints.mean.value[0], hints.std.value[0]) == pytest.approx((mean, std), abs=1e-6)


@pytest.mark.parametrize(("flips", "order"), [(True, "bgr"), (False, "rgb")])
def test_the_order_of_colours_is_seen(flips: bool, order: str) -> None:
    made = processor("MobileViT", {**SHORT, "do_flip_channel_order": flips})
    hints, _ = measure(process(made), 3, "file")
    assert hints.channel_order is not None
    assert hints.channel_order.value == order


@pytest.mark.parametrize(
    ("resample", "name"), [(0, "nearest"), (2, "bilinear"), (3, "bicubic"), (1, "bicubic")]
)
def test_the_interpolation_is_seen(resample: int, name: str) -> None:
    hints, notes = measure(process(processor("ViT", {**SIDE, "resample": resample})), 3, "file")
    assert hints.interpolation is not None
    assert hints.interpolation.value == name
    # Lanczos, 1, has no equal here.
    assert bool(notes) == (resample == 1)


def test_grey_pictures_have_one_channel() -> None:
    made = processor("ViT", {**SIDE, "image_mean": [0.13], "image_std": [0.31]})
    run = process(made)
    hints, notes = measure(run, 1, "file")
    assert hints.channels is not None
    assert (hints.channels.value, hints.channel_order, notes) == (1, None, ())
    shown = picture(80, 64, "L")
    assert (ours(hints, shown) - run(shown)).abs().max() < 1e-4


def test_pictures_of_their_own_shape_are_told() -> None:
    made = processor("ConvNext", {"do_resize": False})
    hints, notes = measure(process(made), 3, "file")
    assert hints.crop is not None
    assert hints.crop.value == (288, 288)
    assert "keeps the shape of a picture" in notes[0]


def padded(picture: Image.Image) -> Tensor:
    """Return the whole picture within 64 x 64 pixels, and black around it."""
    shown = picture.copy()
    shown.thumbnail((64, 64))
    whole = Image.new("RGB", (64, 64))
    whole.paste(shown, ((64 - shown.width) // 2, (64 - shown.height) // 2))
    return torch.from_numpy(np.array(whole)).permute(2, 0, 1) / 255


def test_padding_to_a_square_is_told() -> None:
    hints, notes = measure(padded, 3, "file")
    assert hints.resize is not None
    assert hints.resize.value == (64, 64)
    assert "the whole picture is resized to 64x64 pixels" in notes[0]


def test_a_processor_that_looks_at_each_picture_by_itself_is_refused() -> None:
    def standardised(picture: Image.Image) -> Tensor:
        pixels = torch.from_numpy(np.array(picture.resize((32, 32)))).permute(2, 0, 1).double()
        return (pixels - pixels.mean()) / (pixels.std() + 1e-6)

    with pytest.raises(ModelError, match="gives a black and a white picture the same values"):
        measure(standardised, 3, "file")


def test_the_comparison_sees_a_planted_error() -> None:
    run = process(processor("ViT", SIDE))
    hints, _ = measure(lambda shown: run(shown) * 1.01, 3, "file")
    assert (ours(hints, picture(96, 96)) - run(picture(96, 96))).abs().max() > 2e-4
