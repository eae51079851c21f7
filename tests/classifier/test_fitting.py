"""What differs between a state dict and a network is found and said."""

from __future__ import annotations

from collections import OrderedDict

import pytest
import torch
from factories import SmallNet
from torch import nn

from reportgen.classifier.fitting import Misfit, compare, likeness, load_weights, shapes_of
from reportgen.errors import ModelError


def weights(network: nn.Module) -> OrderedDict[str, torch.Tensor]:
    return OrderedDict((k, v.clone()) for k, v in network.state_dict().items())


def test_counters_and_other_objects_have_no_shape() -> None:
    given = {"a.weight": torch.ones(2, 3), "a.num_batches_tracked": torch.tensor(1)}
    assert shapes_of(given) == {"a.weight": (2, 3)}


def test_equal_shapes_fit() -> None:
    misfit = compare({"a": (2, 3)}, {"a": (2, 3)})
    assert not misfit
    assert str(misfit) == ""


def test_each_difference_is_found() -> None:
    misfit = compare({"a": (1,), "b": (2, 3), "c": (4,)}, {"b": (2, 4), "c": (4,), "d": (5,)})
    assert misfit == Misfit(("a",), ("d",), (("b", (2, 4), (2, 3)),))
    assert str(misfit) == (
        "1 of its tensors missing from the file (a), 1 in the file that it does not have (d), "
        "1 of another shape (b is 2x4, not 2x3)"
    )


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"a": (1,), "b": (2,)}, 1),
        ({"a": (1,), "b": (3,)}, 0.75),
        ({"a": (1,)}, 0.5),
        ({"a": (1,), "b": (2,), "c": (3,), "d": (4,)}, 0.5),
        ({"c": (1,)}, 0),
    ],
)
def test_likeness_is_the_share_of_equal_tensors(
    given: dict[str, tuple[int, ...]], expected: float
) -> None:
    assert likeness({"a": (1,), "b": (2,)}, given) == expected


def test_few_of_many_differences_are_shown() -> None:
    assert str(compare({f"k{i}": (1,) for i in range(9)}, {})) == (
        "9 of its tensors missing from the file (k0, k1, k2, ...)"
    )


def test_a_single_number_is_called_so() -> None:
    assert "b is a single number, not 2" in str(compare({"b": (2,)}, {"b": ()}))


@pytest.mark.parametrize("assign", [False, True])
def test_weights_arrive(assign: bool) -> None:
    given, network = weights(SmallNet()), SmallNet()
    load_weights(network, given, assign=assign)
    assert all(torch.equal(network.state_dict()[key], value) for key, value in given.items())
    assert (network.fc.weight.data_ptr() == given["fc.weight"].data_ptr()) is assign


def test_counters_may_be_missing_even_where_the_file_has_their_version() -> None:
    given = SmallNet().state_dict()
    del given["norm.num_batches_tracked"]
    network = SmallNet()
    with pytest.raises(RuntimeError):
        network.load_state_dict(given)
    load_weights(network, given)
    assert torch.equal(network.conv.weight, given["conv.weight"])


def test_a_missing_tensor_is_refused() -> None:
    given = weights(SmallNet())
    del given["fc.bias"]
    with pytest.raises(ModelError, match=r"^1 of its tensors missing from the file \(fc\.bias\)$"):
        load_weights(SmallNet(), given)


def test_an_extra_tensor_is_refused() -> None:
    given = weights(SmallNet())
    given["more"] = torch.ones(1)
    with pytest.raises(ModelError, match=r"^1 in the file that it does not have \(more\)$"):
        load_weights(SmallNet(), given)


def test_another_shape_is_refused() -> None:
    with pytest.raises(ModelError, match=r"2 of another shape .fc.weight is 7x8, not 5x8"):
        load_weights(SmallNet(5), weights(SmallNet(7)))


class Refuses(nn.Linear):
    """Refuses every state dict, as a network of a newer version might."""

    def _load_from_state_dict(self, *arguments: object) -> None:
        raise ValueError("version should be 2")


def test_a_refusal_by_the_network_itself_is_passed_on() -> None:
    network = Refuses(2, 2)
    with pytest.raises(ModelError, match=r"^version should be 2$"):
        load_weights(network, weights(network))
