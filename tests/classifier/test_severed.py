"""Networks that take values out of the gradient: refused in a sentence, never a partial map."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from toys import CLASSES, classified, exported, pictures, request, seeded

from reportgen.attribution import METHODS
from reportgen.classifier.severed import whole
from reportgen.errors import NotApplicable

SQUARE = (3, 16, 16)


class Branches(nn.Module):
    """Two ways from a first feature map to the scores; ``change`` is made to what one is given."""

    def __init__(self, change: Callable[[Tensor], Tensor] = lambda x: x) -> None:
        super().__init__()
        self.change = change
        self.conv = nn.Conv2d(3, 6, 4, 4)
        self.side = nn.Linear(6, 6)
        self.fc = nn.Linear(6, CLASSES)
        self.noted: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        features = self.conv(x).relu()
        pooled = features.mean((2, 3))
        return self.fc(pooled + self.aside(pooled))

    def aside(self, pooled: Tensor) -> Tensor:
        return self.side(self.change(pooled)).tanh()


class WithoutGradient(Branches):
    """Computes one way without gradients."""

    def aside(self, pooled: Tensor) -> Tensor:
        with torch.no_grad():
            return super().aside(pooled)


class Inferring(Branches):
    """Computes one way in inference mode."""

    def aside(self, pooled: Tensor) -> Tensor:
        with torch.inference_mode():
            return super().aside(pooled)


class Noting(Branches):
    """Keeps a copy without a gradient, which its scores do not depend on."""

    def aside(self, pooled: Tensor) -> Tensor:
        self.noted = pooled.detach().cpu()
        return super().aside(pooled)


class Measuring(Branches):
    """Uses a tensor's form, but not its values, and its values in a comparison alone."""

    def aside(self, pooled: Tensor) -> Tensor:
        ones = torch.ones_like(pooled) * pooled.new_ones(1)
        flat = torch.zeros(6).type_as(pooled).expand_as(pooled)
        return super().aside(pooled) * ones + flat + (pooled > 0).float() * 0


def quantised() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network = seeded(Branches)
        network.side = torch.ao.quantization.quantize_dynamic(
            nn.Sequential(network.side), {nn.Linear}, dtype=torch.qint8
        )[0]
        return network


SEVERED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "detached": (lambda: seeded(lambda: Branches(torch.Tensor.detach)), "detach"),
    "its data": (lambda: seeded(lambda: Branches(lambda x: x.data)), "__get__"),
    "without gradients": (lambda: seeded(WithoutGradient), "linear"),
    "in inference mode": (lambda: seeded(Inferring), "linear"),
}


def explained(method: str, network: nn.Module) -> Tensor:
    pixels = pictures(2)
    with classified(network, SQUARE) as classifier:
        return METHODS[method].explain(request(classifier, pixels, 1)).maps


@pytest.mark.parametrize("kind", SEVERED)
@pytest.mark.parametrize("method", ["gradcam", "saliency", "integrated-gradients"])
def test_a_gradient_that_leaves_out_a_part_is_refused(method: str, kind: str) -> None:
    make, function = SEVERED[kind]
    with pytest.raises(NotApplicable, match=rf"without gradients \(first seen in '{function}'\)"):
        explained(method, make())


def test_a_function_without_a_derivative_is_seen() -> None:
    network, pixels = quantised(), pictures(2).requires_grad_()
    with pytest.raises(NotApplicable, match=r"first seen in 'linear_dynamic'"), whole():
        network(pixels)
    with whole():
        seeded(Branches)(pixels)


def test_an_exported_program_is_refused_too() -> None:
    network = exported(seeded(lambda: Branches(torch.Tensor.detach)), SQUARE)
    with pytest.raises(NotApplicable, match="without gradients"):
        explained("saliency", network)


@pytest.mark.parametrize("make", [Noting, Measuring])
@pytest.mark.parametrize("method", ["gradcam", "saliency"])
def test_what_does_not_reach_the_scores_is_no_matter(
    method: str, make: Callable[[], nn.Module]
) -> None:
    expected = explained(method, seeded(Branches))
    found = explained(method, seeded(make))
    assert float((found - expected).abs().max()) < 1e-6 * float(expected.abs().max())
    assert float((found.flip(0) - expected).abs().max()) > 0.01 * float(expected.abs().max())


class Frozen(nn.Module):
    """A backbone without gradients under a head with a feature map of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Conv2d(3, 5, 2, 2)
        self.conv = nn.Conv2d(5, 6, 3, 2, 1)
        self.fc = nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            features = self.backbone(x)
        return self.fc(F.relu(self.conv(features)).mean((2, 3)))


def test_a_frozen_backbone_leaves_the_head_to_grad_cam() -> None:
    network = seeded(Frozen)
    plain = nn.Sequential(
        network.backbone, network.conv, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), network.fc
    )
    expected = explained("gradcam", plain)
    found = explained("gradcam", network)
    assert float((found - expected).abs().max()) < 1e-5 * float(expected.abs().max())
    with pytest.raises(NotApplicable, match="no gradient by the picture"):
        explained("saliency", network)


def test_the_forward_passes_of_a_refused_method_are_counted() -> None:
    network = seeded(WithoutGradient)
    with classified(network, SQUARE) as classifier:
        counter = classifier.evaluator.counter
        before = counter.forward
        for again in (1, 2):
            with pytest.raises(NotApplicable):
                METHODS["saliency"].explain(request(classifier, pictures(1), 1))
            assert counter.forward == before + again


class Activations(nn.Module):
    """One rectifier called many times, in place, between functions that change their input."""

    def __init__(self, inplace: bool) -> None:
        super().__init__()
        self.relu = nn.ReLU(inplace=inplace)
        self.first, self.second = nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(4, 6, 3, 2, 1)
        self.fc = nn.Linear(6, CLASSES)
        self.inplace = inplace

    def forward(self, x: Tensor) -> Tensor:
        x = self.second(self.relu(self.first(x)))
        x = self.relu(x.mul_(2) if self.inplace else x * 2)
        x = F.leaky_relu(x - 0.02, 0.1, inplace=self.inplace)
        return self.fc(x.mean((2, 3)))


@pytest.mark.parametrize("method", ["gradcam", "layercam", "saliency", "guided-backprop"])
def test_in_place_and_reused_activations_change_nothing(method: str) -> None:
    expected = explained(method, seeded(lambda: Activations(False)))
    found = explained(method, seeded(lambda: Activations(True)))
    assert float((found - expected).abs().max()) < 1e-6 * float(expected.abs().max())
    assert bool(expected.any())
