from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from metric_toys import Compared, Weighted, context_of
from torch import Tensor, nn

from reportgen.attribution.gradcam import CARD as GRADCAM
from reportgen.config import Config
from reportgen.errors import NotApplicable
from reportgen.metrics import METRICS, Measured
from reportgen.metrics.random_logit import other_class

HEIGHT, WIDTH = 12, 16
MEASURE = METRICS["random-logit"].measure
PIXELS = torch.rand(3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(0))


def noise(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape or (HEIGHT, WIDTH), generator=torch.Generator().manual_seed(seed))


class Classes(nn.Module):
    """LIN of several classes: the logits are sums of weights (classes, H, W) times pixels."""

    def __init__(self, weights: Tensor) -> None:
        super().__init__()
        self.weights = nn.Parameter(weights)

    def forward(self, x: Tensor) -> Tensor:
        return (x.mean(dim=1)[:, None] * self.weights).sum(dim=(2, 3))


class OneLogit(nn.Module):
    """One output, which speaks for the second of two classes."""

    def forward(self, x: Tensor) -> Tensor:
        return (x.mean(dim=1) * noise(1)).sum(dim=(1, 2))[:, None]


def gradients(weights: Tensor) -> Callable[[str, Tensor, Config], Tensor]:
    """Return what explains the class that is asked for, class 0 by default, by its weights."""
    return lambda method, pixels, config: weights[int(config.target or 0)][None]


def measured(network: nn.Module, explain: Callable[..., Tensor], **more: object) -> Measured:
    options = {"head": "softmax", **more}
    with context_of(network, PIXELS, {"m": PIXELS[0]}, explain, **options) as context:
        return MEASURE(context)


def numbers(result: Measured) -> tuple[float | None, float | None]:
    spearman, ssim = result.measurements
    assert spearman.metric == "random_logit_spearman"
    assert ssim.metric == "random_logit_ssim"
    return spearman.value, ssim.value


def test_two_opposite_classes_have_opposite_maps() -> None:
    weights = torch.stack([noise(2), -noise(2)])
    spearman, ssim = numbers(measured(Classes(weights), gradients(weights)))
    assert spearman == pytest.approx(-1)
    assert ssim is not None
    assert ssim < 0.3


def test_a_map_that_ignores_the_class_is_the_same() -> None:
    weights = noise(3, 5, HEIGHT, WIDTH)
    result = measured(Classes(weights), lambda method, pixels, config: weights[:1])
    assert numbers(result) == pytest.approx((1, 1))


def test_unrelated_classes_have_unrelated_maps() -> None:
    weights = noise(4, 5, HEIGHT, WIDTH)
    spearman, _ = numbers(measured(Classes(weights), gradients(weights)))
    assert spearman is not None
    assert abs(spearman) < 3.5 / (HEIGHT * WIDTH - 1) ** 0.5


def drawn(classes: int, seed: int) -> int:
    network = Classes(noise(5, classes, HEIGHT, WIDTH))
    with context_of(network, PIXELS, {}, head="softmax", seed=seed) as context:
        return other_class(context)


def test_every_other_class_can_be_drawn_and_the_explained_one_never() -> None:
    assert {drawn(4, seed) for seed in range(40)} == {1, 2, 3}
    assert drawn(1000, 3) == drawn(1000, 3)
    assert drawn(2, 0) == 1


def test_the_class_is_asked_for_by_its_index_and_recorded() -> None:
    weights = noise(6, 9, HEIGHT, WIDTH)
    asked: list[str] = []

    def explain(method: str, pixels: Tensor, config: Config) -> Tensor:
        asked.append(config.target)
        return gradients(weights)(method, pixels, config)

    for one in measured(Classes(weights), explain).measurements:
        assert asked == ["", str(one.detail["other class"])]
        assert one.detail["other label"] == f"class {one.detail['other class']}"
        assert one.settings["seed"] == 0
        assert one.yardstick is not None
        assert one.yardstick.maps == 20


@pytest.mark.parametrize("agnostic", [False, True])
def test_a_method_that_knows_no_classes_fails_by_design(agnostic: bool) -> None:
    weights = noise(7, 3, HEIGHT, WIDTH)
    cards = {"m": GRADCAM.model_copy(update={"class_agnostic": agnostic})}
    result = measured(Classes(weights), gradients(weights), cards=cards)
    for one in result.measurements:
        assert one.note == (
            "the method gives nearly the same map for every class, by design" if agnostic else ""
        )


def test_one_output_for_two_classes_is_told() -> None:
    weights = torch.stack([-noise(1), noise(1)])
    result = measured(OneLogit(), gradients(weights), head="sigmoid")
    assert numbers(result)[0] == pytest.approx(-1)
    assert all("exact opposites" in one.note for one in result.measurements)
    strength = measured(OneLogit(), gradients(weights.abs()), head="sigmoid")
    assert numbers(strength)[0] == pytest.approx(1)


def test_a_constant_map_has_a_note() -> None:
    weights = torch.stack([noise(8), torch.zeros(HEIGHT, WIDTH)])
    for order, note in ((0, "the map of the other class is constant"), (1, "the map is constant")):
        found = weights if order == 0 else weights.flip(0)
        for one in measured(Classes(weights), gradients(found)).measurements:
            assert (one.value, one.note, one.yardstick) == (None, note, None)


def test_a_failing_method_is_left_out_and_no_map_is_nothing_to_compare() -> None:
    def explain(method: str, pixels: Tensor, config: Config) -> Tensor:
        if config.target:
            raise NotApplicable("no gradient here")
        return pixels[:, 0]

    result = measured(Weighted(noise(9) / 100), explain, head="probabilities")
    assert result.measurements == ()
    assert [(s.step, s.subject, s.reason) for s in result.skipped] == [
        ("random-logit", "m", "no gradient here")
    ]
    network = Compared(noise(10, 2, HEIGHT, WIDTH))
    with (
        context_of(network, PIXELS, {}, head="softmax") as context,
        pytest.raises(NotApplicable, match="no map"),
    ):
        MEASURE(context)
