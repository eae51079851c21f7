"""LIME: the library's weights from pictures masked in batches, and closed forms."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from lime.lime_image import LimeImageExplainer
from numpy.typing import NDArray
from torch import Tensor
from toys import (
    Constant,
    FunctionalRelu,
    Linear,
    ShortOfMemory,
    classified,
    pictures,
    request,
    seeded,
    squares,
)

from reportgen.attribution import METHODS, Explained
from reportgen.attribution.base import Request
from reportgen.classifier.classifier import Classifier
from reportgen.config import Config

SHAPE = (3, 16, 16)
TARGET = 1
SEED = 3


def asked(classifier: Classifier, pixels: Tensor, config: Config, seed: int = SEED) -> Request:
    return replace(request(classifier, pixels, TARGET, config), seed=seed)


def library(
    classifier: Classifier, pixels: Tensor, config: Config, hide: float | None
) -> NDArray[np.float64]:
    """Return the map of the library, which masks on its own and runs ten pictures at a time."""

    def predict(images: NDArray[np.float64]) -> NDArray[np.float64]:
        return classifier.probabilities(torch.from_numpy(images).permute(0, 3, 1, 2)).numpy()

    segments = squares(*pixels.shape[-2:])
    explanation = LimeImageExplainer(random_state=SEED).explain_instance(
        pixels.permute(1, 2, 0).numpy(),
        predict,
        labels=(TARGET,),
        top_labels=None,
        hide_color=hide,
        num_features=config.lime_features or 100000,
        num_samples=config.lime_samples,
        segmentation_fn=lambda image: segments,
        random_seed=SEED,
    )
    found = np.zeros(segments.shape)
    for segment, weight in explanation.local_exp[TARGET]:
        found[segments == segment] = weight
    return found


def difference(ours: Tensor, theirs: NDArray[np.float64]) -> float:
    """Return the largest difference as a share of the largest weight."""
    return float(np.abs(ours.double().numpy() - theirs).max() / np.abs(theirs).max())


@pytest.mark.parametrize("features", [None, 7, 5])
@pytest.mark.parametrize(("fill", "hide"), [("black", 0.0), ("segment-mean", None)])
def test_the_weights_are_the_librarys(fill: str, hide: float | None, features: int | None) -> None:
    config = Config(lime_samples=60, lime_fill=fill, lime_features=features)
    pixels = pictures(1).double()
    with classified(seeded(FunctionalRelu).double(), SHAPE) as classifier:
        ours = METHODS["lime"].explain(asked(classifier, pixels, config)).maps[0]
        theirs = library(classifier, pixels[0], config, hide)
        # Computed in float64; the map is stored in float32, to one part in 2**24.
        assert difference(ours, theirs) < 2**-24
        assert difference(ours, theirs * (1 + 2**-22)) > 2**-24
        other = METHODS["lime"].explain(asked(classifier, pixels, config, SEED + 1)).maps[0]
        assert difference(other, theirs) > 1e-3
    kept = 16 if features is None else features
    assert len(np.unique(theirs[theirs != 0])) == kept


def linear(seed: int = 0) -> tuple[Linear, Tensor, NDArray[np.float64]]:
    """Return a network, a picture, and what each of its 16 segments adds to the probability."""
    effects = np.random.default_rng(seed).uniform(-0.5, 1, 16) / 16
    segments = torch.from_numpy(squares(16, 16))
    pixels = pictures(1)[0] + 0.1
    shown = torch.from_numpy(effects)[segments] / 16 / 3 / pixels
    return Linear(shown.float()), pixels, effects


def values(found: Explained) -> NDArray[np.float64]:
    """Return the map's value in each of 16 segments."""
    return found.maps[0, ::4, ::4].double().numpy().ravel()


def test_a_model_linear_in_its_segments_is_found() -> None:
    network, pixels, effects = linear()
    config = Config(lime_samples=2000, lime_fill="black")
    with classified(network, SHAPE, "probabilities") as classifier:
        found = METHODS["lime"].explain(request(classifier, pixels[None], 0, config))
    # Ridge shrinks all weights a little.
    assert float(np.abs(values(found) - effects).max()) < 0.05 * float(np.abs(effects).max())
    assert float(np.abs(values(found) / effects - 1).max()) < 0.05
    (check,) = found.checks
    assert check.value is not None
    assert check.value > 0.99


def test_few_features_keep_the_largest_weights() -> None:
    network, pixels, effects = linear()
    config = Config(lime_samples=500, lime_fill="black", lime_features=7)
    with classified(network, SHAPE, "probabilities") as classifier:
        found = METHODS["lime"].explain(request(classifier, pixels[None], 0, config))
    largest = set(np.argsort(-np.abs(effects))[:7].tolist())
    assert set(np.flatnonzero(values(found)).tolist()) == largest
    assert found.settings["features"] == 7


def test_a_model_that_is_not_linear_has_a_poor_fit() -> None:
    config = Config(lime_samples=200, lime_fill="noise")
    with classified(seeded(FunctionalRelu), SHAPE) as classifier:
        found = METHODS["lime"].explain(asked(classifier, pictures(1), config))
    (check,) = found.checks
    assert check.metric == "surrogate_r2"
    assert check.value is not None
    assert check.value < 0.99
    assert check.note == ""


def test_a_constant_model_has_a_zero_map_and_no_fit() -> None:
    with classified(seeded(Constant), SHAPE) as classifier:
        found = METHODS["lime"].explain(asked(classifier, pictures(2), Config(lime_samples=50)))
    assert not bool(found.maps.any())
    assert found.checks[0].value is None
    assert found.checks[0].note == "the probability is the same under every masking"


def test_out_of_memory_changes_nothing() -> None:
    config = Config(lime_samples=40, lime_fill="black")
    found = []
    for most in (32, 3):
        network = ShortOfMemory(seeded(FunctionalRelu), most=32)
        with classified(network, SHAPE) as classifier:
            network.most = most
            found.append(METHODS["lime"].explain(asked(classifier, pictures(1), config)).maps)
            assert classifier.evaluator.counter.forward == 40
    # Convolutions of other batch sizes round otherwise, and the fit of forty samples magnifies it:
    # 1.3e-5 of the largest weight was measured.
    assert float((found[0] - found[1]).abs().max()) < 1e-4 * float(found[0].abs().max())
