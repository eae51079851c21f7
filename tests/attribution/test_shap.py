"""SHAP: the library's values from pictures masked in batches, closed forms, and the axioms."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.cluster.hierarchy import leaves_list
from toys import (
    Constant,
    FunctionalRelu,
    Linear,
    classified,
    pictures,
    request,
    seeded,
    squares,
)

from reportgen.attribution import METHODS
from reportgen.attribution.shap import partition_values, segment_tree
from reportgen.config import Config

SHAPE = (3, 16, 16)
SEGMENTS = 16
Floats = NDArray[np.float64]
Masks = NDArray[np.bool_]


class SlowMasker:
    """Hides segments of one picture by plain numpy, one mask at a time."""

    fixed_background = False

    def __init__(self, picture: Floats, fill: Floats, tree: Floats) -> None:
        self.picture, self.fill, self.clustering = picture, fill, tree
        self.segments = squares(*picture.shape[1:])
        self.shape = (1, len(tree) + 1)

    def __call__(self, mask: Masks, _: Any) -> tuple[Floats]:
        hidden = self.picture.copy()
        for segment in np.flatnonzero(~mask):
            hidden[:, self.segments == segment] = self.fill[:, self.segments == segment]
        return (hidden[None],)

    def mask_shapes(self, _: Any) -> list[tuple[int, ...]]:
        return [self.shape[1:]]


def library(
    predict: Callable[[Floats], Floats], masker: SlowMasker, evals: int, seed: int
) -> Floats:
    from shap.explainers import PartitionExplainer

    state = np.random.get_state()
    np.random.seed(seed)
    try:
        explainer = PartitionExplainer(predict, masker)
        found = explainer(
            np.zeros((1, SEGMENTS)), max_evals=evals, batch_size=32, fixed_context=None, silent=True
        )
    finally:
        np.random.set_state(state)
    return np.asarray(found.values[0])


def difference(ours: Floats, theirs: Floats) -> float:
    """Return the largest difference as a share of the largest value."""
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


@pytest.mark.parametrize("evals", [20, 150, 1000])
def test_the_values_are_the_librarys(evals: int) -> None:
    pixels = pictures(1).double()
    network = seeded(FunctionalRelu).double()
    tree = segment_tree(pixels[0], squares(16, 16))
    config = Config(shap_evals=evals, shap_fill="black")
    with classified(network, SHAPE) as classifier:

        def predict(images: Floats) -> Floats:
            rows = [classifier.probabilities(torch.from_numpy(i)[None])[0, 2] for i in images]
            return torch.stack(rows).numpy()

        masker = SlowMasker(pixels[0].numpy(), np.zeros(SHAPE), tree)
        theirs = library(predict, masker, evals, seed=0)
        found = METHODS["shap"].explain(request(classifier, pixels, 2, config))
    # Sixteen pixels share a segment's value.
    ours = found.maps[0, ::4, ::4].double().numpy().ravel() * 16
    # Computed in float64; the map is stored in float32, to one part in 2**24, after a division.
    assert difference(ours, theirs) < 2**-23
    assert difference(ours, theirs * (1 + 2**-21)) > 2**-23
    assert difference(ours, theirs[::-1]) > 0.01


def interacting(shown: Masks) -> Floats:
    """Return a score in which all segments interact."""
    weights = np.linspace(-1, 1, SEGMENTS)
    return np.tanh(shown @ weights) + 0.3 * shown[:, 0] * shown[:, 5] - 0.1 * shown[:, 7:9].all(1)


@pytest.fixture
def tree() -> Floats:
    return segment_tree(pictures(1)[0], squares(16, 16))


def test_values_of_masks_are_the_librarys_to_the_last_digits(tree: Floats) -> None:
    picture = np.ones((1, 16, 16))
    masker = SlowMasker(picture, np.zeros_like(picture), tree)

    def predict(images: Floats) -> Floats:
        return np.array([interacting((i[0, ::4, ::4].ravel() > 0)[None])[0] for i in images])

    for seed in (0, 1):
        theirs = library(predict, masker, 120, seed)
        ours = partition_values(interacting, tree, 120, seed)
        assert difference(ours, theirs) < 1e-9
        assert difference(ours + 1e-8, theirs) > 1e-9


@pytest.fixture
def links_seen(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return the link functions that shap's explainer is given from here on."""
    from shap.explainers import _partition

    seen: list[Any] = []
    found = _partition.MaskedModel

    def watched(model: Any, masker: Any, link: Any, *rest: Any) -> Any:
        seen.append(link)
        return found(model, masker, link, *rest)

    monkeypatch.setattr(_partition, "MaskedModel", watched)
    return seen


def test_the_link_is_not_compiled(tree: Floats, links_seen: list[Any]) -> None:
    """Compiling it takes seconds, once in each process."""
    from shap import links

    partition_values(interacting, tree, 20, seed=0)
    assert [hasattr(link, "py_func") for link in links_seen] == [False]
    assert hasattr(links.identity, "py_func")  # put back as found


