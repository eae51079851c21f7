from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
import torch
from metric_toys import Compared as TwoMasks
from metric_toys import Weighted, context_of
from scipy.stats import entropy, spearmanr
from torch import Tensor, nn

from reportgen.config import Config
from reportgen.errors import NotApplicable
from reportgen.facts import FAILS_FROM
from reportgen.metrics import METRICS, Context, Measured
from reportgen.metrics.destroyed import destroyed_maps, varied_copies
from reportgen.metrics.randomisation import (
    histogram_entropy,
    mean_similarity,
    verdict,
)
from reportgen.metrics.similarity import Compared
from reportgen.metrics.yardstick import null_maps
from reportgen.perturbation.controls import sobel_map
from reportgen.records import Measurement

Explain = Callable[[str, Tensor, Config], Tensor]
HEIGHT, WIDTH = 12, 16
COUNT = HEIGHT * WIDTH


def noise(seed: int, *shape: int) -> Tensor:
    return torch.rand(shape or (HEIGHT, WIDTH), generator=torch.Generator().manual_seed(seed))


PIXELS = noise(0, 3, HEIGHT, WIDTH)
LIN = noise(1) / COUNT


class Layers(nn.Module):
    """Three convolutions, the first of which makes features with normalised statistics."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.second = nn.Conv2d(6, 6, 3, padding=1)
        self.third = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.second(self.norm(self.first(x)).relu()).relu()
        return self.third(x.mean((2, 3)))


def layers() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(4)
        return Layers().eval()


def gradient(network: nn.Module) -> Explain:
    """Return what explains class 0 by the signed gradient, summed over channels."""

    def explain(method: str, pixels: Tensor, config: Config) -> Tensor:
        leaf = pixels.clone().requires_grad_()
        return torch.autograd.grad(network(leaf)[:, 0].sum(), leaf)[0].sum(dim=1)

    return explain


def edges(method: str, pixels: Tensor, config: Config) -> Tensor:
    return torch.stack([sobel_map(picture) for picture in pixels])


def measured(
    metric: str,
    network: nn.Module,
    explain: Explain,
    methods: tuple[str, ...] = ("m",),
    **more: object,
) -> Measured:
    options = {"head": "softmax", **more}
    maps = dict.fromkeys(methods, PIXELS[0])
    with context_of(network, PIXELS, maps, explain, **options) as context:
        return METRICS[metric].measure(context)


def found(result: Measured, metric: str, subject: str = "m") -> Measurement:
    (one,) = [m for m in result.measurements if (m.metric, m.subject) == (metric, subject)]
    return one


def number(result: Measured, metric: str, subject: str = "m") -> float:
    value = found(result, metric, subject).value
    assert value is not None
    return value


def test_an_edge_detector_is_the_same_under_any_model_and_fails() -> None:
    result = measured("randomisation", layers(), edges)
    for quantity in ("randomised_spearman", "randomised_spearman_abs", "randomised_ssim"):
        assert number(result, quantity) == pytest.approx(1)
    assert found(result, "randomised_spearman").detail["verdict"] == "fails"
    cascade = measured("cascading", layers(), edges)
    for way in ("top_down", "bottom_up"):
        one = found(cascade, f"cascading_spearman_{way}")
        assert one.value == pytest.approx(1)
        assert one.detail["similarities"] == pytest.approx([1, 1, 1])


def test_a_map_turned_round_fails_too() -> None:
    network = layers()
    clean = network.third.bias.detach().clone()

    def explain(method: str, pixels: Tensor, config: Config) -> Tensor:
        same = torch.equal(network.third.bias, clean)
        return edges(method, pixels, config) * (1 if same else -1)

    one = found(measured("randomisation", network, explain), "randomised_spearman")
    assert one.value == pytest.approx(-1)
    assert one.detail["verdict"] == "fails"


def lin_correlations(seeds: int) -> np.ndarray:
    network = Weighted(LIN)
    return np.asarray(
        [
            number(
                measured(
                    "randomisation",
                    network,
                    lambda method, pixels, config: network.weights.expand(len(pixels), -1, -1),
                    head="probabilities",
                    seed=seed,
                ),
                "randomised_spearman",
            )
            for seed in range(seeds)
        ]
    )


def check_unrelated(correlations: np.ndarray) -> None:
    """Spearman's correlation of unrelated rows of N numbers has the deviation 1/sqrt(N - 1)."""
    deviation = 1 / (COUNT - 1) ** 0.5
    assert abs(correlations).max() < 3.5 * deviation
    assert abs(correlations.mean()) < 3 * deviation / len(correlations) ** 0.5
    spread = 3 / (2 * len(correlations)) ** 0.5
    assert (correlations**2).mean() ** 0.5 == pytest.approx(deviation, rel=spread)


