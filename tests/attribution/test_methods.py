"""One contract for every attribution method."""

from __future__ import annotations

import random
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from attending import explained_by
from torch import nn
from toys import (
    Constant,
    Fixed,
    OnlyBatchesOf,
    classified,
    pictures,
    request,
    seeded,
)

from reportgen.attribution import METHODS
from reportgen.attribution.base import Request
from reportgen.classifier.classifier import Classifier
from reportgen.config import Config
from reportgen.errors import NotApplicable

FAST = Config(
    lime_samples=30,
    shap_evals=30,
    ig_steps=3,
    smoothgrad_draws=3,
    gradient_shap_draws=4,
    occlusion_cells=4,
    rise_masks=30,
    device="cpu",
)
SHAPES = {"colour": (3, 16, 16), "grey": (1, 16, 16), "wide": (3, 12, 20)}
WITHOUT_GRADIENTS = {"lime", "shap", "kernel-shap", "occlusion", "rise"}
WITHOUT_THE_SCORE = {"eigencam", "attention-rollout"}

every_method = pytest.mark.parametrize("method", METHODS)
every_shape = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)


def constant(method: str) -> nn.Module:
    """Return a network that the method can explain, and whose score depends on nothing."""
    if not method.startswith("attention"):
        return seeded(Constant)
    model = explained_by(method)
    nn.init.zeros_(model.fc.weight)
    return model


@pytest.fixture
def classifier(method: str, shape: tuple[int, int, int]) -> Iterator[Classifier]:
    with classified(explained_by(method, shape[0]), shape) as ready:
        yield ready


@pytest.fixture
def asked(classifier: Classifier, shape: tuple[int, int, int]) -> Request:
    return request(classifier, pictures(3, *shape), 1, FAST)


