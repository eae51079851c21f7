"""The weights are found among what else a checkpoint holds, under their own names."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import pytest
import torch
from factories import SmallNet
from torch import Tensor, nn

from reportgen.classifier.fitting import StateDict, load_weights
from reportgen.classifier.state_dicts import find_weights, prefix_variants, torchvision_names
from reportgen.errors import ModelError

OPTIMISER = {"state": {0: {"momentum_buffer": torch.ones(2, 2)}}, "param_groups": [{"lr": 0.1}]}


def state() -> StateDict:
    return OrderedDict(SmallNet().state_dict())


def same(one: StateDict, other: StateDict) -> bool:
    return list(one) == list(other) and all(torch.equal(one[key], other[key]) for key in one)


def test_sameness_sees_a_changed_value_and_a_changed_name() -> None:
    given = state()
    assert same(given, OrderedDict(given))
    assert not same(given, OrderedDict({**given, "fc.bias": given["fc.bias"] + 1}))
    assert not same(given, OrderedDict({f"a.{key}": value for key, value in given.items()}))


def test_a_plain_state_dict_is_taken_as_it_is() -> None:
    given = state()
    found = find_weights(given, "m.pt")
    assert same(found.tensors, given)
    assert found.notes == ()
    assert found.origin == "m.pt"


@pytest.mark.parametrize(
    "name", ["state_dict", "model_state_dict", "model", "net", "weights", "ema"]
)
def test_nested_weights_are_found_beside_other_things(name: str) -> None:
    given = state()
    content = {"epoch": 3, "best": torch.tensor(0.9), "optimizer": OPTIMISER, name: given}
    found = find_weights(content, "m.pt")
    assert same(found.tensors, given)
    assert found.notes == (f"The weights were read from the entry '{name}' of the file.",)


def test_the_weights_come_before_their_average() -> None:
    given, averaged = state(), state()
    found = find_weights({"model_ema": averaged, "state_dict": given}, "m.pt")
    assert same(found.tensors, given)
    assert not same(found.tensors, averaged)


def test_plain_values_beside_the_tensors_are_left_out() -> None:
    given = state()
    assert same(find_weights({**given, "epoch": 3, "name": "net"}, "m.pt").tensors, given)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floats_become_float32_and_that_is_noted(dtype: torch.dtype) -> None:
    given = OrderedDict(SmallNet().to(dtype).state_dict())
    found = find_weights(given, "m.pt")
    name = str(dtype).removeprefix("torch.")
    assert found.notes == (f"Weights in {name} were converted to float32.",)
    assert torch.equal(found.tensors["fc.weight"], given["fc.weight"].float())
    assert {t.dtype for t in found.tensors.values()} == {torch.float32, torch.int64}
    assert given["fc.weight"].dtype == dtype


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        ({}, "an empty dictionary"),
        ({"epoch": 3, "loss": torch.tensor(0.1)}, r"a dictionary \('epoch', 'loss'\)"),
        (torch.ones(3, 3), "an object of type Tensor"),
        ([1, 2], "an object of type list"),
    ],
)
def test_a_file_without_weights_is_refused(content: Any, kind: str) -> None:
    with pytest.raises(ModelError, match=f"'m.pt' holds {kind} without weights"):
        find_weights(content, "m.pt")


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model.", "_orig_mod.module."])
def test_prefixes_of_wrappers_come_off(prefix: str) -> None:
    given = state()
    wrapped = OrderedDict((prefix + key, value) for key, value in given.items())
    variants = list(prefix_variants(wrapped))
    assert same(variants[0], wrapped)
    assert same(variants[-1], given)
    assert next(iter(wrapped)) == prefix + "conv.weight"


def test_a_prefix_that_some_tensors_lack_stays() -> None:
    given = OrderedDict({"module.fc.weight": torch.ones(2, 2), "fc.weight": torch.ones(2, 2)})
    assert [list(variant) for variant in prefix_variants(given)] == [list(given)]


def test_an_average_of_models_loads_without_its_counter() -> None:
    network = SmallNet()
    averaged = torch.optim.swa_utils.AveragedModel(network)
    *_, last = prefix_variants(OrderedDict(averaged.state_dict()))
    assert same(last, OrderedDict(network.state_dict()))


class Versioned(nn.Linear):
    """Loads only what was saved with its version."""

    _version = 2

    def _load_from_state_dict(self, state: Any, prefix: str, metadata: Any, *rest: Any) -> None:
        if metadata.get("version") != 2:
            raise ValueError("not of version 2")
        super()._load_from_state_dict(state, prefix, metadata, *rest)


def test_versions_survive_finding_and_unwrapping() -> None:
    saved = nn.DataParallel(nn.Sequential(Versioned(2, 2)))
    *_, weights = prefix_variants(find_weights(saved.state_dict(), "m.pt").tensors)
    load_weights(nn.Sequential(Versioned(2, 2)), weights)
    del weights._metadata
    with pytest.raises(ModelError, match="not of version 2"):
        load_weights(nn.Sequential(Versioned(2, 2)), weights)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (
            "features.denseblock1.denselayer2.norm.1.running_var",
            "features.denseblock1.denselayer2.norm1.running_var",
        ),
        (
            "features.denseblock1.denselayer2.conv.2.weight",
            "features.denseblock1.denselayer2.conv2.weight",
        ),
        (
            "encoder.layers.encoder_layer_0.mlp.linear_1.weight",
            "encoder.layers.encoder_layer_0.mlp.0.weight",
        ),
        (
            "encoder.layers.encoder_layer_11.mlp.linear_2.bias",
            "encoder.layers.encoder_layer_11.mlp.3.bias",
        ),
        ("features.norm5.weight", "features.norm5.weight"),
    ],
)
def test_old_names_of_torchvision_become_todays(old: str, new: str) -> None:
    tensors: OrderedDict[str, Tensor] = OrderedDict({old: torch.ones(2, 2)})
    renamed, notes = torchvision_names(tensors)
    assert list(renamed) == [new]
    assert notes == ()


def test_auxiliary_heads_are_left_out_and_that_is_noted() -> None:
    names = ["fc.weight", "AuxLogits.fc.weight", "aux1.fc1.bias", "aux2.conv.bn.weight"]
    renamed, notes = torchvision_names(OrderedDict((name, torch.ones(2)) for name in names))
    assert list(renamed) == ["fc.weight"]
    assert len(notes) == 1
    assert "auxiliary heads" in notes[0]
