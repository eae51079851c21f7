from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from metric_toys import Compared, Constant, Weighted, context_of, uniform
from torch import Tensor, nn

from reportgen.config import Config
from reportgen.errors import NotApplicable
from reportgen.metrics import METRICS, Context, Measured
from reportgen.metrics.repeats import noisy_copies, noisy_scores
from reportgen.metrics.stability import (
    FLOOR,
    Moves,
    distances,
    moves,
    ratios,
    relative_distances,
)
from reportgen.metrics.yardstick import null_maps
from reportgen.perturbation.controls import smooth_random_maps
from reportgen.records import Measurement

MEASURE = METRICS["relative-stability"].measure
LIPSCHITZ, INPUT, OUTPUT = (q.key for q in METRICS["relative-stability"].card.quantities)
KEYS = (LIPSCHITZ, INPUT, OUTPUT)
DRAWS = 20
PIXELS = 0.2 + 0.6 * torch.rand(1, 10, 14, generator=torch.Generator().manual_seed(0))
OPTIONS = {"sensitivity_radius": 0.05, "sensitivity_draws": DRAWS}
HALVES = torch.zeros(2, 10, 14)
HALVES[0, :5], HALVES[1, 5:] = 1, 1


def identity(method: str, pixels: Tensor, config: Config) -> Tensor:
    return pixels[:, 0]


def always(values: Tensor) -> Callable[[str, Tensor, Config], Tensor]:
    return lambda method, pixels, config: values.expand(len(pixels), *values.shape)


def measured(
    explain, network: nn.Module | None = None, pixels: Tensor = PIXELS, **options: Any
) -> Measured:
    chosen = {"head": "softmax", **OPTIONS, **options}
    network = Compared(HALVES) if network is None else network
    with context_of(network, pixels, {"map": pixels[0]}, explain, **chosen) as context:
        return MEASURE(context)


def found(result: Measured, metric: str, subject: str = "map") -> Measurement:
    (one,) = (m for m in result.measurements if (m.metric, m.subject) == (metric, subject))
    return one


def test_of_the_picture_as_its_own_map_lipschitz_and_input_stability_are_one() -> None:
    result = measured(identity)
    assert found(result, LIPSCHITZ).value == pytest.approx(1, rel=1e-6)
    assert found(result, INPUT).value == pytest.approx(1, rel=1e-6)
    copies = found(result, LIPSCHITZ).detail["copies"]
    assert np.allclose(copies, 1)
    assert len(copies) == DRAWS


def test_the_floor_is_the_same_for_picture_and_map() -> None:
    pixels = PIXELS.clone()
    pixels[:, 2:6, 3:9] = 0
    assert found(measured(identity, pixels=pixels), INPUT).value == pytest.approx(1, rel=1e-6)


@pytest.mark.parametrize("scale", [0.01, 3.0])
def test_the_lipschitz_estimate_is_in_the_units_of_the_map(scale: float) -> None:
    result = measured(lambda method, pixels, config: scale * pixels[:, 0])
    assert found(result, LIPSCHITZ).value == pytest.approx(scale, rel=1e-6)
    assert found(result, INPUT).value == pytest.approx(1, rel=1e-6)
    plain = found(measured(identity), LIPSCHITZ).yardstick
    yardstick = found(result, LIPSCHITZ).yardstick
    assert plain is not None and yardstick is not None
    assert yardstick.mean == pytest.approx(scale * plain.mean, rel=1e-5)


def test_a_map_that_never_changes_is_perfectly_stable() -> None:
    values = torch.randn(10, 14, generator=torch.Generator().manual_seed(1))
    for constant in (values, torch.ones(10, 14)):
        result = measured(always(constant))
        assert [found(result, key).value for key in KEYS] == [0, 0, 0]


