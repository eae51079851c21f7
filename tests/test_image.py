"""Opening a picture: every way a file can hold one, and every way it can be none."""

from __future__ import annotations

import hashlib
import io
import os
import re
import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageCms, ImageFile, TiffImagePlugin

from reportgen.errors import ImageError
from reportgen.image import FORMATS, MAX_PIXELS, open_image

TURNED = "turned upright as its EXIF orientation says"
ON_WHITE = "transparent parts shown on white"


def scene(width: int = 24, height: int = 16) -> Image.Image:
    """Return a smooth picture without symmetry."""
    rows, columns = np.mgrid[0:height, 0:width]
    red, green = columns * 255 // (width - 1), rows * 255 // (height - 1)
    return Image.fromarray(np.stack([red, green, (red + 2 * green) // 3], -1).astype(np.uint8))


def noise(width: int = 40, height: int = 30) -> Image.Image:
    """Return a picture that does not compress, so that every byte of its file matters."""
    values = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values)


def same(left: Image.Image, right: Image.Image, tolerance: int = 0) -> bool:
    """Tell whether two pictures have one mode and size and values at most ``tolerance`` apart."""
    if (left.mode, left.size) != (right.mode, right.size):
        return False
    gap = np.abs(np.asarray(left).astype(int) - np.asarray(right).astype(int))
    return int(gap.max()) <= tolerance


def png_bytes(
    rows: NDArray[np.generic], depth: int, colour: int, extra: tuple[tuple[bytes, bytes], ...] = ()
) -> bytes:
    """Return a PNG file written by hand, for what Pillow itself cannot write."""
    height, width = rows.shape[:2]
    lines = b"".join(b"\0" + row.tobytes() for row in rows)
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    chunks = ((b"IHDR", header), *extra, (b"IDAT", zlib.compress(lines)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in chunks)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def refusal(source: object) -> str:
    """Return the sentence with which ``source`` is refused."""
    with pytest.raises(ImageError) as caught:
        open_image(source)  # type: ignore[arg-type]
    sentence = str(caught.value)
    assert sentence.endswith(".") and "\n" not in sentence
    assert sentence.count(". ") == 0, sentence
    return sentence


def test_the_comparison_can_fail() -> None:
    other = scene()
    other.putpixel((3, 3), (255, 0, 255))
    assert same(scene(), scene())
    assert not same(scene(), other, tolerance=20)
    assert not same(scene(), scene(16, 24))
    assert not same(scene(), scene().convert("L"))


# --- what is read -----------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["png", "bmp", "tiff", "ppm", "webp", "jp2"])
def test_lossless_formats_keep_every_pixel(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"scene.{suffix}"
    scene().save(path, lossless=True)  # a word that WebP knows and the others pass over
    picture = open_image(path)
    assert same(picture.image, scene())
    assert (picture.name, picture.mode, picture.notes) == (path.name, "RGB", ())
    assert picture.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("suffix", ["jpg", "avif"])
def test_lossy_formats_equal_what_pillow_decodes(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"scene.{suffix}"
    scene().save(path)
    with Image.open(path) as decoded:
        assert same(open_image(path).image, decoded.convert("RGB"))


def test_every_listed_format_is_one_that_pillow_knows() -> None:
    Image.init()
    assert set(FORMATS) <= set(Image.OPEN)


def test_the_suffix_does_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "scene.jpg"
    scene().save(path, "PNG")
    assert same(open_image(path).image, scene())


def test_str_and_path_and_memory_give_one_picture(tmp_path: Path) -> None:
    path = tmp_path / "scene.png"
    scene().save(path)
    sources = (str(path), path, scene(), np.asarray(scene()))
    assert all(same(open_image(source).image, scene()) for source in sources)


def test_pictures_from_memory_are_named_and_hashed_by_their_pixels() -> None:
    drawn, array = open_image(scene()), open_image(np.asarray(scene()))
    assert drawn.name == array.name == "image"
    assert drawn.sha256 == array.sha256
    assert open_image(scene(16, 24)).sha256 != drawn.sha256
    flat = np.zeros((4, 9), np.uint8)
    assert open_image(flat).sha256 != open_image(flat.reshape(9, 4)).sha256


def test_the_source_in_memory_stays_as_it_is() -> None:
    source = scene().convert("RGBA")
    source.putalpha(100)
    source.info["icc_profile"] = b"a profile"
    before = source.tobytes()
    picture = open_image(source)
    picture.image.putpixel((0, 0), (1, 2, 3))
    assert source.tobytes() == before
    assert source.info == {"icc_profile": b"a profile"}


def test_a_saved_copy_carries_no_profile_and_no_place(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.GPSInfo] = {1: "N"}
    scene().save(tmp_path / "scene.png", icc_profile=b"a profile", exif=exif)
    open_image(tmp_path / "scene.png").image.save(tmp_path / "copy.png")
    with Image.open(tmp_path / "scene.png") as stored, Image.open(tmp_path / "copy.png") as copy:
        assert {"icc_profile", "exif"} <= set(stored.info)
        assert copy.info == {}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tiff", "avif"])
def test_all_eight_orientations_end_upright(tmp_path: Path, suffix: str, orientation: int) -> None:
    # What a camera stores: the inverse of the turn that its orientation asks for.
    stored = {
        1: lambda image: image,
        2: lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        3: lambda image: image.transpose(Image.Transpose.ROTATE_180),
        4: lambda image: image.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
        5: lambda image: image.transpose(Image.Transpose.TRANSPOSE),
        6: lambda image: image.transpose(Image.Transpose.ROTATE_90),
        7: lambda image: image.transpose(Image.Transpose.TRANSVERSE),
        8: lambda image: image.transpose(Image.Transpose.ROTATE_270),
    }[orientation](scene())
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    path = tmp_path / f"turned.{suffix}"
    stored.save(path, exif=exif, quality=95)
    picture = open_image(path)
    assert same(picture.image, scene(), tolerance=24)  # lossy; a wrong turn differs by over 200
    assert picture.notes == ((TURNED,) if orientation > 1 else ())


@pytest.mark.parametrize("suffix", ["png", "webp"])
def test_broken_exif_data_does_not_cost_the_picture(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"broken.{suffix}"
    scene().save(path, exif=b"Exif\0\0this is no EXIF data")
    picture = open_image(path)
    assert picture.image.size == scene().size
    assert picture.notes == ("damaged EXIF data ignored",)


def test_what_pillow_warns_of_becomes_a_note(tmp_path: Path) -> None:
    path = tmp_path / "broken.jpg"
    exif = Image.Exif()
    exif[ExifTags.Base.Make], exif[ExifTags.Base.Orientation] = "a camera", 6
    scene().save(path, exif=exif.tobytes()[:-20])
    picture = open_image(path)
    assert any("warning while reading: " in note for note in picture.notes)
    assert len(set(picture.notes)) == len(picture.notes)


@pytest.mark.parametrize("suffix", ["jpg", "tiff"])
def test_cmyk_is_read_as_the_colours_it_prints(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"cyan.{suffix}"
    Image.new("CMYK", (16, 16), (255, 0, 0, 0)).save(path)
    picture = open_image(path)
    assert same(picture.image, Image.new("RGB", (16, 16), (0, 255, 255)), tolerance=2)
    assert (picture.mode, picture.notes) == ("CMYK", ("converted from CMYK",))


@pytest.mark.parametrize("mode, word", [("L", "grey"), ("1", "black and white")])
def test_grey_stays_grey(tmp_path: Path, mode: str, word: str) -> None:
    path = tmp_path / "grey.png"
    scene().convert(mode).save(path)
    picture = open_image(path)
    assert same(picture.image, scene().convert(mode).convert("L"))
    assert (picture.mode, picture.notes) == (word, ())


def test_a_palette_is_looked_up(tmp_path: Path) -> None:
    path = tmp_path / "palette.png"
    indexed = scene().quantize(64)
    indexed.save(path)
    picture = open_image(path)
    assert same(picture.image, indexed.convert("RGB"))
    assert (picture.mode, picture.notes) == ("palette", ("converted from palette",))


# --- transparency -----------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparent_parts_lie_on_white(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "see-through.png"
    source = Image.new("LA", (4, 4), (100, 255)).convert(mode)
    alpha = Image.new("L", (4, 4), 255)
    alpha.putpixel((0, 0), 0)
    alpha.putpixel((1, 0), 51)  # one fifth
    source.putalpha(alpha)
    source.save(path)
    picture = open_image(path)
    grey = np.asarray(picture.image.convert("L"))
    assert grey[0, :3].tolist() == [255, 224, 100]  # 255 - (255 - 100) / 5 = 224
    assert picture.image.mode == ("RGB" if mode == "RGBA" else "L")
    assert picture.mode == ("RGB" if mode == "RGBA" else "grey") + " with transparency"
    assert picture.notes == (ON_WHITE,)


def test_an_opaque_fourth_channel_leaves_the_colours_alone(tmp_path: Path) -> None:
    path = tmp_path / "opaque.png"
    scene().convert("RGBA").save(path)
    picture = open_image(path)
    assert same(picture.image, scene())
    assert picture.notes == ()


@pytest.mark.parametrize("suffix", ["png", "gif"])
def test_a_transparent_palette_colour_is_white(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"hole.{suffix}"
    indexed = Image.new("P", (4, 4), 1)
    indexed.putpalette([0, 0, 255, 255, 0, 0])
    indexed.putpixel((2, 1), 0)
    indexed.save(path, transparency=0)
    picture = open_image(path)
    expected = Image.new("RGB", (4, 4), "red")
    expected.putpixel((2, 1), (255, 255, 255))
    assert same(picture.image, expected)
    assert picture.notes == ("converted from palette", ON_WHITE)


def test_a_transparent_grey_level_is_white(tmp_path: Path) -> None:
    path = tmp_path / "hole.png"
    source = Image.fromarray(np.array([[10, 20], [30, 10]], np.uint8))
    source.save(path, transparency=10)
    picture = open_image(path)
    assert np.asarray(picture.image).tolist() == [[255, 20], [30, 255]]
    assert picture.notes == (ON_WHITE,)


@pytest.mark.parametrize("mode", ["La", "RGBa"])
def test_premultiplied_colours_are_divided_again(mode: str) -> None:
    source = Image.new(mode.upper(), (3, 3), (200, 127)[:2] if mode == "La" else (200, 0, 0, 127))
    straight, premultiplied = open_image(source), open_image(source.convert(mode))
    assert same(straight.image, premultiplied.image, tolerance=1)
    assert premultiplied.notes == (ON_WHITE,)


# --- deep values ------------------------------------------------------------------------------

DEEP = np.array([[0, 128, 129], [32768, 257 * 77, 65535]], np.uint16)
DEEP_IN_8_BITS = [[0, 0, 1], [128, 77, 255]]  # rounded DEEP / 257
NOTE_16 = "16-bit values scaled to 8 bits, 0 shown black and 65535 white"


@pytest.mark.parametrize("suffix", ["png", "tiff", "pgm"])
def test_16_bit_grey_is_scaled_by_its_true_range(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"deep.{suffix}"
    Image.fromarray(DEEP).save(path)
    picture = open_image(path)
    assert np.asarray(picture.image).tolist() == DEEP_IN_8_BITS
    assert (picture.mode, picture.notes) == ("16-bit grey", (NOTE_16,))


def test_16_bit_grey_from_memory() -> None:
    picture = open_image(Image.fromarray(DEEP))
    assert np.asarray(picture.image).tolist() == DEEP_IN_8_BITS
    assert (picture.mode, picture.notes) == ("16-bit grey", (NOTE_16,))


def test_dark_16_bit_values_stay_dark(tmp_path: Path) -> None:
    path = tmp_path / "dark.png"
    Image.fromarray(DEEP // 512).save(path)
    assert np.asarray(open_image(path).image).max() == 0


@pytest.mark.parametrize("compression", [None, "tiff_deflate", "tiff_lzw"])
def test_compressed_16_bit_tiff(tmp_path: Path, compression: str | None) -> None:
    path = tmp_path / "deep.tiff"
    Image.fromarray(DEEP).save(path, compression=compression)
    assert np.asarray(open_image(path).image).tolist() == DEEP_IN_8_BITS


def test_a_16_bit_tiff_that_counts_from_white_is_not_a_negative(tmp_path: Path) -> None:
    path = tmp_path / "x-ray.tiff"
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[262] = 0
    Image.fromarray(DEEP).save(path, tiffinfo=tags)
    with Image.open(path) as stored:
        assert isinstance(stored, TiffImagePlugin.TiffImageFile)
        assert stored.tag_v2[262] == 0
    picture = open_image(path)
    assert (255 - np.asarray(picture.image)).tolist() == DEEP_IN_8_BITS
    assert picture.notes == ("16-bit values scaled to 8 bits, 65535 shown black and 0 white",)


@pytest.mark.parametrize(
    "colour, channels, mode", [(2, 3, "16-bit RGB"), (6, 4, "16-bit RGB with transparency")]
)
def test_16_bit_colour_is_within_one_level(
    tmp_path: Path, colour: int, channels: int, mode: str
) -> None:
    values = np.random.default_rng(1).integers(0, 65536, (5, 7, channels)).astype(">u2")
    values[..., 3:] = 65535
    path = tmp_path / "deep.png"
    path.write_bytes(png_bytes(values, 16, colour))
    picture = open_image(path)
    exact = Image.fromarray(np.rint(values[..., :3] / 257).astype(np.uint8))
    assert same(picture.image, exact, tolerance=1)  # Pillow keeps the high byte
    assert (picture.mode, picture.notes) == (mode, ("16-bit values scaled to 8 bits",))


def test_16_bit_grey_with_opacity_stays_grey(tmp_path: Path) -> None:
    path = tmp_path / "deep.png"
    values = np.array([[[257 * 100, 65535], [257 * 100, 0]]] * 2, ">u2")
    path.write_bytes(png_bytes(values, 16, 4))
    picture = open_image(path)
    assert picture.image.mode == "L"
    assert np.asarray(picture.image)[0].tolist() == [100, 255]
    assert picture.mode == "16-bit grey with transparency"
    assert picture.notes == ("16-bit values scaled to 8 bits", ON_WHITE)


def test_16_bit_ppm_says_so(tmp_path: Path) -> None:
    path = tmp_path / "deep.ppm"
    values = np.array([[[0, 1000, 500]] * 2] * 2, ">u2")
    path.write_bytes(b"P6 2 2 1000\n" + values.tobytes())
    picture = open_image(path)
    assert np.asarray(picture.image)[0, 0].tolist() == [0, 255, 128]
    assert picture.notes == ("16-bit values scaled to 8 bits",)


@pytest.mark.parametrize(
    "values, expected, note",
    [
        ([[0, 255], [7, 9]], [[0, 255], [7, 9]], "0 shown black and 255 white"),
        ([[0, 65535], [257, 514]], [[0, 255], [1, 2]], "0 shown black and 65535 white"),
        ([[-100, 100], [0, 0]], [[0, 255], [128, 128]], "-100 shown black and 100 white"),
        ([[-5, -5], [-5, -5]], [[0, 0], [0, 0]], "-5 shown black and -5 white"),
        ([[-(2**31), 2**31 - 1], [0, 0]], [[0, 255], [128, 128]], "2.14748e+09 white"),
    ],
)
def test_32_bit_values_are_taken_by_their_range(
    tmp_path: Path, values: list[list[int]], expected: list[list[int]], note: str
) -> None:
    path = tmp_path / "integers.tiff"
    Image.fromarray(np.array(values, np.int32)).save(path)
    picture = open_image(path)
    assert np.asarray(picture.image).tolist() == expected
    assert picture.mode == "32-bit grey"
    assert len(picture.notes) == 1 and picture.notes[0].endswith(note)


@pytest.mark.parametrize(
    "values, expected, note",
    [
        ([[0.0, 1.0], [0.5, 0.25]], [[0, 255], [128, 64]], "0 shown black and 1 white"),
        ([[0.0, 0.1], [0.0, 0.1]], [[0, 26], [0, 26]], "0 shown black and 1 white"),
        ([[-1.0, 3.0], [0.0, 1.0]], [[0, 255], [64, 128]], "-1 shown black and 3 white"),
        ([[-3e38, 3e38], [0.0, 0.0]], [[0, 255], [128, 128]], "-3e+38 shown black and 3e+38 white"),
    ],
)
def test_floating_point_files(
    tmp_path: Path, values: list[list[float]], expected: list[list[int]], note: str
) -> None:
    path = tmp_path / "floats.tiff"
    Image.fromarray(np.array(values, np.float32)).save(path)
    picture = open_image(path)
    assert np.asarray(picture.image).tolist() == expected
    assert picture.mode == "floating-point grey"
    assert picture.notes == (f"floating-point values scaled to 8 bits, {note}",)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_floats_that_are_not_finite_are_refused(tmp_path: Path, value: float) -> None:
    path = tmp_path / "floats.tiff"
    Image.fromarray(np.array([[0, value], [0, 1]], np.float32)).save(path)
    assert "not finite" in refusal(path)


# --- frames and profiles ----------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["gif", "webp", "apng", "tiff"])
def test_the_first_frame_is_read(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"moving.{suffix}"
    frames = [Image.new("RGB", (8, 6), colour) for colour in ("red", "lime", "blue")]
    frames[0].save(
        path, "PNG" if suffix == "apng" else None, save_all=True, append_images=frames[1:]
    )
    picture = open_image(path)
    assert same(picture.image, frames[0], tolerance=2)
    assert picture.notes[0] == "first of 3 frames"


def test_the_frame_that_stands_open_in_memory_is_read(tmp_path: Path) -> None:
    path = tmp_path / "moving.gif"
    frames = [Image.new("RGB", (8, 6), colour) for colour in ("red", "lime", "blue")]
    frames[0].save(path, save_all=True, append_images=frames[1:])
    with Image.open(path) as moving:
        moving.seek(1)
        picture = open_image(moving)
        assert moving.tell() == 1
    assert same(picture.image, frames[1])
    assert picture.notes[0] == "one of 3 frames"


def test_a_phone_photo_with_a_second_picture_inside(tmp_path: Path) -> None:
    path = tmp_path / "phone.jpg"
    scene().save(path, "MPO", save_all=True, append_images=[noise()], quality=95)
    picture = open_image(path)
    assert same(picture.image, scene(), tolerance=24)
    assert picture.notes == ("first of 2 frames",)


def test_colour_profiles_are_named_unless_they_say_srgb(tmp_path: Path) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    path = tmp_path / "profile.png"
    scene().save(path, icc_profile=profile)
    assert open_image(path).notes == ()
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    scene().save(path, icc_profile=lab)
    picture = open_image(path)
    assert picture.notes == ("ICC colour profile ignored",)
    assert same(picture.image, scene())


# --- arrays -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "shape, mode", [((5, 7), "L"), ((5, 7, 1), "L"), ((5, 7, 3), "RGB"), ((5, 7, 4), "RGB")]
)
@pytest.mark.parametrize("dtype", [np.uint8, np.float16, np.float32, np.float64])
def test_arrays(shape: tuple[int, ...], mode: str, dtype: type[np.generic]) -> None:
    eight = np.random.default_rng(2).integers(0, 256, shape, dtype=np.uint8)
    eight[..., 3:] = 255
    values = eight if dtype is np.uint8 else (eight / 255).astype(dtype)
    picture = open_image(values)
    colours = eight[..., :3] if mode == "RGB" else eight.reshape(5, 7)
    assert picture.image.mode == mode
    assert np.array_equal(np.asarray(picture.image), colours)


def test_an_array_that_is_a_view_is_read_as_it_looks() -> None:
    values = np.asarray(scene())
    assert np.array_equal(np.asarray(open_image(values[::-1, ::2]).image), values[::-1, ::2])


@pytest.mark.parametrize(
    "values, words",
    [
        (np.zeros((3, 9, 9), np.uint8), "move the channels to the end"),
        (np.zeros((1, 9, 9, 3), np.uint8), "not (1, 9, 9, 3)"),
        (np.zeros(9, np.uint8), "not (9,)"),
        (np.zeros((9, 9, 17), np.uint8), "not (9, 9, 17)"),
        (np.zeros((9, 9), np.int64), "not of int64"),
        (np.zeros((9, 9, 2), np.int64), "not of int64"),
        (np.full((9, 9, 2), -1.0), "not from -1 to -1"),
        (np.zeros((9, 9), np.bool_), "not of bool"),
        (np.full((9, 9), 128.0), "values from 128 to 128"),
        (np.full((9, 9), -0.5), "values from -0.5"),
        (np.full((9, 9), np.nan), "values from nan"),
        (np.zeros((1, 9), np.uint8), "9x1 pixels"),
        (np.zeros((0, 9, 3), np.uint8), "9x0 pixels"),
        (np.zeros((0, 9, 3)), "9x0 pixels"),
    ],
)
def test_arrays_that_are_refused(values: NDArray[np.generic], words: str) -> None:
    assert words in refusal(values)


@pytest.mark.parametrize("source", [None, 3, b"scene.png", [[0, 1], [1, 0]]])
def test_other_types_are_refused(source: object) -> None:
    assert type(source).__name__ in refusal(source)


# --- files that are refused -------------------------------------------------------------------


def test_no_such_file(tmp_path: Path) -> None:
    assert "There is no picture" in refusal(tmp_path / "missing.png")


def test_a_directory(tmp_path: Path) -> None:
    assert "is a directory" in refusal(tmp_path)


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    assert "not a regular file" in refusal(tmp_path / "pipe.png")


def test_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    assert "is empty" in refusal(tmp_path / "empty.png")


def test_a_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    scene().save(tmp_path / "secret.png")
    monkeypatch.setattr(Path, "open", denied)
    assert "Permission denied" in refusal(tmp_path / "secret.png")


@pytest.mark.parametrize("name", ["nul\0.png", "x" * 300 + ".png"])
def test_impossible_names(name: str) -> None:
    refusal(name)


@pytest.mark.parametrize(
    "content, words",
    [
        (b"%PDF-1.7\n", "a PDF document"),
        (b"<?xml version='1.0'?>\n<svg xmlns='x'/>", "an SVG drawing"),
        (b"  <svg/>", "an SVG drawing"),
        (b"<!DOCTYPE html><html><svg/>", "a web page"),
        (b"\0\0\0\x18ftypheic\0\0", "a HEIC photo"),
        (b"\0\0\0\x18ftypmp42\0\0", "a film"),
        (b"PK\x03\x04\0\0", "a ZIP archive"),
        (b"\x80\x02}q", "a pickle"),
        (b"label,score\n1,2\n", "plain text"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "a PostScript document"),
        (b"\x89PNG\r\n\x1a\n\0\0", "damaged, cut off"),
        (b"\xff\xd8\xff", "damaged, cut off"),
        (b"\x01\x02\x03\xff", "no picture"),
    ],
)
def test_what_is_no_picture_is_named(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "thing.jpg"
    path.write_bytes(content)
    sentence = refusal(path)
    assert words in sentence
    assert all(name in sentence for name in FORMATS)


def test_a_raw_file_is_not_read_as_its_thumbnail(tmp_path: Path) -> None:
    scene().save(tmp_path / "photo.NEF", "TIFF")
    assert "raw file" in refusal(tmp_path / "photo.NEF")


def test_postscript_is_never_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scene().save(tmp_path / "drawing.eps")
    monkeypatch.setattr("subprocess.check_call", lambda *_: pytest.fail("ran a program"))
    assert "PostScript" in refusal(tmp_path / "drawing.eps")


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (50, 1)])
def test_too_small(tmp_path: Path, size: tuple[int, int]) -> None:
    Image.new("RGB", size).save(tmp_path / "small.png")
    assert f"{size[0]}x{size[1]} pixels" in refusal(tmp_path / "small.png")


def test_two_by_two_is_large_enough() -> None:
    assert open_image(Image.new("RGB", (2, 2))).image.size == (2, 2)


def test_a_colour_space_that_pillow_cannot_convert(tmp_path: Path) -> None:
    Image.new("LAB", (4, 4)).save(tmp_path / "lab.tiff")
    assert "LAB" in refusal(tmp_path / "lab.tiff")


def bomb(path: Path, width: int, height: int) -> Path:
    """Write a file of under 100 bytes that promises ``width`` x ``height`` pixels."""
    content = png_bytes(np.zeros((2, 2), np.uint8), 8, 0)
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    path.write_bytes(content[:8] + _chunk(b"IHDR", header) + content[33:])
    return path


@pytest.mark.parametrize("size", [(40_000, 40_000), (2**31 - 1, 2**31 - 1), (MAX_PIXELS, 2)])
def test_a_decompression_bomb_is_never_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]
) -> None:
    path = bomb(tmp_path / "bomb.png", *size)
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda _: pytest.fail("unpacked"))
    assert f"more than the {MAX_PIXELS} pixels" in refusal(path)


def test_the_limit_holds_where_the_caller_has_lifted_pillows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert f"more than the {MAX_PIXELS} pixels" in refusal(
        bomb(tmp_path / "bomb.png", 40_000, 40_000)
    )
    assert Image.MAX_IMAGE_PIXELS is None


def test_pillows_warning_for_large_pictures_stays_inside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene(40, 30).save(tmp_path / "scene.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)  # warned of above, refused above twice
    with warnings.catch_warnings(record=True, action="always") as caught:
        picture = open_image(tmp_path / "scene.png")
    assert caught == []
    assert picture.notes == ()


# --- files that are cut off -------------------------------------------------------------------

SAVED = [
    ("png", {}),
    ("jpg", {"quality": 90}),
    ("jpg", {"quality": 90, "progressive": True}),
    ("gif", {}),
    ("bmp", {}),
    ("tiff", {}),
    ("tiff", {"compression": "tiff_lzw"}),
    ("webp", {}),
    ("ppm", {}),
    ("avif", {}),
    ("jp2", {}),
]


@pytest.mark.parametrize("tolerant", [False, True])
@pytest.mark.parametrize("suffix, options", SAVED)
def test_a_cut_file_is_refused_or_complete(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    suffix: str,
    options: dict[str, Any],
    tolerant: bool,
) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", tolerant)
    path = tmp_path / f"whole.{suffix}"
    noise().save(path, **options)
    whole, content = open_image(path).image, path.read_bytes()
    refused = 0
    for cut in [
        *range(1, len(content), max(1, len(content) // 60)),
        *range(len(content) - 20, len(content)),
    ]:
        path.write_bytes(content[:cut])
        try:
            assert same(open_image(path).image, whole), f"cut after {cut} of {len(content)} bytes"
        except ImageError:
            refused += 1
    assert refused >= 50
    assert ImageFile.LOAD_TRUNCATED_IMAGES is tolerant


@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "tiff", "webp", "bmp", "jp2", "avif"])
def test_random_damage_raises_nothing_but_image_errors(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"damaged.{suffix}"
    noise().save(path)
    content, random = path.read_bytes(), np.random.default_rng(3)
    outcomes = set()
    for _ in range(60):
        damaged = bytearray(content)
        for place in random.integers(0, min(len(content), 400), 4):
            damaged[place] = random.integers(0, 256)
        path.write_bytes(damaged)
        try:
            outcomes.add(open_image(path).image.mode)
        except ImageError:
            outcomes.add("refused")
    assert "refused" in outcomes
    assert outcomes <= {"refused", "RGB", "L"}


def test_a_cut_picture_from_memory_is_refused(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    noise().save(buffer, "PNG")
    lazy = Image.open(io.BytesIO(buffer.getvalue()[:1500]))
    assert "damaged or cut off" in refusal(lazy)


# --- hostile names ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, shown",
    [
        ("<script>alert(1)</script>.png".replace("/", "∕"), "<script>alert(1)<∕script>.png"),
        ("two\nlines\x1b[31m.png", "two�lines�[31m.png"),
        ("gnp.\u202eexe.png", "gnp.�exe.png"),
        (os.fsdecode(b"not-utf8-\xff.png"), "not-utf8-�.png"),
        ("Kätzchen 猫 🐈.png", "Kätzchen 猫 🐈.png"),
    ],
)
def test_hostile_names_are_data(tmp_path: Path, name: str, shown: str) -> None:
    path = tmp_path / name
    with path.open("wb") as file:
        scene().save(file, "PNG")
    picture = open_image(path)
    assert picture.name == shown
    picture.name.encode()
    path.write_bytes(b"no picture\xff")
    sentence = refusal(path)
    assert sentence.isprintable()
    assert str(tmp_path) in sentence


# --- real pictures ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["images/extra/dog_cat.jfif", "images/extra/both.png", "masks/coral/bird_segmentation.bmp"],
)
def test_real_pictures_equal_what_pillow_decodes(assets: Path, name: str) -> None:
    picture = open_image(assets / name)
    with Image.open(assets / name) as decoded:
        assert same(picture.image, decoded.convert(picture.image.mode))
        assert decoded.getexif().get(ExifTags.Base.Orientation, 1) == 1


def test_every_real_picture_opens(assets: Path) -> None:
    paths = sorted((assets / "images" / "imagenet").glob("*.JPEG"))
    paths += sorted((assets / "masks" / "coral").glob("*.bmp"))
    assert len(paths) >= 10
    for path in paths:
        picture = open_image(path)
        assert picture.image.mode in ("RGB", "L")
        assert min(picture.image.size) >= 2
        assert re.fullmatch("[0-9a-f]{64}", picture.sha256)