def test_the_gradient_of_a_linear_model_is_forgotten() -> None:
    correlations = lin_correlations(12)
    check_unrelated(correlations)
    for wrong in (correlations + 0.2, correlations * 3, np.zeros(12)):
        with pytest.raises(AssertionError):
            check_unrelated(wrong)


def test_the_correlation_is_scipys() -> None:
    network = layers()
    explain = gradient(network)
    with context_of(network, PIXELS, {"m": PIXELS[0]}, explain, head="softmax") as context:
        result = METRICS["randomisation"].measure(context)
        other = context.once(destroyed_maps).map_of("m")
        own, nulls = explain("m", PIXELS[None], context.config)[0], context.once(null_maps)

    def check(change: Callable[[Tensor], Tensor], quantity: str) -> None:
        one, two = (change(values).flatten().numpy() for values in (own, other))
        assert number(result, quantity) == pytest.approx(spearmanr(one, two).statistic, abs=1e-9)
        expected = [spearmanr(one, change(n).flatten().numpy()).statistic for n in nulls]
        yardstick = found(result, quantity).yardstick
        assert yardstick is not None
        assert yardstick.mean == pytest.approx(np.mean(expected), abs=1e-9)
        assert yardstick.maps == len(nulls)

    check(lambda values: values, "randomised_spearman")
    check(torch.abs, "randomised_spearman_abs")
    with pytest.raises(AssertionError):
        check(torch.abs, "randomised_spearman")


@pytest.mark.parametrize("metric", ["randomisation", "cascading"])
def test_a_scaled_and_shifted_map_has_the_same_ranks(metric: str) -> None:
    network = layers()
    plain, scaled = (
        measured(metric, network, explain)
        for explain in (
            gradient(network),
            lambda method, pixels, config: 3 * gradient(network)(method, pixels, config) + 5,
        )
    )
    for one in plain.measurements:
        if one.metric != "randomised_spearman_abs":
            assert number(scaled, one.metric) == pytest.approx(one.value, abs=1e-3)


def test_the_mean_leaves_the_unchanged_model_out() -> None:
    network = layers()
    explain = gradient(network)
    one = found(measured("cascading", network, explain), "cascading_spearman_top_down")
    stages = one.detail["similarities"]
    assert isinstance(stages, list)
    assert len(stages) == len(one.detail["stages"]) == 3

    def check(with_original: bool) -> None:
        assert one.value == pytest.approx(np.mean([*[1.0] * with_original, *stages]))

    check(False)
    with pytest.raises(AssertionError):
        check(True)


def test_both_ways_end_where_everything_is_drawn_anew() -> None:
    network = layers()
    with context_of(
        network, PIXELS, {"m": PIXELS[0]}, gradient(network), head="softmax"
    ) as context:
        full = number(METRICS["randomisation"].measure(context), "randomised_spearman")
        cascade = METRICS["cascading"].measure(context)
    down, up = (found(cascade, f"cascading_spearman_{way}") for way in ("top_down", "bottom_up"))
    for way in (down, up):
        assert way.detail["similarities"][-1] == pytest.approx(full)
    assert down.detail["stages"] == ["third", "second", "first"] == up.detail["stages"][::-1]
    assert down.detail["similarities"][0] != pytest.approx(up.detail["similarities"][0])
    assert down.array == up.array == "cascading.m"
    expected = [down.detail["similarities"], up.detail["similarities"]]
    assert cascade.arrays["cascading.m"] == pytest.approx(np.asarray(expected, dtype=np.float32))


@pytest.mark.parametrize(("stages", "number_of"), [(1, 1), (2, 2), (9, 3)])
def test_there_are_at_most_as_many_stages_as_asked_for(stages: int, number_of: int) -> None:
    result = measured("cascading", layers(), edges, sanity_stages=stages)
    assert len(found(result, "cascading_spearman_bottom_up").detail["similarities"]) == number_of


def test_the_model_is_as_it_was() -> None:
    network = layers()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    for metric in ("randomisation", "cascading", "emprt"):
        measured(metric, network, gradient(network))
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_passes_are_shared_and_counted() -> None:
    network = layers()
    runs: list[int] = []

    def explain(method: str, pixels: Tensor, config: Config) -> Tensor:
        runs.append(len(pixels))
        return edges(method, pixels, config)

    with context_of(network, PIXELS, {"m": PIXELS[0]}, explain, head="softmax") as context:
        counter = context.classifier.evaluator.counter
        METRICS["randomisation"].measure(context)
        # To find the stages, for the running statistics, and the destroyed model's probability.
        assert counter.forward == 1 + len(varied_copies(context)) + 1
        METRICS["emprt"].measure(context)
        assert counter.forward == 1 + len(varied_copies(context)) + 1
        assert len(runs) == 2
        METRICS["cascading"].measure(context)
        assert len(runs) == 2 + 2 * (3 - 1)


