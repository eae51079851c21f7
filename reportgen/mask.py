"""Where the user says that the object is: a mask picture, or boxes.

A mask is read by its stored values, not as a person sees it: the labels of a data set may be as
dark as 1 of 65535, and a palette's colours mean nothing.
"""

from __future__ import annotations

import hashlib
import re
import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from reportgen.errors import ImageError, MisfitError, ReportgenError, UsageError
from reportgen.image import open_image

LOSSLESS = ("PNG", "GIF", "BMP", "TIFF", "PPM")
"""The formats that a mask may have, as Pillow names them: they keep every value."""

VOID = 255
"""The palette index with which PASCAL VOC marks pixels that belong to nothing."""

_NUMBER = r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)"
_BOXES = re.compile(rf"\s*{_NUMBER}(?:\s*[,;]\s*{_NUMBER})+\s*;?\s*")
_GREY = ("1", "L", "I", "F", "I;16", "I;16B", "I;16L")

Pixels = NDArray[np.bool_]


def open_mask(given: str, size: tuple[int, int]) -> Image.Image:
    """Return the mask as a grey picture of ``size`` (width, height): 255 on the object, else 0.

    ``given`` is the file of a picture of that size (turned as its EXIF orientation says), or boxes
    "left,top,right,bottom", separated by semicolons, in pixels of the upright picture; a pixel is
    in a box when its centre is. In a picture with transparent parts the object is what is not
    wholly transparent; in a palette it is every index but 0 and, where there are others beside
    these two, 255 (void); in grey and in colour it is what is not black. Several objects in one
    mask all count. Raises ImageError for a file that cannot be used, UsageError for what are no
    boxes, MisfitError for boxes that go beyond the picture, or mark nothing or all of it.
    """
    if _BOXES.fullmatch(given):
        return _as_picture(_in_boxes(given, size), "the boxes", MisfitError)
    return _as_picture(_in_file(given, size), f"the mask {given!r}", ImageError)


def mask_for(given: str, picture_name: str) -> str:
    """Return the mask of one of several pictures: for a folder its file STEM.png, else ``given``.

    Raises UsageError where a folder has no mask for the picture.
    """
    if _BOXES.fullmatch(given) or not _is_folder(given):
        return given
    file = Path(given) / f"{Path(picture_name).stem}.png"
    if not file.is_file():
        raise UsageError(
            f"Expected a mask {file.name!r} for the picture {picture_name!r} in the folder "
            f"{given!r}, and there is none; add it, or leave the picture out."
        )
    return str(file)


def mask_source(given: str) -> tuple[str, str | None]:
    """Return the name of a mask's file and the SHA-256 of its bytes; boxes as they are, and None.

    ``given`` is what ``open_mask`` has opened.
    """
    if _BOXES.fullmatch(given):
        return given, None
    return Path(given).name, hashlib.sha256(Path(given).read_bytes()).hexdigest()


def _is_folder(given: str) -> bool:
    try:
        return Path(given).is_dir()
    except OSError:  # a name that no file can have
        return False


def _as_picture(found: Pixels, what: str, refused: type[ReportgenError]) -> Image.Image:
    if not found.any():
        raise refused(f"Expected {what} to mark an object, but no pixel is marked; check it.")
    if found.all():
        raise refused(
            f"Expected {what} to tell an object from what is around it, but every pixel is marked; "
            "mark only the object."
        )
    return Image.fromarray(found.astype(np.uint8) * 255)


def _in_boxes(given: str, size: tuple[int, int]) -> Pixels:
    across, down = (np.arange(side) + 0.5 for side in size)
    found = np.zeros((size[1], size[0]), dtype=bool)
    for text in filter(None, (part.strip() for part in given.split(";"))):
        left, top, right, bottom = _box(text, size)
        found |= np.outer((down >= top) & (down < bottom), (across >= left) & (across < right))
    return found


def _box(text: str, size: tuple[int, int]) -> tuple[float, float, float, float]:
    numbers = [float(number) for number in text.split(",")]
    if len(numbers) != 4:
        raise UsageError(
            f"Expected a box as left,top,right,bottom, but '{text}' has {len(numbers)} "
            f"number{'s' * (len(numbers) != 1)}; separate boxes with semicolons."
        )
    left, top, right, bottom = numbers
    ordered = 0 <= left < right and 0 <= top < bottom
    if not (ordered and right <= size[0] and bottom <= size[1]):
        refused = MisfitError if ordered else UsageError
        raise refused(
            f"Expected a box with left < right and top < bottom inside the picture of {size[0]}x"
            f"{size[1]} pixels, not '{text}'; give it as left,top,right,bottom."
        )
    return left, top, right, bottom


def _in_file(given: str, size: tuple[int, int]) -> Pixels:
    _check_there(given)
    try:
        found = open_image(given).image.size  # refuses what is damaged, too large, or no picture
    except ImageError as error:
        raise ImageError(f"The mask cannot be read: {error}") from None
    if found != size:
        raise ImageError(
            f"Expected a mask of {size[0]}x{size[1]} pixels, as large as the picture when it is "
            f"upright, but {given!r} is {found[0]}x{found[1]}; make it from the same picture."
        )
    return _marked(_decoded(given), given)


def _check_there(given: str) -> None:
    try:
        Path(given).stat()
    except (OSError, ValueError):
        raise ImageError(
            f"There is no mask {given!r} that can be opened; give a picture's path, or boxes as "
            "left,top,right,bottom in pixels."
        ) from None


def _decoded(given: str) -> Image.Image:
    """Return the stored picture, upright; ``open_image`` has read it already."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # Pillow maps some TIFF files that it opens by name, and turns those the wrong way.
            with Path(given).open("rb") as file, Image.open(file, formats=LOSSLESS) as image:
                image.load()
                return ImageOps.exif_transpose(image)
    except UnidentifiedImageError:
        raise ImageError(
            f"Expected a mask in a format that keeps every value ({', '.join(LOSSLESS)}), but "
            f"{given!r} is in another, which may blur the object's edge; save it as PNG."
        ) from None
    except Exception as error:  # damaged orientation data raise nearly anything
        raise ImageError(
            f"The mask {given!r} is damaged ({type(error).__name__}); save it again as PNG."
        ) from None


def _marked(image: Image.Image, given: str) -> Pixels:
    if image.has_transparency_data:
        alpha = np.asarray((image.convert("LA") if image.mode == "La" else image).convert("RGBA"))
        if (alpha[..., 3] < 255).any():
            return np.asarray(alpha[..., 3] > 0)
    if image.mode == "P":
        return _labelled(image, given)
    if image.mode in _GREY:
        return np.asarray(np.asarray(image) != 0)
    return np.asarray(np.asarray(image.convert("RGB")).any(axis=2))


def _labelled(image: Image.Image, given: str) -> Pixels:
    labels = np.asarray(image)
    used = np.unique(labels)
    colours = np.asarray(image.getpalette("RGB")).reshape(-1, 3)
    black = [label for label in used if label < len(colours) and not colours[label].any()]
    if colours[:1].any() and black:
        raise ImageError(
            f"Expected a palette whose index 0 is the background, but in the mask {given!r} it is "
            f"not black, and index {black[0]} is; save the mask as grey, black beside the object."
        )
    void = VOID if set(used.tolist()) - {0, VOID} else 0
    return np.asarray((labels != 0) & (labels != void))
