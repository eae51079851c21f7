from __future__ import annotations

import pytest
import torch
from metric_toys import Compared, Constant, context_of, uniform

from reportgen.errors import NotApplicable
from reportgen.metrics import METRICS, Measured
from reportgen.perturbation.corruption import CORRUPTIONS, SEVERITIES, corrupted

MEASURE = METRICS["noise"].measure


def by_subject(result: Measured, metric: str) -> dict[str, float | None]:
    return {m.subject: m.value for m in result.measurements if m.metric == metric}


def test_a_constant_model_keeps_everything() -> None:
    with context_of(Constant(), torch.rand(3, 16, 20), {}, noise_draws=3) as context:
        result = MEASURE(context)
        assert context.classifier.evaluator.counter.forward == 3 * 5 * 3
    subjects = {f"{kind} {level}" for kind in CORRUPTIONS for level in SEVERITIES}
    assert by_subject(result, "noise_retention") == dict.fromkeys(subjects, 1.0)
    assert by_subject(result, "noise_flips") == dict.fromkeys(subjects, 0.0)
    assert result.arrays["noise.examples"].shape == (3, 16, 20, 3)


@pytest.mark.parametrize("draws", [1, 3])
def test_the_examples_are_the_first_copies_of_the_middle_severity(draws: int) -> None:
    pixels = torch.rand(3, 16, 20)
    with context_of(Constant(), pixels, {}, noise_draws=draws) as context:
        shown = torch.from_numpy(MEASURE(context).arrays["noise.examples"])
    for example, kind in zip(shown, CORRUPTIONS, strict=True):
        middle, next_one = (corrupted(pixels, kind, level, 1, 0)[0] for level in (3, 4))
        assert torch.equal(example, (middle.permute(1, 2, 0) * 255).round().byte())
        assert not torch.equal(example, (next_one.permute(1, 2, 0) * 255).round().byte())


def test_the_mean_is_kept_as_the_noise_keeps_it() -> None:
    side, level = 48, 0.6
    with context_of(uniform(side, side), torch.full((3, side, side), level), {}) as context:
        kept = by_subject(MEASURE(context), "noise_retention")
    # Of a mean over 6912 values, four standard errors of the noise's spread.
    count = 3 * side**2
    assert kept["gaussian 1"] == pytest.approx(1, abs=4 * 0.04 / level / count**0.5)
    assert kept["shot 1"] == pytest.approx(1, abs=4 * (level / 500) ** 0.5 / level / count**0.5)
    salted = (0.93 * level + 0.035) / level
    assert kept["impulse 5"] == pytest.approx(salted, abs=4 * 0.13 / level / count**0.5)
    assert kept["impulse 5"] != pytest.approx(1, abs=4 * 0.13 / level / count**0.5)


def test_flips_are_counted_against_the_clean_class() -> None:
    # Noise of both signs lifts black pixels above 0, where class 1 begins.
    masks = torch.stack([torch.zeros(16, 16), torch.ones(16, 16)])
    with context_of(Compared(masks), torch.zeros(1, 16, 16), {}, head="softmax") as context:
        flips = by_subject(MEASURE(context), "noise_flips")
    assert flips["gaussian 1"] == 1
    assert flips["shot 5"] == 0


def test_a_probability_of_zero_cannot_be_kept() -> None:
    class Silent(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.full((len(x), 2), -200.0)

    options = {"head": "multilabel"}
    with (
        context_of(Silent(), torch.rand(1, 8, 8), {}, **options) as context,
        pytest.raises(NotApplicable, match="probability 0"),
    ):
        MEASURE(context)
