"""The weights are found among what else a checkpoint holds, under their own names."""

from __future__ import annotations

import warnings
from collections import OrderedDict
from typing import Any

import numpy as np
import pytest
import torch
from factories import SmallNet
from torch import Tensor, nn

from reportgen.classifier.fitting import StateDict, load_weights
from reportgen.classifier.harmless import UnreadArray
from reportgen.classifier.prefixes import prefix_variants
from reportgen.classifier.state_dicts import find_weights, in_float32, torchvision_names
from reportgen.errors import ModelError, UsageError

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
    (found,) = find_weights(given, "m.pt")
    assert same(found.tensors, given)
    assert found.notes == ()
    assert found.origin == "m.pt"


@pytest.mark.parametrize(
    "name", ["state_dict", "model_state_dict", "model", "net", "weights", "mine"]
)
def test_nested_weights_are_found_beside_other_things(name: str) -> None:
    given = state()
    content = {"epoch": 3, "best": torch.tensor(0.9), "optimizer": OPTIMISER, name: given}
    (found,) = find_weights(content, "m.pt")
    assert same(found.tensors, given)
    assert found.notes == (f"The weights were read from the entry '{name}' of the file.",)


AVERAGES = ["ema", "model_ema", "state_dict_ema", "ema_state_dict", "ema_model", "swa_state_dict"]


@pytest.mark.parametrize("average", AVERAGES)
@pytest.mark.parametrize("plain", ["state_dict", "model"])
def test_an_average_comes_before_the_weights_and_both_are_named(average: str, plain: str) -> None:
    given, averaged = state(), state()
    first, second = find_weights({plain: given, average: averaged}, "m.pt")
    assert same(first.tensors, averaged)
    assert same(second.tensors, given)
    assert not same(first.tensors, given)
    assert first.notes == (
        f"The weights were read from the entry '{average}' of the file, by its name an average "
        f"over training; --weights can name another ('{plain}').",
    )


@pytest.mark.parametrize("name", ["schema", "semantic", "swamp"])
def test_a_word_that_only_holds_the_letters_is_no_average(name: str) -> None:
    first, _ = find_weights({"model": state(), name: state()}, "m.pt")
    assert first.notes[0].startswith("The weights were read from the entry 'model' of the file;")


def test_an_average_kept_by_a_callback_of_lightning_is_found() -> None:
    averaged = state()
    callbacks = {"EMA{'decay': 0.99}": {"ema_state_dict": averaged}}
    first, _ = find_weights({"state_dict": state(), "callbacks": callbacks}, "m.ckpt")
    assert same(first.tensors, averaged)


def test_the_weights_come_before_those_that_lightning_averages() -> None:
    averaged, current = state(), state()
    content = {"current_model_state": current, "state_dict": averaged, "averaging_state": {}}
    assert same(find_weights(content, "m.ckpt")[0].tensors, averaged)


def test_an_optimiser_larger_than_the_network_is_no_weights() -> None:
    moments = {f"layer{i}.weight": torch.ones(3, 3) for i in range(99)}
    content = {"optimizer_state": moments, "lr_scheduler": moments, "amp": moments, "x": state()}
    assert [len(found.tensors) for found in find_weights(content, "m.pt")] == [len(state())]


@pytest.mark.parametrize("kind", [list, tuple])
def test_weights_in_a_list_are_found(kind: type) -> None:
    given = state()
    (found,) = find_weights(kind((given, 3)), "m.pt")
    assert same(found.tensors, given)
    assert found.notes == ("The weights were read from the entry '0' of the file.",)


def test_an_entry_may_be_named() -> None:
    given, averaged = state(), state()
    content = {"model": given, "model_ema": averaged}
    (found,) = find_weights(content, "m.pt", "model")
    assert found.wanted
    assert same(found.tensors, given)
    assert found.notes == ("The weights were read from 'model' of the file, as --weights says.",)


def test_a_prefix_may_be_named() -> None:
    given = state()
    both = {f"student.{k}": v for k, v in given.items()} | {
        f"teacher.{k}": v for k, v in given.items()
    }
    (found,) = find_weights({"state_dict": both}, "m.pt", "teacher")
    assert same(found.tensors, given)


def test_an_unknown_entry_lists_those_there_are() -> None:
    content = {"model": {f"student.{k}": v for k, v in state().items()}, "model_ema": state()}
    with pytest.raises(UsageError) as caught:
        find_weights(content, "m.pt", "ema")
    assert str(caught.value) == (
        "Unknown entry of weights in 'm.pt': 'ema'; the known ones are: model_ema, model, student."
    )


def test_plain_values_beside_the_tensors_are_left_out() -> None:
    given = state()
    assert same(find_weights({**given, "epoch": 3, "name": "net"}, "m.pt")[0].tensors, given)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floats_become_float32_and_that_is_noted(dtype: torch.dtype) -> None:
    given = OrderedDict(SmallNet().to(dtype).state_dict())
    tensors, notes = in_float32(given)
    name = str(dtype).removeprefix("torch.")
    assert notes == (f"Weights in {name} were converted to float32.",)
    assert torch.equal(tensors["fc.weight"], given["fc.weight"].float())
    assert {t.dtype for t in tensors.values()} == {torch.float32, torch.int64}
    assert given["fc.weight"].dtype == dtype
    assert in_float32(tensors)[1] == ()


def quantised() -> list[StateDict]:
    network = nn.Sequential(nn.Linear(4, 4))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dynamic = torch.ao.quantization.quantize_dynamic(network, {nn.Linear}).state_dict()
        static = torch.quantize_per_tensor(torch.ones(4, 4), 0.1, 0, torch.qint8)
    return [dynamic, OrderedDict(w=static), OrderedDict({"a.weight": torch.ones(4, 4).byte()})]


@pytest.mark.parametrize("kind", range(3))
def test_quantised_weights_are_refused(kind: int) -> None:
    with pytest.raises(ModelError, match=r"^'m.pt' holds quantised weights, .*before its quant"):
        find_weights({"state_dict": quantised()[kind]}, "m.pt")


def test_other_integers_are_no_quantised_weights() -> None:
    given = OrderedDict({**state(), "position_index": torch.ones(4, 4, dtype=torch.uint8)})
    assert len(find_weights(given, "m.pt")) == 1


@pytest.mark.parametrize("array", [np.ones((3, 3)), UnreadArray()])
def test_arrays_in_place_of_tensors_are_refused(array: object) -> None:
    with pytest.raises(ModelError, match=r"holds a dictionary \('fc.weight'\) of NumPy arrays, wh"):
        find_weights({"fc.weight": array}, "m.pt")


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


class Versioned(nn.Linear):
    """Loads only what was saved with its version."""

    _version = 2

    def _load_from_state_dict(self, state: Any, prefix: str, metadata: Any, *rest: Any) -> None:
        if metadata.get("version") != 2:
            raise ValueError("not of version 2")
        super()._load_from_state_dict(state, prefix, metadata, *rest)


def test_versions_survive_finding_and_unwrapping() -> None:
    saved = nn.DataParallel(nn.Sequential(Versioned(2, 2)))
    (found,) = find_weights(saved.state_dict(), "m.pt")
    _, variant, *_ = prefix_variants(found.tensors)
    weights, _ = in_float32(variant.tensors)
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