def test_the_gradient_of_a_linear_network_is_perfectly_stable() -> None:
    network = Weighted(torch.rand(10, 14, generator=torch.Generator().manual_seed(2)))

    def gradient(method: str, pixels: Tensor, config: Config) -> Tensor:
        with torch.enable_grad():
            leaf = pixels.clone().requires_grad_()
            return torch.autograd.grad(network(leaf)[:, 0].sum(), leaf)[0][:, 0]

    result = measured(gradient, network)
    assert [found(result, key).value for key in KEYS] == [0, 0, 0]


def check_against_the_paper(formula: Callable[[Tensor, Mapping[str, Any]], Any]) -> None:
    """The sums of the papers, pixel by pixel; values lie on both sides of the floor."""
    generator = torch.Generator().manual_seed(3)
    maps = torch.randn(4, 3, 5, generator=generator).double()
    maps[0, 0, 0], maps[0, 1, 1] = 0, 1e-5
    pixels = torch.rand(4, 2, 3, 5, generator=generator).double()
    pixels[0, 0, 0, 0] = 0
    scores = torch.randn(4, 3, generator=generator).double()
    ours = formula(
        maps, {LIPSCHITZ: distances(pixels), INPUT: relative(pixels), OUTPUT: distances(scores)}
    )
    for copy in range(1, 4):
        change = slow_relative(maps[0], maps[copy])
        expected = {
            LIPSCHITZ: slow(maps[0], maps[copy]) / slow(pixels[0], pixels[copy]),
            INPUT: change / slow_relative(pixels[0], pixels[copy]),
            OUTPUT: change / slow(scores[0], scores[copy]),
        }
        for key, value in expected.items():
            assert ours[key][copy - 1] == pytest.approx(value, rel=1e-9)


relative = relative_distances


def slow(own: Tensor, other: Tensor) -> float:
    pairs = zip(own.ravel().tolist(), other.ravel().tolist(), strict=True)
    return sum((a - b) ** 2 for a, b in pairs) ** 0.5


def slow_relative(own: Tensor, other: Tensor) -> float:
    values = own.ravel().tolist()
    floor = 0.01 * max(abs(value) for value in values)
    pairs = zip(values, other.ravel().tolist(), strict=True)
    return sum(((a - b) / max(abs(a), floor)) ** 2 for a, b in pairs) ** 0.5


def planted(change: Callable[[Tensor], Any]) -> Callable[[Tensor, Mapping[str, Any]], Any]:
    def formula(maps: Tensor, denominators: Mapping[str, Any]) -> Any:
        found = dict(ratios(maps, denominators))
        found[INPUT] = change(maps) / denominators[INPUT]
        return found

    return formula


def without_floor(maps: Tensor) -> Any:
    return distances(maps / (maps[0].abs() + 1e-6))


def by_the_copy(maps: Tensor) -> Any:
    return np.array([slow_relative(copy, maps[0]) for copy in maps[1:]])


def normalised_first(maps: Tensor) -> Any:
    return relative_distances(maps / maps.abs().amax(dim=(1, 2), keepdim=True))


def upside_down(maps: Tensor, denominators: Mapping[str, Any]) -> Any:
    return {key: 1 / values for key, values in ratios(maps, denominators).items()}


ERRORS = {
    "no floor": planted(without_floor),
    "divided by the copy": planted(by_the_copy),
    "scaled to its maximum first": planted(normalised_first),
    "upside down": upside_down,
}


def test_the_ratios_are_those_of_the_papers() -> None:
    check_against_the_paper(ratios)


@pytest.mark.parametrize("error", ERRORS)
def test_the_comparison_sees_a_planted_error(error: str) -> None:
    with pytest.raises(AssertionError):
        check_against_the_paper(ERRORS[error])


