"""Kernel SHAP: exact Shapley values of known games, the axioms, and pictures masked in batches."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from captum.attr import ShapleyValues
from gradient_methods import difference
from numpy.typing import NDArray
from torch import Tensor, nn
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
from reportgen.attribution.coalitions import spread
from reportgen.attribution.kernel_shap import FEWEST_EACH, kernel_values
from reportgen.config import Config
from reportgen.errors import NotApplicable

METHOD = "kernel-shap"
Floats = NDArray[np.float64]
Masks = NDArray[np.bool_]
Game = Callable[[Masks], Floats]

GAMES: dict[str, tuple[Game, list[float]]] = {
    "AND3": (lambda shown: shown.all(1).astype(float), [1 / 3, 1 / 3, 1 / 3]),
    "MAX2": (lambda shown: (shown * [2.0, 1.0]).max(1), [1.5, 0.5]),
    "LIN": (lambda shown: shown @ np.array([1.0, -2.0, 0.0, 0.5]), [1, -2, 0, 0.5]),
    "one alone": (lambda shown: shown[:, 0] * 0.7, [0.7]),
    "a dummy": (lambda shown: shown[:, 0] * shown[:, 2] * 1.0, [0.5, 0, 0.5]),
}


def shapley(game: Game, segments: int) -> Floats:
    """Return Shapley's values by their definition, over all orders."""
    values = np.zeros(segments)
    for order in itertools.permutations(range(segments)):
        shown = np.zeros((segments + 1, segments), dtype=bool)
        for step, segment in enumerate(order):
            shown[step + 1 :, segment] = True
        values[list(order)] += np.diff(game(shown))
    return values / math.factorial(segments)


@pytest.mark.parametrize(("game", "expected"), GAMES.values(), ids=GAMES)
def test_known_games(game: Game, expected: list[float]) -> None:
    found = kernel_values(game, len(expected), 100, 0)
    assert found == pytest.approx(expected, abs=1e-9)
    assert shapley(game, len(expected)) == pytest.approx(expected, abs=1e-12)


def interacting(shown: Masks) -> Floats:
    weights = np.linspace(-1, 1, shown.shape[1])
    return np.tanh(shown @ weights) + 0.3 * shown[:, 0] * shown[:, 3] - 0.1 * shown[:, 1:3].all(1)


def check_exact(found: Floats) -> None:
    """Compare with Shapley's values of the interacting game of five."""
    assert found == pytest.approx(shapley(interacting, len(found)), abs=1e-9)


def test_enough_maskings_are_exact_and_the_comparison_can_fail() -> None:
    exact = kernel_values(interacting, 5, 30, 0)
    check_exact(exact)
    sampled = kernel_values(interacting, 5, 18, 0)
    ends = interacting(np.array([[True] * 5, [False] * 5]))
    for wrong in (sampled, -exact, exact[::-1], np.full(5, float(ends[0] - ends[1]) / 5)):
        with pytest.raises(AssertionError):
            check_exact(wrong)


def test_sampled_values_add_up_and_come_near() -> None:
    exact = shapley(interacting, 7)
    ends = interacting(np.array([[True] * 7, [False] * 7]))
    errors = []
    for maskings in (40, 100):
        found = kernel_values(interacting, 7, maskings, 1)
        assert float(found.sum()) == pytest.approx(float(ends[0] - ends[1]), abs=1e-12)
        errors.append(float(np.abs(found - exact).max()))
    assert errors[1] < errors[0] < 0.1
    assert errors[1] < 0.03