def alike(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.shape == b.shape and float((a - b).abs().max()) < 1e-5 * float(b.abs().max())


def test_the_comparison_can_fail() -> None:
    maps = torch.linspace(-1, 1, 12).reshape(3, 2, 2)
    assert not alike(maps, maps * (1 + 2e-5))
    assert not alike(maps, maps[:1])
    assert not alike(maps, maps.flip(0))


@every_method
@every_shape
def test_maps_are_finite_and_as_large_as_the_picture(method: str, asked: Request) -> None:
    found = METHODS[method].explain(asked)
    assert found.maps.shape == (3, *asked.pixels.shape[-2:])
    assert found.maps.dtype == torch.float32
    assert bool(found.maps.isfinite().all())
    assert bool(found.maps.any())
    assert found.signed or bool((found.maps >= 0).all())
    assert found.resolution
    assert found.settings


@every_method
@every_shape
def test_the_same_seed_gives_the_same_maps(method: str, asked: Request) -> None:
    first = METHODS[method].explain(asked)
    torch.rand(1)
    np.random.random()
    again = METHODS[method].explain(asked)
    assert torch.equal(first.maps, again.maps)
    assert first.checks == again.checks


@every_method
@every_shape
@pytest.mark.parametrize("baseline", ["black", "blur", "image-mean", "noise"])
def test_pictures_together_are_explained_as_each_alone(
    method: str, classifier: Classifier, shape: tuple[int, int, int], baseline: str
) -> None:
    fills = {"ig_baseline": baseline, "shap_fill": baseline, "lime_fill": baseline}
    config = FAST.model_copy(update=fills)
    pixels = pictures(3, *shape)
    together = METHODS[method].explain(request(classifier, pixels, 1, config)).maps
    alone = [
        METHODS[method].explain(request(classifier, row[None], 1, config)).maps for row in pixels
    ]
    assert alike(together, torch.cat(alone))
    assert not alike(together, torch.cat(alone).flip(0))


@every_method
@pytest.mark.parametrize("size", [1, 4])
def test_a_fixed_batch_changes_nothing(method: str, size: int) -> None:
    shape = SHAPES["colour"]
    pixels = pictures(3, *shape)
    # In float64: this network's effects are so small that float32's rounding would show.
    model = explained_by(method).double()
    with classified(model, shape) as classifier:
        expected = METHODS[method].explain(request(classifier, pixels, 1, FAST)).maps
    with classified(OnlyBatchesOf(model, size), shape, fixed_batch=size) as classifier:
        found = METHODS[method].explain(request(classifier, pixels, 1, FAST)).maps
    assert alike(found, expected)


@every_method
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_networks_of_other_precisions_are_explained(method: str, dtype: torch.dtype) -> None:
    with classified(explained_by(method).to(dtype), SHAPES["colour"]) as classifier:
        found = METHODS[method].explain(request(classifier, pictures(2), 2, FAST))
    assert found.maps.dtype == torch.float32
    assert bool(found.maps.isfinite().all())
    assert bool(found.maps.any())


def random_states() -> list[object]:
    name, keys, *rest = np.random.get_state()
    return [random.getstate(), torch.get_rng_state().tolist(), name, keys.tolist(), rest]


@every_method
@every_shape
def test_nothing_is_changed(method: str, asked: Request) -> None:
    model = asked.classifier.evaluator.network
    pixels, segments = asked.pixels.clone(), asked.segments.copy()
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    randomness = random_states()
    METHODS[method].explain(asked)
    assert random_states() == randomness
    assert torch.equal(asked.pixels, pixels)
    assert asked.pixels.grad is None
    assert not asked.pixels.requires_grad
    assert np.array_equal(asked.segments, segments)
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    assert not any(p.requires_grad or p.grad is not None for p in model.parameters())
    hooks = [(m._forward_hooks, m._forward_pre_hooks, m._backward_hooks) for m in model.modules()]
    assert not any(any(each) for each in hooks)


def test_the_comparison_of_random_states_can_fail() -> None:
    for draw in (random.random, np.random.random, lambda: torch.rand(1)):
        before = random_states()
        draw()
        assert random_states() != before


@every_method
def test_a_constant_model_is_explained_by_nothing(method: str) -> None:
    with classified(constant(method), SHAPES["colour"]) as classifier:
        found = METHODS[method].explain(request(classifier, pictures(2), 1, FAST))
    assert found.maps.shape == (2, 16, 16)
    if method in WITHOUT_THE_SCORE:
        assert bool(found.maps.any())  # it never looks at the score
        return
    assert not bool(found.maps.any())
    for check in found.checks:
        assert check.value in (None, 0)
        assert check.note


@every_method
def test_a_model_without_gradients_is_explained_or_refused_in_a_sentence(method: str) -> None:
    with classified(Fixed(torch.tensor([1.0, 2.0])), SHAPES["colour"]) as classifier:
        asked = request(classifier, pictures(2), 1, FAST)
        if method not in WITHOUT_GRADIENTS:
            with pytest.raises(NotApplicable, match="gradient"):
                METHODS[method].explain(asked)
        else:
            assert not bool(METHODS[method].explain(asked).maps.any())


@every_method
@pytest.mark.parametrize("shape", [SHAPES["colour"]])
def test_every_pass_is_counted(method: str, asked: Request) -> None:
    seen: list[int] = []
    model = asked.classifier.evaluator.network
    handle = model.register_forward_hook(lambda module, inputs, output: seen.append(len(output)))
    counter = asked.classifier.evaluator.counter
    before = (counter.forward, counter.backward)
    METHODS[method].explain(asked)
    handle.remove()
    assert counter.forward - before[0] == sum(seen)
    assert (counter.backward > before[1]) == (method not in WITHOUT_GRADIENTS)


@every_method
@pytest.mark.parametrize("shape", [SHAPES["colour"]])
def test_a_card_is_complete_and_its_self_check_is_made(method: str, asked: Request) -> None:
    card = METHODS[method].card
    assert card.key == method
    for field in ("title", "category", "definition", "paper", "needs", "seeding", "limits"):
        assert getattr(card, field).strip(), field
    checks = METHODS[method].explain(asked).checks
    assert bool(card.self_check) == bool(checks)
    for check in checks:
        assert check.subject == method
        assert check.value is not None
        assert np.isfinite(check.value)
    assert card.range[0] == (None if METHODS[method].explain(asked).signed else 0)


def test_keys_and_titles_are_unique() -> None:
    assert list(METHODS) == [method.card.key for method in METHODS.values()]
    assert len({method.card.title for method in METHODS.values()}) == len(METHODS) >= 5


def test_the_default_methods_exist() -> None:
    assert set(Config().methods.split(",")) <= set(METHODS)


@every_method
@pytest.mark.parametrize("shape", [SHAPES["colour"]])
def test_its_options_exist_and_its_granularity_is_known(method: str, asked: Request) -> None:
    assert set(METHODS[method].options) <= set(Config.model_fields)
    assert METHODS[method].card.granularity