def test_a_constant_map_has_a_note_and_no_verdict() -> None:
    def flat(method: str, pixels: Tensor, config: Config) -> Tensor:
        return pixels[:, 0] * 0 + 3

    for metric in ("randomisation", "cascading", "emprt"):
        for one in measured(metric, layers(), flat).measurements:
            assert (one.value, one.yardstick) == (None, None)
            assert one.note == "the map is constant"
    one = found(measured("randomisation", layers(), flat), "randomised_spearman")
    assert one.detail["verdict"] == "cannot tell"


def test_a_map_that_vanishes_has_noticed() -> None:
    network = layers()
    clean = network.third.bias.detach().clone()

    def explain(method: str, pixels: Tensor, config: Config) -> Tensor:
        here = torch.equal(network.third.bias, clean)
        return edges(method, pixels, config) if here else torch.full((1, HEIGHT, WIDTH), 0.1)

    one = found(measured("randomisation", network, explain), "randomised_spearman")
    assert (one.value, one.detail["verdict"]) == (None, "passes")
    assert one.note == "the map of the re-drawn model is constant"
    assert number(measured("emprt", network, explain), "emprt") == -1
    up = found(measured("cascading", network, explain), "cascading_spearman_bottom_up")
    assert up.detail["similarities"] == [pytest.approx(1), pytest.approx(1), None]
    assert up.value == pytest.approx(1)
    assert up.note.endswith("is constant at 1 of 3 stages, which are left out")


def test_the_mean_of_no_similarity_is_none() -> None:
    missing = Compared(None, "the map is constant")
    assert mean_similarity([missing, missing]) == missing
    assert mean_similarity([Compared(0.2), Compared(0.4)]) == Compared(pytest.approx(0.3))


@pytest.mark.parametrize(
    ("signed", "strength", "expected"),
    [
        (FAILS_FROM, None, "fails"),
        (0.49, 0.9, "passes"),
        (-FAILS_FROM, FAILS_FROM, "fails"),
        (-0.49, 0.9, "passes"),
        # An unsigned map whose weak places became the strong ones is not the same map.
        (-0.7, -0.7, "passes"),
        (-0.7, None, "passes"),
        (None, None, "passes"),
    ],
)
def test_the_verdict_rests_on_rank_and_on_strength(
    signed: float | None, strength: float | None, expected: str
) -> None:
    compared = Compared(signed), Compared(strength)
    assert verdict(False, *compared) == expected
    assert verdict(True, *compared) == "cannot tell"


def test_unrelated_maps_hardly_ever_reach_the_threshold() -> None:
    with context_of(layers(), PIXELS, {}, head="softmax", null_maps=200) as context:
        maps = context.once(null_maps).flatten(1).numpy()
    one, other = maps[:20], maps[100:]
    correlations = spearmanr(one, other, axis=1).statistic[:20, 20:]
    assert correlations.std() == pytest.approx(0.16, abs=0.02)
    assert (abs(correlations) >= FAILS_FROM).mean() < 0.005


def test_a_model_without_weights_or_one_that_stays_the_same_says_nothing() -> None:
    with pytest.raises(NotApplicable, match="no weights"):
        measured("randomisation", TwoMasks(noise(3, 2, HEIGHT, WIDTH)), edges)
    equal = Weighted(torch.full((HEIGHT, WIDTH), 1 / COUNT))
    for metric in ("randomisation", "cascading", "emprt"):
        with pytest.raises(NotApplicable, match="score stays the same"):
            measured(metric, equal, edges, head="probabilities")
        with pytest.raises(NotApplicable, match="no map"):
            measured(metric, equal, edges, methods=())


@pytest.mark.parametrize("metric", ["randomisation", "cascading", "emprt"])
def test_one_failing_method_costs_the_others_nothing(metric: str) -> None:
    network = layers()
    clean = network.third.bias.detach().clone()

    def explain(method: str, pixels: Tensor, config: Config) -> Tensor:
        if method == "refuses":
            raise NotApplicable("no gradient here")
        if method == "breaks" and not torch.equal(network.third.bias, clean):
            raise ValueError("shape")
        return edges(method, pixels, config)

    result = measured(metric, network, explain, ("refuses", "breaks", "works"))
    assert {m.subject for m in result.measurements} == {"works"}
    assert [(s.step, s.subject, s.reason) for s in result.skipped] == [
        (metric, "refuses", "no gradient here"),
        (metric, "breaks", "ValueError: shape"),
    ]


