"""What passes keep for gradients: nothing, or no more than there is memory for."""

from __future__ import annotations

import gc
from functools import partial
from weakref import ref

import pytest
import torch
from factories import SmallNet
from torch import Tensor, nn

from reportgen.classifier.classifier import classifier_from
from reportgen.classifier.kept_tensors import nothing_kept, room_to_keep
from reportgen.classifier.memory import peak_memory
from reportgen.classifier.metadata import Hints
from reportgen.classifier.opened import Opened
from reportgen.config import Config
from reportgen.preflight import fitted

CPU = torch.device("cpu")
SIDE, CHANNELS = 64, 8
PICTURES = torch.rand(1, CHANNELS, SIDE, SIDE)
ONE = 4 * CHANNELS * SIDE * SIDE
LAYERS = 5


def chain(x: Tensor) -> Tensor:
    """Each exponential keeps its result."""
    x = x * 1
    for _ in range(LAYERS):
        x = (-x).exp()
    return x


def test_nothing_is_kept_and_the_operations_are_known() -> None:
    leaf = PICTURES.clone().requires_grad_()
    plain = peak_memory(lambda: chain(leaf), CPU)
    with nothing_kept():
        output = chain(leaf)
        least = peak_memory(lambda: chain(leaf), CPU)
    assert output.grad_fn is not None
    assert plain >= LAYERS * ONE
    assert least < 4 * ONE
    with pytest.raises(RuntimeError, match="nothing was kept"):
        output.sum().backward()


@pytest.mark.parametrize(("available", "fits"), [(7.0, True), (6.0, False)])
def test_a_pass_that_keeps_more_than_three_quarters_is_stopped(
    available: float, fits: bool
) -> None:
    # What five exponentials keep is more than three quarters of six times as much, not of seven.
    leaf = PICTURES.clone().requires_grad_()
    with room_to_keep(CPU, lambda device: int(available * ONE)):
        if not fits:
            with pytest.raises(MemoryError):
                chain(leaf)
            return
        found = torch.autograd.grad(chain(leaf).sum(), leaf)[0]
    assert torch.equal(found, torch.autograd.grad(chain(leaf).sum(), leaf)[0])


def test_what_was_kept_is_freed_with_the_output() -> None:
    leaf = PICTURES.clone().requires_grad_()
    gc.disable()
    try:
        with room_to_keep(CPU, lambda device: 100 * ONE):
            output = chain(leaf)
        gone = ref(output)
        del output
        assert gone() is None
    finally:
        gc.enable()


def test_weights_are_not_counted() -> None:
    layer = nn.Linear(1000, 1000)
    with room_to_keep(CPU, lambda device: 20_000):
        layer(torch.rand(1, 1000).requires_grad_() * 1)


@pytest.mark.parametrize(("pictures", "told"), [(2.5, False), (1.5, False), (0.5, True)])
def test_where_gradients_of_one_picture_do_not_fit_a_sentence_says_so(
    monkeypatch: pytest.MonkeyPatch, pictures: float, told: bool
) -> None:
    opened = Opened(SmallNet().eval(), "", "module", "")
    with classifier_from(opened, Hints(), Config(device="cpu", size="32")) as classifier:
        height, width = classifier.record.preprocessing.crop
        one = peak_memory(
            lambda: classifier.evaluator.raw(torch.rand(1, 3, height, width).requires_grad_()), CPU
        )
        room = partial(room_to_keep, available=lambda device: int(pictures * one / 0.75))
        monkeypatch.setattr("reportgen.preflight.room_to_keep", room)
        found = fitted(classifier, Config(device="cpu"))
    assert found.footprint is not None
    said = found.record.predictions_only
    assert bool(said) == told
    if told:
        assert "a pass with gradients of 1 picture(s)" in said
        assert "more memory than there is; use a smaller --size" in said
