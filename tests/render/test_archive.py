"""Arrays on disk: what goes in comes out, with the same bytes."""

from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from reportgen.errors import OutputError
from reportgen.render.archive import pack, unpack

NAMES = st.text(st.characters(categories=("L", "N"), include_characters=".-~_"), min_size=1)
KINDS = st.sampled_from([np.float32, np.uint8, np.int32])
SHAPES = arrays_of.array_shapes(min_dims=0, max_dims=4, max_side=4)


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(NAMES, arrays_of.arrays(KINDS, SHAPES), max_size=4))
def test_arrays_come_back_as_they_were(arrays: dict[str, Any]) -> None:
    back = unpack(pack(arrays), "maps.npz")
    assert set(back) == set(arrays)
    for name, array in arrays.items():
        assert back[name].dtype == array.dtype
        np.testing.assert_array_equal(back[name], array)


def test_the_bytes_depend_on_the_arrays_only() -> None:
    one, other = np.zeros(3), np.arange(6).reshape(2, 3)
    packed = pack({"a": one, "b": other})
    assert pack({"b": np.asfortranarray(other).copy(order="C"), "a": one}) == packed
    assert pack({"a": one, "b": other + 1}) != packed
    dates = {entry.date_time for entry in zipfile.ZipFile(io.BytesIO(packed)).infolist()}
    assert dates == {(1980, 1, 1, 0, 0, 0)}


def test_objects_are_refused() -> None:
    with pytest.raises(
        OutputError, match=r"^Expected numbers in the array 'x', but it holds Python"
    ):
        pack({"x": np.array([object()])})


class Evil:
    """Writes a file when it is unpickled."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.proof,)


def test_pickled_arrays_run_no_code(tmp_path: Path) -> None:
    stream = io.BytesIO()
    np.savez(stream, x=np.array([Evil(tmp_path / "proof")]))
    with pytest.raises(OutputError, match=r"^Expected an archive of arrays in 'maps.npz'"):
        unpack(stream.getvalue(), "maps.npz")
    assert not (tmp_path / "proof").exists()


def test_an_archive_that_was_cut_or_changed_is_refused() -> None:
    packed = pack({"a": np.arange(1000)})
    middle = len(packed) // 2
    for broken in (packed[:middle], packed[:60] + b"\xff" * 40 + packed[100:]):
        with pytest.raises(OutputError, match=r"^Expected an archive of arrays in 'maps.npz'"):
            unpack(broken, "maps.npz")


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04broken", pickle.dumps([1])])
def test_what_is_no_archive_is_refused(content: bytes) -> None:
    with pytest.raises(OutputError, match=r"^Expected an archive of arrays in 'maps.npz'"):
        unpack(content, "maps.npz")


@pytest.mark.parametrize("rows", [10**13, 10**25])
def test_an_array_that_says_it_is_huge_is_refused(rows: int) -> None:
    inside, stream = io.BytesIO(), io.BytesIO()
    header = {"descr": "|u1", "fortran_order": False, "shape": (rows, 3)}
    np.lib.format.write_array_header_1_0(inside, header)
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("map.npy", inside.getvalue())
    with pytest.raises(OutputError, match="make the report again"):
        unpack(stream.getvalue(), "maps.npz")


def test_a_single_array_is_no_archive() -> None:
    stream = io.BytesIO()
    np.save(stream, np.zeros(3))
    with pytest.raises(OutputError, match=r"^Expected an archive of arrays"):
        unpack(stream.getvalue(), "maps.npz")
