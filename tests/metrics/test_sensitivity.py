from __future__ import annotations

import numpy as np
import pytest
import torch
from captum.metrics import sensitivity_max
from metric_toys import context_of, uniform
from torch import Tensor

from reportgen.config import Config
from reportgen.errors import NotApplicable
from reportgen.metrics import METRICS, Measured
from reportgen.metrics.sensitivity import reduced, relative_changes

MEASURE = METRICS["sensitivity"].measure
RADIUS = 0.05
DRAWS = 60
# Away from 0 and 1, so that no noise is clipped.
PIXELS = 0.2 + 0.6 * torch.rand(1, 24, 32, generator=torch.Generator().manual_seed(0))
COUNT = PIXELS.numel()
NORM = float(PIXELS.norm())


def identity(method: str, pixels: Tensor, config: Config) -> Tensor:
    return pixels[:, 0]


def squared(method: str, pixels: Tensor, config: Config) -> Tensor:
    return pixels[:, 0] ** 2


def measured(explain, methods: tuple[str, ...] = ("map",)) -> Measured:
    maps = dict.fromkeys(methods, PIXELS[0])
    options = {"sensitivity_radius": RADIUS, "sensitivity_draws": DRAWS}
    with context_of(uniform(24, 32), PIXELS, maps, explain, **options) as context:
        return MEASURE(context)


def test_the_gradient_of_a_linear_model_does_not_change() -> None:
    weights = torch.rand(24, 32)
    (found,) = measured(
        lambda method, pixels, config: weights.expand(len(pixels), 24, 32)
    ).measurements
    assert found.value == 0


def test_the_picture_as_its_own_map_changes_as_the_noise_does() -> None:
    (found,) = measured(identity).measurements
    expected = RADIUS * (COUNT / 3) ** 0.5 / NORM
    copies = np.asarray(found.detail["copies"])
    assert len(copies) == DRAWS
    # The variance of a squared uniform is 4/45: the norm's relative spread over D values.
    spread = expected * (4 / 45 / COUNT) ** 0.5 * 3 / 2
    assert copies.mean() == pytest.approx(expected, abs=3 * spread / DRAWS**0.5)
    assert found.value == copies.max() <= RADIUS * COUNT**0.5 / NORM


def captums(seed: int) -> float:
    torch.manual_seed(seed)
    changes = sensitivity_max(
        lambda inputs: tuple(one**2 for one in inputs) if isinstance(inputs, tuple) else inputs**2,
        PIXELS[None],
        perturb_radius=RADIUS,
        n_perturb_samples=DRAWS,
    )
    return float(changes)


def test_captum_measures_the_same() -> None:
    (found,) = measured(squared).measurements
    theirs = [captums(seed) for seed in range(12)]
    # The largest of 60 draws differs from run to run: measured, by a little over one percent.
    spread = float(np.std(theirs))
    assert spread < 0.02 * np.mean(theirs)
    assert found.value == pytest.approx(np.mean(theirs), abs=3 * spread)


def test_a_zero_map_has_a_note_and_no_number() -> None:
    (found,) = measured(lambda method, pixels, config: pixels[:, 0] * 0).measurements
    assert (found.value, found.note) == (None, "the map is zero everywhere")
    assert relative_changes(torch.zeros(3, 2, 2)) is None


def test_one_failing_method_costs_the_others_nothing() -> None:
    def explain(method: str, pixels: Tensor, config: Config) -> Tensor:
        if method == "refuses":
            raise NotApplicable("no gradient here")
        if method == "breaks":
            raise ValueError("shape")
        if method == "not finite":
            return pixels[:, 0] / 0
        return identity(method, pixels, config)

    result = measured(explain, ("refuses", "breaks", "not finite", "works"))
    assert [m.subject for m in result.measurements] == ["works"]
    assert [(s.step, s.subject, s.reason) for s in result.skipped] == [
        ("sensitivity", "refuses", "no gradient here"),
        ("sensitivity", "breaks", "ValueError: shape"),
        ("sensitivity", "not finite", "the map of a noisy copy holds NaN or infinite values"),
    ]


def test_maps_are_made_with_the_reduced_counts_on_the_clean_picture_too() -> None:
    seen: list[tuple[int, int]] = []

    def explain(method: str, pixels: Tensor, config: Config) -> Tensor:
        seen.append((len(pixels), config.lime_samples))
        assert torch.equal(pixels[0], PIXELS)
        return identity(method, pixels, config)

    measured(explain)
    assert seen == [(DRAWS + 1, Config().sensitivity_samples)]


def test_reduced_counts_are_never_more_than_those_of_the_run() -> None:
    config = Config(lime_samples=20, shap_evals=300, ig_steps=5, sensitivity_samples=50)
    used = reduced(config)
    assert (used.lime_samples, used.shap_evals, used.ig_steps) == (20, 50, 5)