def test_the_seed_draws_the_maskings_and_nothing_global_is_left() -> None:
    before = np.random.get_state()[1].tolist()
    first, again, other = (kernel_values(interacting, 12, 60, seed) for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert np.random.get_state()[1].tolist() == before


def test_no_feature_is_dropped() -> None:
    """The library's own default keeps the ten largest of more segments."""
    weights = np.linspace(1, 2, 14)
    assert kernel_values(lambda shown: shown @ weights, 14, 100, 0) == pytest.approx(weights)


def test_too_few_maskings_are_refused_in_a_sentence() -> None:
    with pytest.raises(NotApplicable, match="2 maskings do not tell 6 segments apart"):
        kernel_values(lambda shown: shown[:, 0] * 1.0, 6, 2, 0)


def test_it_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    kernel_values(interacting, 6, 40, 0)
    assert capsys.readouterr() == ("", "")


def explained(
    network: nn.Module,
    pixels: Tensor,
    segments: NDArray[np.int64],
    config: Config,
    head: str = "softmax",
) -> Explained:
    with classified(network, tuple(pixels.shape[1:]), head) as classifier:
        asked = replace(request(classifier, pixels, 0, config), segments=segments)
        return METHODS[METHOD].explain(asked)


def black(evals: int) -> Config:
    return Config(shap_evals=evals, shap_fill="black")


class Shown(nn.Module):
    """A function of which of the segments of a white picture are shown, as a probability."""

    def __init__(self, segments: NDArray[np.int64], game: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.segments, self.game = torch.from_numpy(segments), game

    def forward(self, x: Tensor) -> Tensor:
        count = int(self.segments.max()) + 1
        shown = torch.stack([x[:, 0, self.segments == s].mean(1) for s in range(count)], 1)
        value = self.game(shown)
        return torch.stack([value, 1 - value], 1)


@pytest.mark.parametrize(
    ("game", "expected"),
    [
        (lambda shown: shown.prod(1), [1 / 3, 1 / 3, 1 / 3]),
        (lambda shown: (shown[:, :2] * torch.tensor([0.6, 0.3])).amax(1), [0.45, 0.15]),
        (lambda shown: shown @ torch.tensor([0.1, 0.2, 0.3, 0.4]), [0.1, 0.2, 0.3, 0.4]),
    ],
    ids=["AND3", "MAX2", "LIN"],
)
def test_known_games_of_a_network(game: Callable[[Tensor], Tensor], expected: list[float]) -> None:
    columns = np.arange(12) * len(expected) // 12
    segments = np.broadcast_to(columns, (4, 12)).astype(np.int64)
    network = Shown(segments, game)
    found = explained(network, torch.ones(1, 1, 4, 12), segments, black(50), "probabilities")
    sums = [float(found.maps[0][torch.from_numpy(segments == s)].sum()) for s in np.unique(columns)]
    assert sums == pytest.approx(expected, abs=1e-6)
    assert found.settings["evaluations"] == 2 ** len(expected)
    (check,) = found.checks
    assert check.value == pytest.approx(0, abs=1e-6)


def test_the_map_is_captums_exact_one() -> None:
    segments = squares(4, 16)
    network, pixels = seeded(FunctionalRelu).double(), pictures(1, 3, 4, 16)
    ours = explained(network, pixels, segments, black(100)).maps[0]
    theirs = ShapleyValues(lambda x: network(x).softmax(1)).attribute(
        pixels.double(), 0.0, 0, feature_mask=torch.from_numpy(segments)[None, None]
    )
    expected = theirs[0, 0].float() / 16
    scale = float(expected.abs().max())
    assert difference(ours, expected) < 1e-5 * scale
    assert difference(ours, expected * (1 + 4e-5)) > 1e-5 * scale
    assert difference(ours, expected.flip(1)) > 0.01 * scale


def test_lin_is_the_weights_times_the_picture() -> None:
    pixels = pictures(1)
    weights = torch.linspace(0, 1, 768).reshape(3, 16, 16) / 768
    weights[:, 4:8, 4:8] = 0
    found = explained(
        Linear(weights.double()), pixels, squares(16, 16), black(100), "probabilities"
    )
    parts = (weights * pixels[0]).sum(0).reshape(4, 4, 4, 4).sum((1, 3))
    assert difference(found.maps[0, ::4, ::4] * 16, parts) < 1e-6
    assert float(found.maps[0, 4:8, 4:8].abs().max()) < 1e-7


def test_there_are_enough_maskings_whatever_was_asked_for() -> None:
    found = explained(seeded(FunctionalRelu), pictures(1), squares(16, 16), black(10))
    assert found.settings["evaluations asked for"] == 10
    assert found.settings["evaluations"] == FEWEST_EACH * 16 + 2
    plenty = explained(seeded(FunctionalRelu), pictures(1), squares(16, 16), black(90))
    assert plenty.settings["evaluations"] == 90


def test_a_map_adds_up_to_its_values_on_segments_of_any_size() -> None:
    segments = np.array([[0, 0, 1], [0, 2, 1]])
    found = spread(np.array([3.0, -4.0, 0.5]), segments)
    assert found.tolist() == [[1, 1, -2], [1, 0.5, -2]]


def test_a_constant_model_has_a_zero_map_and_says_so() -> None:
    found = explained(seeded(Constant), pictures(2), squares(16, 16), black(60))
    assert not bool(found.maps.any())
    assert found.checks[0].value == 0
    assert found.checks[0].note == "the probability is the same with everything hidden"


def test_out_of_memory_changes_nothing_and_passes_are_counted() -> None:
    network = ShortOfMemory(seeded(FunctionalRelu).double(), most=32)
    with classified(network, (3, 16, 16)) as classifier:
        asked = request(classifier, pictures(2), 0, black(70))
        found = METHODS[METHOD].explain(asked).maps
        assert classifier.evaluator.counter.forward == 2 * 70
        network.most = 3
        again = METHODS[METHOD].explain(asked).maps
    assert difference(found, again) < 1e-5 * float(found.abs().max())