def test_the_measured_values_are_the_largest_of_the_slow_ones() -> None:
    def explain(method: str, pixels: Tensor, config: Config) -> Tensor:
        return pixels[:, 0] ** 3 - 0.2 * pixels.flip(-1)[:, 0]

    network = Compared(HALVES)
    maps = {"map": PIXELS[0]}
    with context_of(network, PIXELS, maps, explain, head="softmax", **OPTIONS) as context:
        result = MEASURE(context)
        copies = context.once(noisy_copies)
    own = explain("map", PIXELS[None], Config())[0]
    others = explain("map", copies, Config())
    logits, flips = network(torch.cat([PIXELS[None], copies])), 0
    expected: dict[str, list[float]] = {key: [] for key in KEYS}
    for index, (copy, other) in enumerate(zip(copies, others, strict=True), start=1):
        expected[LIPSCHITZ].append(slow(own, other) / slow(PIXELS, copy))
        if logits[index].argmax() != logits[0].argmax():
            flips += 1
            continue
        change = slow_relative(own, other)
        expected[INPUT].append(change / slow_relative(PIXELS, copy))
        expected[OUTPUT].append(change / slow(logits[0], logits[index]))
    for key, values in expected.items():
        assert found(result, key).value == pytest.approx(max(values), rel=1e-5)
    share = found(result, INPUT).detail["share of copies with another top class"]
    assert share == flips / DRAWS


class Threshold(nn.Module):
    """The top class is another where the first pixel is below a limit; the scores always move."""

    def __init__(self, limit: float) -> None:
        super().__init__()
        self.limit = limit

    def forward(self, x: Tensor) -> Tensor:
        above = x[:, 0, 0, 0] >= self.limit
        mean = x.mean(dim=(1, 2, 3))
        return torch.stack([mean + above, mean + ~above], dim=1)


def below(limit: float) -> list[bool]:
    with context_of(Threshold(limit), PIXELS, {}, head="softmax", **OPTIONS) as context:
        return (context.once(noisy_copies)[:, 0, 0, 0] < limit).tolist()


def test_one_copy_of_another_class_makes_no_nan() -> None:
    """Quantus takes the maximum with NaN in it, and the whole picture has no number."""
    limit = float(PIXELS[0, 0, 0]) - 0.03
    flipped = below(limit)
    assert 0 < sum(flipped) < DRAWS
    result = measured(identity, Threshold(limit))
    for key in (INPUT, OUTPUT):
        one = found(result, key)
        assert one.value is not None and np.isfinite(one.value)
        assert one.detail["share of copies with another top class"] == sum(flipped) / DRAWS
        assert [copy is None for copy in one.detail["copies"]] == flipped
    assert found(result, INPUT).value == pytest.approx(1, rel=1e-6)
    assert None not in found(result, LIPSCHITZ).detail["copies"]


def test_the_yardstick_leaves_the_same_copies_out() -> None:
    limit = float(PIXELS[0, 0, 0]) - 0.03
    with context_of(
        Threshold(limit), PIXELS, {"map": PIXELS[0]}, identity, head="softmax", **OPTIONS
    ) as context:
        control = found(MEASURE(context), INPUT, "smooth-random").detail["draws"]
        maps, copies = context.once(null_maps), context.once(noisy_copies)
    kept = [index for index, gone in enumerate(below(limit)) if not gone]
    count = len(maps)
    for first in range(count):
        expected = max(
            slow_relative(maps[first], maps[(first + 1 + index % (count - 1)) % count])
            / slow_relative(PIXELS, copies[index])
            for index in kept
        )
        assert control[first] == pytest.approx(expected, rel=1e-5)


