"""A Python function is a model: arrays in, class scores out, and what it says is explained."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from reportgen.classifier.callables import open_function
from reportgen.classifier.classifier import classifier_from, weights_hash
from reportgen.classifier.layers import search_layer
from reportgen.classifier.metadata import Hints, Known
from reportgen.classifier.randomisation import stages
from reportgen.config import Config
from reportgen.errors import ModelError, NotApplicable, UsageError

SIZE = (12, 20)
Array = NDArray[np.float32]


def probabilities(pictures: Array) -> Array:
    """Return how red a picture is, and how red it is not."""
    red = pictures[..., 0].mean((1, 2))
    return np.stack([red, 1 - red], axis=1)


class Callable:
    """An object that is called."""

    def __call__(self, pictures: Array) -> Array:
        return probabilities(pictures)


def test_a_function_sees_pictures_as_lime_and_shap_show_them() -> None:
    seen: list[Array] = []

    def predict(pictures: Array) -> Array:
        seen.append(pictures)
        return probabilities(pictures)

    pixels = torch.rand(3, 3, *SIZE)
    with classifier_from(open_function(predict, SIZE, True), Hints(), Config()) as classifier:
        found = classifier.probabilities(pixels)
    last = seen[-1]
    assert (last.dtype, last.shape, last.flags.c_contiguous) == (np.float32, (3, *SIZE, 3), True)
    np.testing.assert_array_equal(last, pixels.permute(0, 2, 3, 1).numpy())
    np.testing.assert_allclose(found.numpy(), probabilities(last), rtol=1e-6)


def test_means_apply_where_they_are_given() -> None:
    given = Hints(mean=Known((0.5,) * 3, "option"), std=Known((0.25,) * 3, "option"))
    opened = open_function(lambda x: x.mean((1, 2)), SIZE, True)
    with classifier_from(opened, given, Config(head="softmax")) as classifier:
        raw = classifier.evaluator.raw(torch.ones(1, 3, *SIZE))
    assert raw.tolist() == [[2, 2, 2]]


def test_the_record_says_what_nobody_can_know() -> None:
    opened = open_function(probabilities, SIZE, True)
    with classifier_from(opened, Hints(), Config()) as classifier:
        record = classifier.record
    assert (record.name, record.format) == ("probabilities", "function")
    assert (record.parameters, record.weights_sha256, record.file_sha256) == (None, None, None)
    assert record.predictions_only == "it is a Python function"
    assert str(record.head.value).startswith("probabilities")
    assert record.preprocessing.crop == SIZE
    assert record.preprocessing_sources["crop"] == "argument"


@pytest.mark.parametrize(
    "output",
    [
        lambda p: p.tolist(),
        lambda p: p.astype(np.float64),
        lambda p: torch.from_numpy(p).double().requires_grad_(),
    ],
)
def test_what_it_returns_may_be_a_list_an_array_or_a_tensor(output: Any) -> None:
    opened = open_function(lambda x: output(probabilities(x)), SIZE, True)
    found = opened.network(torch.ones(2, 3, *SIZE))
    assert isinstance(found, torch.Tensor)
    assert (found.dtype, found.tolist()) == (torch.float32, [[1, 0], [1, 0]])


def test_a_function_that_changes_its_argument_changes_nothing_else() -> None:
    def predict(pictures: Array) -> Array:
        pictures *= 0
        return pictures.mean((1, 2))

    batch = torch.ones(2, 1, *SIZE)
    open_function(predict, SIZE, True).network(batch)
    assert bool(batch.all())


def test_grey_pictures_are_tried_where_coloured_ones_fail() -> None:
    def grey(pictures: Array) -> Array:
        assert pictures.shape[3] == 1
        return pictures.mean((1, 2)) @ np.ones((1, 4), np.float32)

    with classifier_from(open_function(grey, SIZE, True), Hints(), Config()) as classifier:
        assert classifier.record.preprocessing.channels == 1
        assert classifier.record.classes == 4


def test_a_large_picture_is_reduced_and_this_is_said() -> None:
    opened = open_function(probabilities, (1000, 2000), False)
    assert opened.hints.crop and opened.hints.crop.value == (256, 512)
    assert "512x256 pixels, the size of the picture, reduced from 2000x1000" in opened.notes[0]
    small = open_function(probabilities, SIZE, False)
    assert small.hints.crop and small.hints.crop.value == SIZE
    assert "reduced" not in small.notes[0]


def test_a_failure_is_told_with_its_error() -> None:
    def picky(pictures: Array) -> Array:
        raise ValueError("expected 224x224.\nsecond line")

    with pytest.raises(ModelError) as caught:
        open_function(picky, SIZE, True)
    assert str(caught.value) == (
        "The function 'picky' failed on a float32 array of pictures of shape (2, 12, 20, 3), "
        "values in [0, 1]; correct it, or give the size that it expects as the option size "
        "(ValueError: expected 224x224)."
    )


def test_memory_that_ran_out_is_no_failure_of_the_function() -> None:
    def hungry(pictures: Array) -> Array:
        if len(pictures) > 2:
            raise MemoryError
        return probabilities(pictures)

    opened = open_function(hungry, SIZE, True)
    with pytest.raises(MemoryError):
        opened.network(torch.ones(3, 3, *SIZE))


def test_a_class_is_no_model() -> None:
    with pytest.raises(ModelError, match="'dict' is a class, not a model"):
        open_function(dict, SIZE, True)


@pytest.mark.parametrize(
    ("predict", "name"),
    [(partial(probabilities), "probabilities"), (Callable(), "Callable")],
)
def test_objects_have_names_too(predict: Any, name: str) -> None:
    assert open_function(predict, SIZE, True).name == name


def test_what_needs_more_than_predictions_is_refused_with_the_reason() -> None:
    pixels = torch.rand(3, *SIZE)
    opened = open_function(probabilities, SIZE, True)
    steps = [
        lambda c: c.evaluator.raw(pixels[None].clone().requires_grad_()),
        lambda c: c.evaluator.scores(pixels[None].clone().requires_grad_()),
        lambda c: search_layer(c.evaluator, pixels, 0).found(),
        lambda c: stages(c, pixels, 2),
    ]
    with classifier_from(opened, Hints(), Config()) as classifier:
        for step in steps:
            with pytest.raises(NotApplicable, match="predictions only, because it is a Python"):
                step(classifier)
        assert classifier.evaluator.copies.folded is None


def test_other_precisions_and_devices_are_refused() -> None:
    opened = open_function(probabilities, SIZE, True)
    for options in ({"precision": "bf16"}, {"precision": "tf32"}, {"device": "cuda"}):
        config = Config(**options)  # type: ignore[arg-type]
        with (
            pytest.raises(UsageError, match=r"not possible.*it is a Python function"),
            classifier_from(opened, Hints(), config),
        ):
            pass


def test_there_is_nothing_to_hash() -> None:
    assert weights_hash(open_function(probabilities, SIZE, True).network) is None
