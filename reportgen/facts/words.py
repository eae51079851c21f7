"""The words for names that stand in settings and records."""

from __future__ import annotations

from collections.abc import Mapping

PICTURES: Mapping[str, str] = {
    "black": "a black picture",
    "mean": "a picture of the data set's mean colour",
    "image-mean": "a picture of its own mean colour",
    "blur": "a blurred copy of the picture",
    "noise": "a picture of random noise",
}
FILLS: Mapping[str, str] = {
    "segment-mean": "their own mean colour",
    "black": "black",
    "mean": "the data set's mean colour",
    "image-mean": "the picture's mean colour",
    "blur": "a blurred copy of the picture",
    "noise": "random noise",
}
SEGMENTATIONS: Mapping[str, str] = {
    "slic": "the SLIC algorithm",
    "quickshift": "the quickshift algorithm",
    "grid": "a regular grid",
}
SOURCES: Mapping[str, str] = {
    "file": "stated in the file",
    "weights metadata": "known from the published weights",
    "model.toml": "stated in model.toml",
    "option": "given as an option",
    "argument": "given as an argument",
    "detected": "detected from the outputs",
    "assumed": "assumed",
}
NOISES: Mapping[str, str] = {
    "gaussian": "Gaussian noise",
    "shot": "shot noise",
    "impulse": "impulse noise",
}
WAYS: Mapping[str, str] = {"positive": "counter-clockwise", "negative": "clockwise"}


def worded(table: Mapping[str, str], name: object) -> str:
    """Return the words for ``name``, or the name itself where the table has none."""
    return table.get(str(name), str(name))