def test_where_no_copy_keeps_the_class_a_note_says_so() -> None:
    class Fussy(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            same = (x == PIXELS).flatten(1).all(dim=1).float()
            return torch.stack([2 * same, 1 - same], dim=1) + x.mean(dim=(1, 2, 3))[:, None]

    result = measured(identity, Fussy())
    for key in (INPUT, OUTPUT):
        one = found(result, key)
        assert (one.value, one.note) == (None, "the top class of every noisy copy is another")
        assert one.detail["share of copies with another top class"] == 1
        assert one.yardstick is None
        assert not [
            m for m in result.measurements if (m.metric, m.subject) == (key, "smooth-random")
        ]
    assert found(result, LIPSCHITZ).value == pytest.approx(1, rel=1e-6)


def test_a_constant_model_has_no_output_stability() -> None:
    one = found(measured(identity, Constant(), head="probabilities"), OUTPUT)
    note = "the class scores are the same on every noisy copy of the same top class"
    assert (one.value, one.note) == (None, note)


def test_a_zero_map_has_notes_and_no_numbers() -> None:
    result = measured(always(torch.zeros(10, 14)))
    for key in KEYS:
        one = found(result, key)
        assert (one.value, one.note) == (None, "the map is zero everywhere")
        assert one.yardstick is None


def test_a_black_picture_has_no_relative_change() -> None:
    result = measured(lambda m, pixels, c: pixels[:, 0] + 1, pixels=torch.zeros(1, 10, 14))
    one = found(result, INPUT)
    note = "no noisy copy of the same top class differs from the picture"
    # Both halves are black: which class is on top on a copy is a matter of chance.
    assert one.value is None and one.note in (note, "the top class of every noisy copy is another")
    assert found(result, LIPSCHITZ).value == pytest.approx(1, rel=1e-5)
    assert found(result, LIPSCHITZ, "edges").note == "the map is zero everywhere"


def test_copies_that_equal_the_picture_say_nothing() -> None:
    still = Moves(*(np.array([np.nan, 2.0]) for _ in range(3)), flipped=np.array([False, False]))
    maps = torch.rand(3, 4, 4, generator=torch.Generator().manual_seed(4))
    for values in ratios(maps, still.by_quantity()).values():
        assert np.isnan(values[0]) and np.isfinite(values[1])
    result = measured(identity, sensitivity_radius=1e-12)
    assert found(result, LIPSCHITZ).note == "no noisy copy differs from the picture"


def rectified(count: int) -> Tensor:
    """Return maps of which most are zero in most places, as those of class activation maps are."""
    return (smooth_random_maps(count, (20, 24), 0) - 0.6).clamp_min(0)


def test_zeros_of_a_map_do_not_blow_the_relative_change_up() -> None:
    """Libraries floor at 1e-6: one pixel that wakes up then outweighs all the others."""
    maps = rectified(2)
    waking = ((maps[0] == 0) & (maps[1] > 0)).sum()
    assert waking > 20
    ours = float(relative_distances(maps)[0])
    library = float(((maps[1] - maps[0]) / (maps[0] + (maps[0] == 0) * 1e-6)).norm())
    assert library > 1000 * ours
    assert ours <= maps[0].numel() ** 0.5 * float(maps.max() / maps[0].max()) / FLOOR


def test_the_share_of_zeros_decides_nothing_for_a_map_that_does_not_change() -> None:
    maps = rectified(1)
    assert relative_distances(maps.expand(3, -1, -1)).tolist() == [0, 0]
    assert np.isnan(relative_distances(torch.zeros(2, 3, 3))).all()


def test_scale_flips_and_signs_change_no_relative_value() -> None:
    generator = torch.Generator().manual_seed(6)
    maps, pixels = torch.randn(4, 5, 6, generator=generator), torch.rand(4, 1, 5, 6)
    ones = dict.fromkeys(KEYS, np.ones(3))
    plain = ratios(maps, ones)
    for changed in (-maps, 7 * maps, maps.flip(-1), maps.transpose(1, 2)):
        assert np.allclose(ratios(changed, ones)[INPUT], plain[INPUT], rtol=1e-6)
        assert np.allclose(ratios(changed, ones)[OUTPUT], plain[OUTPUT], rtol=1e-6)
    assert np.allclose(relative_distances(pixels.flip(-1)), relative_distances(pixels))
    assert not np.allclose(ratios(maps + 1, ones)[INPUT], plain[INPUT])


def test_one_failing_method_costs_the_others_nothing() -> None:
    def explain(method: str, pixels: Tensor, config: Config) -> Tensor:
        if method == "refuses":
            raise NotApplicable("no gradient here")
        return identity(method, pixels, config)

    maps = dict.fromkeys(("refuses", "works"), PIXELS[0])
    with context_of(Compared(HALVES), PIXELS, maps, explain, head="softmax", **OPTIONS) as context:
        result = MEASURE(context)
    assert found(result, INPUT, "works").value is not None
    (skip,) = result.skipped
    assert (skip.step, skip.subject) == ("relative-stability", "refuses")


def test_scores_are_logits_and_those_of_the_copies() -> None:
    network = Compared(HALVES)
    with context_of(network, PIXELS, {}, head="softmax", **OPTIONS) as context:
        scores = context.once(noisy_scores)
        far = context.once(moves)
        copies = context.once(noisy_copies)
    assert torch.allclose(scores, network(torch.cat([PIXELS[None], copies])))
    assert len(far.scores) == DRAWS
    assert found(measured(identity), OUTPUT).settings["score"] == "logit"


def test_the_batch_size_changes_nothing() -> None:
    for key in KEYS:
        values = [found(measured(identity, batch_size=size), key).value for size in (1, 7, 64)]
        assert values == pytest.approx([values[0]] * 3, rel=1e-5)


def test_controls_stand_beside_the_methods() -> None:
    result = measured(identity)
    for key in KEYS:
        assert found(result, key, "centre").value == 0
        assert found(result, key, "edges").value > 0
        yardstick = found(result, key).yardstick
        assert yardstick is not None and yardstick.maps >= 20
        assert yardstick.percentile == 1
    assert found(result, INPUT, "smooth-random").yardstick is None


def quantus_says(quantus: Any, context: Context) -> dict[str, Any]:
    """Return what quantus' own formulas make of our copies, maps and scores, one value a copy."""
    copies = context.once(noisy_copies).double().numpy()
    own = context.pixels.double().numpy()[None].repeat(DRAWS, axis=0)
    scores = context.once(noisy_scores).double().numpy()
    old, new = own**3, copies**3
    options = {"disable_warnings": True}
    by_input = quantus.RelativeInputStability(**options).relative_input_stability_objective
    by_output = quantus.RelativeOutputStability(**options).relative_output_stability_objective
    lipschitz = [
        quantus.similarity_func.lipschitz_constant(
            a=o.ravel(),
            b=n.ravel(),
            c=x.ravel(),
            d=y.ravel(),
            norm_numerator=quantus.similarity_func.distance_euclidean,
        )
        for o, n, x, y in zip(old, new, own, copies, strict=True)
    ]
    return {
        LIPSCHITZ: np.asarray(lipschitz),
        INPUT: by_input(own, copies, old, new),
        OUTPUT: by_output(scores[:1].repeat(DRAWS, axis=0), scores[1:], old, new),
    }


def check_against_quantus(quantus: Any, explain) -> None:
    maps = {"map": PIXELS[0]}
    network = Weighted(torch.full((10, 14), 0.5))
    with context_of(network, PIXELS, maps, explain, head="softmax", **OPTIONS) as context:
        result = MEASURE(context)
        theirs = quantus_says(quantus, context)
    for key, copies in theirs.items():
        assert found(result, key).detail["copies"] == pytest.approx(copies.tolist(), rel=1e-4)


def test_quantus_measures_the_same() -> None:
    quantus = pytest.importorskip("quantus", reason="a library for comparison, not installed here")
    check_against_quantus(quantus, lambda method, pixels, config: pixels[:, 0] ** 3)
    with pytest.raises(AssertionError):
        check_against_quantus(quantus, lambda method, pixels, config: pixels[:, 0] ** 2)


def test_without_maps_it_does_not_apply() -> None:
    with (
        context_of(uniform(10, 14), PIXELS, {}) as context,
        pytest.raises(NotApplicable, match="no map"),
    ):
        MEASURE(context)
