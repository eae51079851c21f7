"""Pictures of any number of channels are kept as they are stored, and shown by their first."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from reportgen.errors import ImageError
from reportgen.image import open_image


def values(channels: int, dtype: str = "uint8") -> NDArray[np.generic]:
    """Return a picture (6, 9, channels) in which no two values of a channel are alike."""
    ramp = np.arange(6 * 9 * channels, dtype=np.float64).reshape(6, 9, channels)
    share = ramp / ramp.max()
    white = {"uint8": 255, "uint16": 65535}.get(dtype, 1)
    return (share * white).astype(dtype)


@pytest.mark.parametrize("channels", [2, 5, 16])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", "float64"])
def test_arrays_of_any_channels_are_kept(channels: int, dtype: str) -> None:
    given = values(channels, dtype)
    picture = open_image(given)
    assert picture.planes is not None and picture.planes.shape == (6, 9, channels)
    white = {"uint8": 1, "uint16": 65535}.get(dtype, 1)
    assert np.allclose(picture.planes, given / white, atol=1e-6)
    assert not np.allclose(picture.planes, given[..., ::-1] / white, atol=1e-6)
    assert picture.image.mode == ("L" if channels == 2 else "RGB")
    assert f"{channels} channels, of which the first" in picture.notes[-1]
    assert (dtype == "uint8") == (len(picture.notes) == 1)
    if dtype == "uint16":
        assert "0 shown black and 65535 white" in picture.notes[0]


def test_one_and_three_channels_need_no_planes() -> None:
    for channels in (1, 3):
        assert open_image(values(channels)).planes is None


@pytest.mark.parametrize(("mode", "channels"), [("RGBA", 4), ("LA", 2), ("CMYK", 4)])
def test_opacity_and_ink_are_channels_for_a_network_that_takes_them(
    mode: str, channels: int, tmp_path: Path
) -> None:
    stored = values(channels)
    path = tmp_path / "picture.tif"
    Image.fromarray(stored, mode if mode == "CMYK" else None).convert(mode).save(path)
    picture = open_image(path)
    assert picture.planes is not None
    assert np.array_equal(picture.planes, stored)
    assert picture.image.mode in ("L", "RGB")


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_numpy_files_are_read_as_arrays_are(dtype: str, tmp_path: Path) -> None:
    for channels in (1, 3, 6):
        path = tmp_path / f"{channels}.npy"
        np.save(path, values(channels, dtype))
        picture, array = open_image(path), open_image(values(channels, dtype))
        assert np.array_equal(np.asarray(picture.image), np.asarray(array.image))
        assert (picture.name, picture.notes, picture.mode) == (path.name, array.notes, array.mode)
        assert (picture.planes is None) == (channels != 6)


def test_a_numpy_file_of_objects_is_refused_unopened(tmp_path: Path) -> None:
    path = tmp_path / "objects.npy"
    np.save(path, np.array([{}, {}], dtype=object), allow_pickle=True)
    with pytest.raises(ImageError, match="save it again with numpy"):
        open_image(path)


@pytest.mark.parametrize("rows", [10**13, 10**25])
def test_a_numpy_file_that_says_it_is_huge_is_refused(rows: int, tmp_path: Path) -> None:
    path = tmp_path / "huge.npy"
    with path.open("wb") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": (rows, 3)}
        np.lib.format.write_array_header_1_0(file, header)
    with pytest.raises(ImageError, match="save it again with numpy"):
        open_image(path)


@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize(("channels", "dtype"), [(5, "uint8"), (13, "uint16"), (5, "float32")])
def test_tiff_files_of_many_bands(planar: str, channels: int, dtype: str, tmp_path: Path) -> None:
    path, stored = tmp_path / "bands.tif", values(channels, dtype)
    data = stored if planar == "contig" else np.moveaxis(stored, -1, 0)
    tifffile.imwrite(path, data, photometric="minisblack", planarconfig=planar)
    picture = open_image(path)
    assert picture.planes is not None
    white = {"uint16": 65535}.get(dtype, 1)
    assert np.allclose(picture.planes, stored / white, atol=1e-6)


def test_the_grey_pages_of_a_tiff_file_are_its_channels(tmp_path: Path) -> None:
    path, stored = tmp_path / "pages.tif", values(4)
    pages = [Image.fromarray(np.ascontiguousarray(stored[..., i])) for i in range(4)]
    pages[0].save(path, save_all=True, append_images=pages[1:])
    picture = open_image(path)
    assert picture.planes is not None and np.array_equal(picture.planes, stored)
    # For a network of one channel or three it still is its first page.
    assert np.array_equal(np.asarray(picture.image), stored[..., 0])
    assert picture.notes[0] == "first of 4 frames"


def test_values_outside_of_any_usual_range_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "heights.tif"
    tifffile.imwrite(
        path, values(5, "float32") - 2, photometric="minisblack", planarconfig="contig"
    )
    with pytest.raises(ImageError, match="values from 0 to 1, 255 or 65535, not from -2 to -1"):
        open_image(path)
    tifffile.imwrite(
        path, values(5, "float32") * 200, photometric="minisblack", planarconfig="contig"
    )
    assert "0 shown black and 255 white" in open_image(path).notes[0]


def test_too_many_channels_are_refused() -> None:
    with pytest.raises(ImageError, match="1 to 16 channels"):
        open_image(values(17))