def test_a_compiled_link_would_be_noticed(links_seen: list[Any]) -> None:
    picture = np.ones((1, 16, 16))
    tree = segment_tree(pictures(1)[0], squares(16, 16))
    masker = SlowMasker(picture, np.zeros_like(picture), tree)
    library(lambda images: images.mean((1, 2, 3)), masker, 20, seed=0)
    assert [hasattr(link, "py_func") for link in links_seen] == [True]


@pytest.mark.parametrize("evals", [10, 50, 500])
def test_values_add_up_to_the_change(tree: Floats, evals: int) -> None:
    found = partition_values(interacting, tree, evals, seed=0)
    ends = interacting(np.array([[True] * SEGMENTS, [False] * SEGMENTS]))
    assert float(found.sum()) == pytest.approx(ends[0] - ends[1], abs=1e-12)
    assert abs(float(ends[0] - ends[1])) > 0.1


def test_and3_under_a_tree() -> None:
    """The first two share a branch: Owen's values are not Shapley's (1/3 each)."""
    tree = np.array([[0.0, 1.0, 1.0, 2.0], [2.0, 3.0, 2.0, 3.0]])
    found = partition_values(lambda shown: shown.all(1).astype(float), tree, 100, seed=0)
    assert found == pytest.approx([1 / 4, 1 / 4, 1 / 2], abs=1e-12)


def test_lin_is_exact_and_a_dummy_gets_nothing(tree: Floats) -> None:
    weights = np.linspace(-1, 2, SEGMENTS)
    weights[4] = 0
    found = partition_values(lambda shown: shown @ weights, tree, 2000, seed=0)
    assert found == pytest.approx(weights, abs=1e-12)


def test_equals_get_equal_values() -> None:
    tree = np.array([[0.0, 1.0, 1.0, 2.0], [2.0, 3.0, 1.0, 2.0], [4.0, 5.0, 2.0, 4.0]])
    found = partition_values(lambda shown: np.tanh(shown.sum(1)), tree, 100, seed=0)
    assert found == pytest.approx([np.tanh(4) / 4] * 4, abs=1e-12)


def test_the_map_of_lin_is_the_weights_times_the_picture() -> None:
    pixels = pictures(1).double()
    weights = torch.linspace(0, 1, 768, dtype=torch.float64).reshape(SHAPE) / 768
    weights[:, 4:8, 4:8] = 0
    config = Config(shap_evals=2000, shap_fill="black")
    with classified(Linear(weights), SHAPE, "probabilities") as classifier:
        found = METHODS["shap"].explain(request(classifier, pixels, 0, config))
    parts = (weights * pixels[0]).sum(0).reshape(4, 4, 4, 4).sum((1, 3))
    assert float((found.maps[0, ::4, ::4] * 16 - parts).abs().max()) < 1e-8
    assert float(found.maps[0, 4:8, 4:8].abs().max()) < 1e-12
    assert float(found.maps.sum()) == pytest.approx(float(parts.sum()), abs=1e-7)
    (check,) = found.checks
    assert (check.metric, check.note) == ("additivity_gap", "")
    assert check.value == pytest.approx(0, abs=1e-12)
    assert check.detail["probability change"] == pytest.approx(float(parts.sum()), abs=1e-12)


def test_the_map_adds_up_on_segments_of_any_size() -> None:
    segments = squares(16, 16)
    segments[segments == 3] = 2
    segments[segments == 15] = 3
    with classified(seeded(FunctionalRelu), SHAPE) as classifier:
        config = Config(shap_evals=60, shap_fill="black")
        asked = replace(request(classifier, pictures(1), 0, config), segments=segments)
        found = METHODS["shap"].explain(asked)
        ends = classifier.probabilities(torch.cat([pictures(1), torch.zeros(1, *SHAPE)]))[:, 0]
    assert found.resolution == "15 segments"
    assert float(found.maps.sum()) == pytest.approx(float(ends[0] - ends[1]), abs=1e-7)
    assert abs(float(ends[0] - ends[1])) > 1e-4


def test_a_constant_model_has_a_zero_map_and_says_so() -> None:
    with classified(seeded(Constant), SHAPE) as classifier:
        found = METHODS["shap"].explain(request(classifier, pictures(2), 0, Config(shap_evals=50)))
    assert not bool(found.maps.any())
    assert found.checks[0].value == 0
    assert found.checks[0].note == "the probability is the same with everything hidden"


def test_the_number_of_evaluations_is_kept() -> None:
    seen = []

    def counting(shown: Masks) -> Floats:
        seen.append(len(shown))
        return interacting(shown)

    tree = segment_tree(pictures(1)[0], squares(16, 16))
    partition_values(counting, tree, 100, seed=0)
    assert 60 < sum(seen) <= 101


def test_like_and_near_segments_are_joined_first() -> None:
    pixels = torch.zeros(SHAPE)
    pixels[:, :, 8:] = 1
    tree = segment_tree(pixels, squares(16, 16))
    assert tree.shape == (SEGMENTS - 1, 4)
    order = leaves_list(tree)
    left = {s for s in range(SEGMENTS) if s % 4 < 2}
    assert set(order[:8].tolist()) in (left, set(range(SEGMENTS)) - left)
