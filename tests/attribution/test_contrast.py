"""Why A and not B: each method explains the difference of the scores, or the share of the two."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor, nn
from toys import Normalised, classified, pictures, request, seeded

from reportgen.attribution import METHODS
from reportgen.attribution.base import Request
from reportgen.config import Config

SHAPE = (3, 16, 16)
FAST = {"lime_samples": 30, "shap_evals": 30, "rise_masks": 20, "occlusion_cells": 4}
CONFIG = Config(device="cpu", ig_postprocessing="none", **FAST)
# Attention methods do not apply to these networks.
EACH = [method for method in METHODS if not method.startswith("attention")]
WEIGHTS = torch.linspace(-1, 1, 3 * 3 * 16 * 16).sin().reshape(3, *SHAPE)


class Linear(nn.Module):
    """Three linear scores of the pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.Parameter(WEIGHTS)

    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("nchw,kchw->nk", x, self.weights)


class Difference(nn.Module):
    """One logit: the score of class 2 less that of class 0."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        scores = self.network(x)
        return scores[:, 2:] - scores[:, :1]


@contextmanager
def contrasted(network: nn.Module, pixels: Tensor, batch_size: int = 32) -> Iterator[Request]:
    """Yield the request why class 2 and not class 0."""
    with classified(network, SHAPE, batch_size=batch_size) as plain:
        prediction = plain.predict(pixels[0], "contrast:2,0")
        classifier = plain.explaining(prediction.contrast)
        yield request(classifier, pixels, prediction.target.index, CONFIG)


def contrast_maps(method: str, network: nn.Module, pixels: Tensor, batch: int = 32) -> Tensor:
    with contrasted(network, pixels, batch) as asked:
        return METHODS[method].explain(asked).maps


def plain_maps(
    method: str, network: nn.Module, pixels: Tensor, target: int, head: str = "softmax"
) -> Tensor:
    with classified(network, SHAPE, head) as classifier:
        return METHODS[method].explain(request(classifier, pixels, target, CONFIG)).maps


def check_close(found: Tensor, expected: Tensor) -> None:
    scale = float(expected.abs().max())
    assert scale > 0
    assert torch.allclose(found, expected, atol=1e-4 * scale)


def test_the_check_for_closeness_can_fail() -> None:
    with pytest.raises(AssertionError):
        check_close(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 2.001]))


@pytest.mark.parametrize("method", ["integrated-gradients", "input-x-gradient"])
def test_a_signed_map_is_the_difference_of_the_two_maps(method: str) -> None:
    network, pixels = Linear().eval(), pictures(2)
    each = [plain_maps(method, network, pixels, target) for target in (2, 0)]
    check_close(contrast_maps(method, network, pixels), each[0] - each[1])
    difference = (pixels * (WEIGHTS[2] - WEIGHTS[0])).sum(1)
    check_close(contrast_maps(method, network, pixels), difference)


def test_saliency_is_the_size_of_the_difference() -> None:
    found = contrast_maps("saliency", Linear().eval(), pictures(1))[0]
    check_close(found, (WEIGHTS[2] - WEIGHTS[0]).abs().amax(0))


@pytest.mark.parametrize("method", EACH)
def test_every_method_gives_the_map_of_a_network_of_that_one_logit(method: str) -> None:
    # Its sigmoid is p2 / (p2 + p0), and its logit is the difference of the two scores.
    network, pixels = seeded(Normalised), pictures(2)
    expected = plain_maps(method, Difference(network).eval(), pixels, 1, "sigmoid")
    check_close(contrast_maps(method, network, pixels), expected)


@pytest.mark.parametrize("method", ["gradcam", "shap", "lime", "integrated-gradients", "saliency"])
def test_batched_equals_unbatched(method: str) -> None:
    network, pixels = seeded(Normalised), pictures(2)
    together = contrast_maps(method, network, pixels)
    check_close(contrast_maps(method, network, pixels, batch=3), together)


@pytest.mark.parametrize("method", ["saliency", "gradcam"])
def test_the_score_says_that_it_is_a_difference(method: str) -> None:
    with contrasted(seeded(Normalised), pictures(1)) as asked:
        settings = METHODS[method].explain(asked).settings
    assert settings["score"] == "logit of the first class less that of the second"
