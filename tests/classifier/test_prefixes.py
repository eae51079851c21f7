"""The names that tensors had before a network was wrapped and trained are found again."""

from __future__ import annotations

from collections import OrderedDict

import pytest
import torch
from factories import SmallNet
from torch import Tensor

from reportgen.classifier.fitting import StateDict
from reportgen.classifier.prefixes import (
    Variant,
    is_average,
    prefix_variants,
    top_names,
    under,
)


def state() -> StateDict:
    return OrderedDict(SmallNet().state_dict())


def prefixed(prefix: str, given: StateDict) -> StateDict:
    return OrderedDict((prefix + key, value) for key, value in given.items())


def same(one: StateDict, other: StateDict) -> bool:
    return list(one) == list(other) and all(torch.equal(one[key], other[key]) for key in one)


def reading(given: StateDict, names: StateDict) -> Variant:
    """Return the first variant that has the names of a network."""
    return next(v for v in prefix_variants(given, ["fc"]) if set(v.tensors) == set(names))


def test_the_names_as_they_are_come_first() -> None:
    given = prefixed("model.", state())
    assert same(next(iter(prefix_variants(given))).tensors, given)


@pytest.mark.parametrize(
    "prefix",
    ["module.", "_orig_mod.", "model.", "net.", "encoder_1.", "module.model.net."],
)
def test_prefixes_come_off(prefix: str) -> None:
    given = state()
    variant = reading(prefixed(prefix, given), given)
    assert same(variant.tensors, given)
    assert variant.prefix.replace("_orig_mod.", prefix) in (prefix, "")
    assert not variant.others


@pytest.mark.parametrize(
    "wrapper", ["_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module."]
)
def test_wrappers_inside_names_come_off(wrapper: str) -> None:
    given = state()
    inside = OrderedDict(
        (f"model.{wrapper}{k}".replace("fc.", f"fc.{wrapper}"), given[k]) for k in given
    )
    assert same(reading(inside, given).tensors, given)


def test_an_average_of_models_loads_without_its_counter() -> None:
    network = SmallNet()
    averaged = torch.optim.swa_utils.AveragedModel(network)
    wanted = OrderedDict(network.state_dict())
    variant = reading(OrderedDict(averaged.state_dict()), wanted)
    assert same(variant.tensors, wanted)
    assert not variant.others


def test_what_lies_beside_a_prefix_is_kept_apart() -> None:
    given = state()
    extra = {"criterion.weight": torch.ones(5), "val_confmat.confmat": torch.ones(9, 9)}
    variant = reading(OrderedDict({**prefixed("model.", given), **extra}), given)
    assert list(variant.others) == list(extra)
    assert variant.strange() == ()


@pytest.mark.parametrize(
    ("key", "shape", "strange"),
    [
        ("classifier.weight", (5, 10), True),
        ("projection.0.weight", (8, 8), True),
        ("teacher.fc.weight", (5, 10), False),
        ("model_ema.fc.weight", (5, 10), False),
        ("loss_fn.net.weight", (5, 10), False),
        ("train_acc.total", (1, 20), False),
        ("face.weight", (5, 10), True),
        ("class_weights", (100,), False),
        ("normalize.mean", (1, 3, 1, 1), False),
    ],
)
def test_a_matrix_left_out_is_strange_unless_its_name_explains_it(
    key: str, shape: tuple[int, ...], strange: bool
) -> None:
    variant = Variant(state(), "model.", {key: torch.ones(shape)})
    assert variant.strange() == ((key,) if strange else ())


def test_an_average_comes_before_and_a_teacher_after_the_network() -> None:
    given: dict[str, Tensor] = {}
    for name in ("teacher", "model", "model_ema"):
        given |= prefixed(f"{name}.", state())
    assert top_names(OrderedDict(given)) == ("model_ema", "model", "teacher")


def test_a_small_part_is_no_prefix() -> None:
    given = OrderedDict({f"net.layer{i}.weight": torch.ones(1) for i in range(99)})
    given["loss.weight"] = torch.ones(1)
    assert top_names(given) == ("net",)


@pytest.mark.parametrize("place", ["head", "classifier", "head.fc", "head.1", "fc"])
@pytest.mark.parametrize("outer", ["", "model."])
def test_a_backbone_and_its_head_come_together(place: str, outer: str) -> None:
    given = state()
    parts = OrderedDict(
        (
            f"{outer}{key.replace('fc.', f'{place}.') if 'fc' in key else f'backbone.{key}'}",
            given[key],
        )
        for key in given
    )
    variant = reading(parts, given)
    assert torch.equal(variant.tensors["fc.weight"], given["fc.weight"])
    assert variant.head == f"{outer}{place}"
    assert not variant.others


def test_a_head_of_two_layers_is_not_taken_for_one() -> None:
    parts = OrderedDict({"backbone.conv.weight": torch.ones(2, 2, 1, 1)})
    parts |= {"head.0.weight": torch.ones(2, 2), "head.2.weight": torch.ones(2, 2)}
    assert not any(variant.head for variant in prefix_variants(parts, ["fc"]))


def test_versions_follow_the_names() -> None:
    network = torch.nn.Sequential(OrderedDict(model=SmallNet()))
    saved = network.state_dict()
    assert "model.norm" in saved._metadata
    chosen = under(saved, "model.")
    assert chosen._metadata == SmallNet().state_dict()._metadata


@pytest.mark.parametrize("name", ["model_ema", "EMA", "callbacks.x.ema_state_dict", "averaged"])
def test_averages_are_told_by_their_names(name: str) -> None:
    assert is_average(name)


@pytest.mark.parametrize("name", ["model", "schema", "emak", "state_dict", "tema_x"])
def test_other_names_are_no_averages(name: str) -> None:
    assert not is_average(name)
