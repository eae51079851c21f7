"""Opening a mask: every way it can be stored, boxes, and every way it can be unusable."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import ExifTags, Image

from reportgen.errors import ImageError, MisfitError, ReportgenError, UsageError
from reportgen.image import open_image
from reportgen.mask import mask_for, mask_source, open_mask

SIZE = (12, 8)
VOC = ((0, 0, 0), (128, 0, 0), (0, 128, 0))


def drawn(value: int = 255, dtype: str = "uint8") -> NDArray[np.generic]:
    """Return values (8, 12) that are ``value`` on an object without symmetry, else 0."""
    values = np.zeros(SIZE[::-1], dtype=dtype)
    values[1:3, 2:9], values[3:7, 2:4] = value, value
    return values


OBJECT = drawn() > 0


def saved(folder: Path, image: Image.Image, name: str = "mask.png", exif: object = None) -> str:
    path = folder / name
    image.save(path, **({"exif": exif} if exif else {}))
    return str(path)


def palette(labels: NDArray[np.generic], colours: tuple[tuple[int, ...], ...] = VOC) -> Image.Image:
    image = Image.fromarray(labels.astype(np.uint8), "P")
    full = [*(channel for colour in colours for channel in colour)]
    image.putpalette([*full, *[7] * (768 - len(full))])
    return image


def marked(given: str, size: tuple[int, int] = SIZE) -> NDArray[np.bool_]:
    mask = open_mask(given, size)
    assert (mask.mode, mask.size) == ("L", size)
    values = np.asarray(mask)
    assert set(np.unique(values)) == {0, 255}
    return values > 0


def refusal(given: str, kind: type[ReportgenError], size: tuple[int, int] = SIZE) -> str:
    """Return the one sentence with which a mask is refused."""
    with pytest.raises(kind) as caught:
        open_mask(given, size)
    sentence = str(caught.value)
    assert sentence.endswith(".") and "\n" not in sentence
    assert sentence.count(". ") == 0, sentence
    return sentence


def rgba(colour: int, opaque: NDArray[np.bool_]) -> Image.Image:
    values = np.full((*OBJECT.shape, 4), colour, dtype=np.uint8)
    values[..., 3] = np.where(opaque, 200, 0)
    return Image.fromarray(values)


def coloured() -> Image.Image:
    values = np.zeros((*OBJECT.shape, 3), dtype=np.uint8)
    values[OBJECT] = (0, 0, 1)
    return Image.fromarray(values)


STORED = {
    "binary": (Image.fromarray(OBJECT), "mask.png"),
    "grey": (Image.fromarray(drawn()), "mask.png"),
    "a dark label": (Image.fromarray(drawn(1)), "mask.bmp"),
    "a label of 16 bits": (Image.fromarray(drawn(1, "uint16")), "mask.png"),
    "a label of 32 bits": (Image.fromarray(drawn(1, "int32")), "mask.tif"),
    "floats": (Image.fromarray(drawn(1, "float32")), "mask.tif"),
    "colour": (coloured(), "mask.png"),
    "a portable map": (Image.fromarray(drawn(3)), "mask.pgm"),
    "a GIF": (Image.fromarray(drawn(255)), "mask.gif"),
    "transparency, whatever the colour": (rgba(0, OBJECT), "mask.png"),
    "opacity everywhere": (coloured().convert("RGBA"), "mask.png"),
    "grey with transparency": (rgba(9, OBJECT).convert("LA"), "mask.png"),
    "a palette": (palette(drawn(2)), "mask.png"),
    "a palette of 0 and 255": (palette(drawn(255)), "mask.png"),
}


@pytest.mark.parametrize("stored", STORED)
def test_the_object_is_found_however_it_is_stored(stored: str, tmp_path: Path) -> None:
    image, name = STORED[stored]
    assert np.array_equal(marked(saved(tmp_path, image, name)), OBJECT)


def test_a_palettes_index_255_is_void(tmp_path: Path) -> None:
    labels = drawn(1)
    labels[0], labels[7, 0] = 255, 2
    expected = OBJECT.copy()
    expected[7, 0] = True
    assert np.array_equal(marked(saved(tmp_path, palette(labels))), expected)


def test_a_palettes_colours_mean_nothing_unless_they_contradict(tmp_path: Path) -> None:
    grey = palette(drawn(1), ((90, 90, 90), (90, 90, 90)))
    assert np.array_equal(marked(saved(tmp_path, grey)), OBJECT)
    swapped = palette(drawn(1), ((255, 255, 255), (0, 0, 0)))
    assert "index 1 is; save the mask as grey" in refusal(saved(tmp_path, swapped), ImageError)


@pytest.mark.parametrize("name", ["mask.png", "mask.tif"])
def test_a_mask_is_turned_as_the_picture_is(name: str, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    picture = Image.fromarray(drawn()[..., None].repeat(3, axis=2))
    turned = picture.transpose(Image.Transpose.ROTATE_90)
    path = saved(tmp_path, turned.convert("L"), name, exif)
    assert open_image(saved(tmp_path, turned, f"picture.{name}", exif)).image.size == SIZE
    assert np.array_equal(marked(path), OBJECT)
    plain = saved(tmp_path, turned.convert("L"))
    assert not np.array_equal(marked(plain, (8, 12)), OBJECT)


def test_a_missing_mask(tmp_path: Path) -> None:
    for given in (str(tmp_path / "none.png"), "5,5,nine,9", "x" * 5000, "a\0b"):
        assert "give a picture's path, or boxes" in refusal(given, ImageError)


def test_a_folder_is_no_mask(tmp_path: Path) -> None:
    assert "is a directory" in refusal(str(tmp_path), ImageError)


def test_what_is_no_picture(tmp_path: Path) -> None:
    path = tmp_path / "mask.png"
    path.write_text("no picture")
    assert refusal(str(path), ImageError).startswith("The mask cannot be read: Expected a picture")
    noise = np.random.default_rng(0).integers(0, 256, (8, 12), dtype=np.uint8)
    whole = saved(tmp_path, Image.fromarray(noise))
    path.write_bytes(Path(whole).read_bytes()[:110])
    assert "damaged or cut off" in refusal(str(path), ImageError)


def test_both_sizes_are_named(tmp_path: Path) -> None:
    sentence = refusal(saved(tmp_path, Image.fromarray(drawn())), ImageError, (8, 12))
    assert "8x12" in sentence and "12x8" in sentence


@pytest.mark.parametrize("name", ["mask.jpg", "mask.webp"])
def test_a_format_that_blurs_edges_is_refused(name: str, tmp_path: Path) -> None:
    assert "save it as PNG" in refusal(saved(tmp_path, coloured(), name), ImageError)


@pytest.mark.parametrize(("value", "words"), [(0, "no pixel is"), (255, "every pixel is")])
def test_nothing_and_everything_are_no_object(value: int, words: str, tmp_path: Path) -> None:
    path = saved(tmp_path, Image.new("L", SIZE, value))
    assert f"{words} marked" in refusal(path, ImageError)


def test_a_mask_of_void_alone_beside_a_label_elsewhere_is_told_from_an_object(
    tmp_path: Path,
) -> None:
    labels = np.full(SIZE[::-1], 255)
    labels[0, 0] = 1
    assert marked(saved(tmp_path, palette(labels))).sum() == 1


def test_boxes_are_exclusive_on_the_right_and_add_up() -> None:
    expected = np.zeros(SIZE[::-1], dtype=bool)
    expected[1:3, 2:9] = expected[3:7, 2:4] = True
    assert np.array_equal(marked("2,1,9,3;2,3,4,7"), expected)
    assert np.array_equal(marked(" 2, 1, 9, 3 ; 2,3,4,7; "), expected)
    assert marked("0,0,12,7.5").sum() == 12 * 7


def test_a_pixel_is_in_a_box_when_its_centre_is() -> None:
    assert marked("0.5,0,1.5,1").nonzero()[1].tolist() == [0]
    assert marked("0.6,0,1.6,1").nonzero()[1].tolist() == [1]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("1,2,3", "has 3 numbers"),
        ("1;2,3,4,5", "has 1 number;"),
        ("1,2,3,4,5", "has 5 numbers"),
        ("-1,2,3,4", "inside the picture of 12x8 pixels"),
        ("3,2,3,4", "left < right"),
        ("1,4,3,4", "top < bottom"),
        ("3,4,1,2", "left < right"),
    ],
)
def test_what_are_no_boxes(given: str, words: str) -> None:
    assert words in refusal(given, UsageError)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("1,2,13,4", "inside the picture"),
        ("1,2,3,9", "inside the picture"),
        ("1.6,1,2.4,2", "no pixel is marked"),
        ("0,0,12,8", "every pixel is marked"),
        ("0,0,6,8;6,0,12,8", "every pixel is marked"),
    ],
)
def test_boxes_that_do_not_fit_the_picture(given: str, words: str) -> None:
    assert words in refusal(given, MisfitError)


def test_a_folder_holds_one_mask_a_picture(tmp_path: Path) -> None:
    path = saved(tmp_path, Image.fromarray(drawn()), "cat.png")
    assert mask_for(str(tmp_path), "cat.jpg") == path
    assert mask_for(str(tmp_path), "album/cat.jpeg") == path
    assert mask_for(path, "dog.jpg") == path
    for boxes in ("1,2,3,4", "1,2,3,4;" * 2000, "x" * 5000):
        assert mask_for(boxes, "dog.jpg") == boxes
    with pytest.raises(UsageError, match=r"Expected a mask 'dog\.png' for the picture 'dog\.jpg'"):
        mask_for(str(tmp_path), "dog.jpg")


def test_real_masks_fit_their_pictures(assets: Path) -> None:
    shares = {}
    for mask in sorted((assets / "masks").glob("*/*")):
        picture = next(
            (
                found
                for found in (*assets.rglob(f"{mask.stem}.*"), *assets.rglob("bird_segmentation.*"))
                if found.suffix.lower() in (".jpeg", ".jpg", ".bmp") and found != mask
            ),
            None,
        )
        if picture is None or mask.suffix == ".jpg" or mask.stem == "bird_segmentation":
            continue
        shares[mask.stem] = marked(str(mask), open_image(picture).image.size).mean()
    assert len(shares) == 12
    assert all(0.005 < share < 0.6 for share in shares.values()), shares
    assert shares["2011_000003"] == pytest.approx(voc_share(assets / "masks/voc_labelme"), abs=0)


def voc_share(folder: Path) -> float:
    labels = np.asarray(Image.open(folder / "2011_000003.png"))
    return float(np.isin(labels, (5, 15)).mean())


def test_real_boxes_lie_in_their_pictures(assets: Path) -> None:
    listed = json.loads((assets / "masks" / "imagenet_boxes.json").read_text())
    sizes = {
        name: ((entry["width"], entry["height"]), entry["boxes_xyxy"])
        for name, entry in listed.items()
        if entry["boxes_xyxy"]
    }
    assert len(sizes) > 5
    for size, boxes in sizes.values():
        given = ";".join(",".join(map(str, box)) for box in boxes)
        covered = sum((right - left) * (bottom - top) for left, top, right, bottom in boxes)
        assert 0 < marked(given, size).sum() <= covered


def test_where_a_mask_comes_from(tmp_path: Path) -> None:
    file = tmp_path / "mask.png"
    file.write_bytes(b"anything")
    name, sha256 = mask_source(str(file))
    assert name == "mask.png"
    assert sha256 == hashlib.sha256(b"anything").hexdigest()
    assert mask_source("1,2,3,4; 5,6,7,8") == ("1,2,3,4; 5,6,7,8", None)
