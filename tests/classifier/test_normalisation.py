"""Pixels become what the network wants, and gradients come back in the order of the pixels."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from reportgen.classifier.normalisation import Normalisation, normalisation_of
from reportgen.classifier.torchvision_operators import ensure_torchvision
from reportgen.errors import ModelError
from reportgen.records import Preprocessing

ensure_torchvision()

from torchvision import transforms  # noqa: E402

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def some_pixels(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("batch", [(), (4,)])
def test_it_equals_torchvisions(batch: tuple[int, ...]) -> None:
    pixels = some_pixels(*batch, 3, 8, 9)
    before = pixels.clone()
    found = Normalisation(MEAN, STD)(pixels)
    assert torch.equal(found, transforms.Normalize(MEAN, STD)(pixels))
    assert not torch.equal(found, transforms.Normalize(MEAN, STD[::-1])(pixels))
    assert torch.equal(pixels, before)


def test_it_carries_gradients() -> None:
    pixels = torch.rand(1, 3, 4, 4, requires_grad=True)
    total = Normalisation((0.1, 0.2, 0.3), (0.5, 0.25, 0.125))(pixels).sum()
    (gradient,) = torch.autograd.grad(total, pixels)
    assert gradient[0, :, 0, 0].tolist() == [2, 4, 8]


@pytest.mark.parametrize(
    ("mean", "std"),
    [((0.5,) * 3, (0.5,)), ((0.5,), (0.5,) * 3), ((0.5,) * 3, (0.5, 0.0, 0.5))],
)
def test_the_wrong_number_of_values_is_refused(
    mean: tuple[float, ...], std: tuple[float, ...]
) -> None:
    with pytest.raises(ModelError, match="a mean and a deviation other than 0"):
        Normalisation(mean, std)


def test_blue_comes_first_where_the_network_wants_it_so() -> None:
    pixels = some_pixels(2, 3, 5, 4)
    found = Normalisation(MEAN, STD, "bgr")(pixels)
    assert torch.equal(found, transforms.Normalize(MEAN, STD)(pixels[:, [2, 1, 0]]))
    assert not torch.equal(found, Normalisation(MEAN, STD)(pixels))


def test_gradients_come_back_red_first() -> None:
    pixels = some_pixels(1, 3, 4, 4).requires_grad_()
    seen_by_network = Normalisation((0.0,) * 3, (0.5, 0.25, 0.125), "bgr")(pixels)
    blue = seen_by_network[:, 0].sum()
    (gradient,) = torch.autograd.grad(blue, pixels)
    assert gradient[0, :, 0, 0].tolist() == [0, 0, 2]


def test_whole_numbers_are_rounded_and_end_the_gradient() -> None:
    pixels = torch.tensor([0.0, 0.4 / 255, 0.51, 1.0, 1.2]).view(1, 1, 1, 5).requires_grad_()
    found = Normalisation((0.0,), (1 / 255,), numbers="uint8")(pixels)
    assert (found.dtype, found.flatten().tolist()) == (torch.uint8, [0, 0, 130, 255, 255])
    assert not found.requires_grad


def test_what_was_made_in_inference_mode_does_not_end_gradients_later() -> None:
    normalisation = Normalisation((0.31,), (0.17,))
    with torch.inference_mode():
        normalisation(torch.rand(1, 2, 2))
    leaf = torch.rand(1, 2, 2, requires_grad=True)
    assert torch.autograd.grad(normalisation(leaf).sum(), leaf)[0].isfinite().all()


def test_it_is_made_of_a_preprocessing() -> None:
    given = Preprocessing(
        channels=3, resize=8, crop=(8, 8), mean=MEAN, std=STD, channel_order="bgr", numbers="uint8"
    )
    assert normalisation_of(given) == Normalisation(MEAN, STD, "bgr", "uint8")