def test_the_copies_are_of_the_picture_and_differ() -> None:
    with context_of(layers(), PIXELS, {}, head="softmax") as context:
        copies = varied_copies(context)
    assert copies.shape == (8, *PIXELS.shape)
    assert float(copies.amin()) >= 0
    assert float(copies.amax()) <= 1
    assert float((copies[0] - PIXELS).abs().mean()) < 0.1
    assert all(float((a - b).abs().mean()) > 0.1 for a, b in pairwise(copies))


def by_hand(values: Tensor, bins: int = 100) -> float:
    """Count the values of each bin one by one; the last bin holds its upper edge."""
    flat = values.double().flatten()
    low, high = float(flat.min()), float(flat.max())
    counts = [0] * bins
    for value in flat.tolist():
        counts[min(int((value - low) / (high - low) * bins), bins - 1)] += 1
    shares = [count / len(flat) for count in counts if count]
    return -sum(share * float(np.log(share)) for share in shares)


def test_the_entropy_of_a_histogram() -> None:
    levels = torch.arange(100.0).repeat(4).view(20, 20)
    assert histogram_entropy(levels) == pytest.approx(np.log(100))
    halves = torch.zeros(10, 10)
    halves[:5] = 1
    assert histogram_entropy(halves) == pytest.approx(np.log(2))
    assert histogram_entropy(torch.full((4, 4), 0.3)) == 0
    values = noise(5) ** 3
    assert histogram_entropy(values) == pytest.approx(by_hand(values))
    assert histogram_entropy(5 * values + 2) == pytest.approx(histogram_entropy(values), abs=0.02)
    with pytest.raises(AssertionError):
        assert histogram_entropy(values) == pytest.approx(by_hand(values, 50))


def test_the_gain_of_complexity_is_relative_to_the_clean_map() -> None:
    network = layers()
    clean = network.third.bias.detach().clone()
    simple = torch.zeros(HEIGHT, WIDTH)
    simple[:6] = 1

    def explain(method: str, pixels: Tensor, config: Config) -> Tensor:
        rich = torch.linspace(0, 1, COUNT).view(HEIGHT, WIDTH)
        before, after = (simple, rich) if method == "rises" else (rich, simple)
        return (before if torch.equal(network.third.bias, clean) else after)[None]

    result = measured("emprt", network, explain, ("rises", "falls"))
    rich = entropy(np.histogram(np.linspace(0, 1, COUNT), bins=100)[0])

    def check(subject: str, expected: float) -> None:
        assert number(result, "emprt", subject) == pytest.approx(expected, abs=1e-3)

    check("rises", (rich - np.log(2)) / np.log(2))
    check("falls", (np.log(2) - rich) / rich)
    with pytest.raises(AssertionError):
        check("falls", (np.log(2) - rich) / np.log(2))
    assert found(result, "emprt", "rises").settings["bins"] == 100


def test_the_gain_stands_among_the_gains_of_smooth_random_maps() -> None:
    network = layers()
    with context_of(
        network, PIXELS, {"m": PIXELS[0]}, gradient(network), head="softmax"
    ) as context:
        one = found(METRICS["emprt"].measure(context), "emprt")
        nulls = context.once(null_maps)
    own = one.detail["entropy"]
    assert isinstance(own, float)
    expected = [(by_hand(values) - own) / own for values in nulls]
    assert one.yardstick is not None
    assert one.yardstick.mean == pytest.approx(np.mean(expected), abs=1e-3)


def quantus_metric(context: Context) -> float:
    """Return Quantus' own entropy ratio of the same two maps."""
    complexity = pytest.importorskip(
        "quantus.functions.complexity_func", reason="Quantus is a cross-check where it is installed"
    )
    own = context.explain("m", PIXELS[None], context.config)[0].numpy().flatten()
    other = context.once(destroyed_maps).map_of("m").numpy().flatten()
    before, after = (complexity.discrete_entropy(one, None) for one in (own, other))
    return float((after - before) / before)


def test_quantus_measures_the_same_gain() -> None:
    network = layers()
    with context_of(
        network, PIXELS, {"m": PIXELS[0]}, gradient(network), head="softmax"
    ) as context:
        one = number(METRICS["emprt"].measure(context), "emprt")
        theirs = quantus_metric(context)
        assert one == pytest.approx(theirs, abs=1e-6)
        assert -one != pytest.approx(theirs, abs=1e-6)
