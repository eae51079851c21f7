"""Outputs: the class scores are found in whatever a network returns, or the entries are named."""

from __future__ import annotations

import warnings
from collections import OrderedDict, namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from toys import Normalised, as_opened, exported, hints, pictures, request, seeded

from reportgen.attribution import METHODS
from reportgen.classifier.classifier import Classifier, classifier_from
from reportgen.classifier.evaluator import Copies
from reportgen.classifier.outputs import Reader, Wish, class_outputs, find_reader
from reportgen.config import Config
from reportgen.errors import ModelError, UsageError

SHAPE = (3, 16, 16)
Pair = namedtuple("Pair", "logits aux")
Wrap = Callable[[Tensor, Tensor, Tensor], object]


@dataclass
class Answer:
    """What the networks of some libraries return."""

    hidden: tuple[Tensor, ...]
    prediction: Tensor


class Returning(nn.Module):
    """A network that wraps its class scores, pooled features (n, 6) and feature map."""

    def __init__(self, wrap: Wrap) -> None:
        super().__init__()
        self.inner = Normalised()
        self.wrap = wrap

    def forward(self, x: Tensor) -> object:
        found = self.inner.features(x)
        pooled = found.mean((2, 3))
        return self.wrap(self.inner.classifier(pooled), pooled, found)


WRAPPED: dict[str, tuple[Wrap, str]] = {
    "tuple": (lambda z, p, m: (z, z * 2), "0"),
    "list": (lambda z, p, m: [z, m], "0"),
    "features first": (lambda z, p, m: (p, z), "1"),
    "map first": (lambda z, p, m: (m, z), "1"),
    "dict": (lambda z, p, m: {"features": p, "logits": z}, "logits"),
    "ordered": (lambda z, p, m: OrderedDict(aux=2 * z, out=z), "out"),
    "one of its shape": (lambda z, p, m: {"map": m, "odd name": z, "loss": z.sum()}, "odd name"),
    "class numbers": (lambda z, p, m: {"classes": z.argmax(1), "y": z}, "y"),
    "named tuple": (lambda z, p, m: Pair(z, 3 * z), "logits"),
    "dataclass": (lambda z, p, m: Answer((p, m), z), "prediction"),
    "object": (lambda z, p, m: SimpleNamespace(pooled=p, Logits=z), "Logits"),
    "nested": (lambda z, p, m: {"heads": [z, 2 * z], "map": m}, "heads.0"),
}
WRAPS = {kind: wrap for kind, (wrap, _) in WRAPPED.items()}


def ready(network: nn.Module, pixels: Tensor, **options: Any) -> tuple[Classifier, Tensor]:
    with classifier_from(as_opened(network), hints(SHAPE), Config(**options)) as found:
        return found, found.probabilities(pixels)


@pytest.mark.parametrize("kind", WRAPPED)
def test_the_scores_are_found_and_the_report_says_where(kind: str) -> None:
    pixels = pictures(3)
    plain, expected = ready(seeded(Normalised), pixels)
    wrap, name = WRAPPED[kind]
    found, values = ready(wrapping(wrap), pixels)
    assert torch.allclose(values, expected, atol=1e-6)
    (note,) = found.record.notes
    assert note.startswith(f"Class scores are the entry '{name}' of ")
    assert plain.record.notes == ()


def wrapping(wrap: Wrap) -> nn.Module:
    network = seeded(lambda: Returning(wrap))
    network.inner = seeded(Normalised)
    return network


@pytest.mark.parametrize("kind", ["tuple", "dict", "dataclass"])
def test_folding_takes_the_scores_alone(kind: str) -> None:
    found, values = ready(wrapping(WRAPS[kind]), pictures(3))
    assert found.evaluator.copies.folded is not None
    found.evaluator.copies = Copies()
    again = found.probabilities(pictures(3))
    assert torch.allclose(values, again, atol=1e-4)
    assert not torch.equal(values, again)


def traced(network: nn.Module, shape: tuple[int, int, int]) -> nn.Module:
    """Return a TorchScript trace, which gives a dictionary where it is allowed to."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return torch.jit.trace(network, torch.rand(1, *shape), strict=False)


@pytest.mark.parametrize("form", [traced, exported])
@pytest.mark.parametrize("kind", ["tuple", "dict"])
def test_programs_may_return_several_too(form: Callable[..., nn.Module], kind: str) -> None:
    pixels = pictures(3)
    _, expected = ready(seeded(Normalised), pixels)
    network = form(wrapping(WRAPS[kind]), SHAPE)
    found, values = ready(network, pixels)
    assert torch.allclose(values, expected, atol=1e-5)
    assert "entry" in found.record.notes[0]


FAST = {"lime_samples": 30, "shap_evals": 30, "rise_masks": 20, "occlusion_cells": 4}


# Attention methods do not apply to this network.
@pytest.mark.parametrize("method", [m for m in METHODS if not m.startswith("attention")])
def test_every_method_gives_the_plain_networks_map(method: str) -> None:
    # A linear layer that the features are read from, a dictionary: the same map by each method.
    pixels = pictures(2)
    maps = []
    for network in (seeded(Normalised), wrapping(WRAPS["dict"]), wrapping(WRAPS["dataclass"])):
        config = Config(device="cpu", **FAST)
        with classifier_from(as_opened(network), hints(SHAPE), config) as classifier:
            explained = METHODS[method].explain(request(classifier, pixels, 1, config))
            maps.append(explained.maps)
    assert maps[0].abs().max() > 0
    for other in maps[1:]:
        assert torch.allclose(maps[0], other, atol=1e-4 * float(maps[0].abs().max()))


@pytest.mark.parametrize(("output", "factor"), [("aux", 2), ("1", 2), ("main", 1), ("0", 1)])
def test_the_option_chooses_by_name_or_number(output: str, factor: int) -> None:
    network = wrapping(lambda z, p, m: OrderedDict(main=z, aux=2 * z))
    found, _ = ready(network, pictures(1), output=output)
    raw = found.evaluator.raw(pictures(2))
    assert torch.allclose(raw, factor * seeded(Normalised)(pictures(2)), atol=1e-5)
    assert found.record.notes[0].endswith("of 2 outputs (chosen by option).")


def test_labels_tell_two_heads_apart() -> None:
    network = wrapping(lambda z, p, m: {"coarse": z[:, :2], "fine": z})
    given = hints(SHAPE, labels=("a", "b", "c"))
    with classifier_from(as_opened(network), given, Config()) as found:
        assert "'fine'" in found.record.notes[0]
    with pytest.raises(
        ModelError,
        match=r"^The model returns 'coarse' of shape \(2, 2\), 'fine' of shape \(2, 3\), and more "
        "than one of them can be the class scores; name theirs with --output",
    ):
        ready(network, pictures(1))


@pytest.mark.parametrize(
    ("output", "error", "sentence"),
    [
        ({"map": torch.zeros(2, 4, 7, 7)}, ModelError, r"none of its.*: 'map' of shape \(2, 4"),
        ({"n": torch.zeros(2, 3).long()}, ModelError, r"'n' of shape \(2, 3\) \(int64\)"),
        ({"a": 1, "b": None}, ModelError, "returned a dict with the keys a, b without a tensor"),
        ((), ModelError, "returned a tuple of 0 items without a tensor"),
        (None, ModelError, "returned a NoneType without a tensor"),
    ],
)  # fmt: skip
def test_what_holds_no_scores_is_named_in_a_sentence(
    output: object, error: type[Exception], sentence: str
) -> None:
    with pytest.raises(error, match=sentence):
        find_reader(output, 2, nn.Identity(), Wish())


@pytest.mark.parametrize("name", ["c", "2", "map"])
def test_an_output_that_is_not_there_lists_what_is(name: str) -> None:
    output = {"a": torch.zeros(2, 3), "map": torch.zeros(2, 3, 7, 7)}
    with pytest.raises(
        UsageError, match=rf"output '{name}' is no tensor.*returns 'a' of shape \(2,"
    ):
        find_reader(output, 2, nn.Identity(), Wish(name))


def test_one_tensor_has_no_entries() -> None:
    assert find_reader(torch.zeros(2, 3), 2, nn.Identity(), Wish("0")).steps == ()
    with pytest.raises(UsageError, match="no output 'logits': the model returns one tensor"):
        find_reader(torch.zeros(2, 3), 2, nn.Identity(), Wish("logits"))


def test_features_are_told_by_the_layer_that_reads_them_and_nothing_else() -> None:
    layer, features = nn.Linear(4, 3), torch.rand(2, 4)
    output = (features, layer(features))
    assert find_reader(output, 2, layer, Wish()).steps == (1,)
    with pytest.raises(ModelError, match="more than one"):
        find_reader((features, layer(features).relu() * 2), 2, layer, Wish())


def test_squeezed_single_logit_is_understood_at_every_batch_size() -> None:
    assert class_outputs(torch.tensor(-6.64), 1).shape == (1, 1)
    assert class_outputs(torch.tensor([1.0, 2.0]), 2).tolist() == [[1.0], [2.0]]


def test_scores_with_places_of_one_pixel_are_flattened() -> None:
    assert class_outputs(torch.zeros(2, 3, 1, 1), 2).shape == (2, 3)


@pytest.mark.parametrize(
    ("output", "sentence"),
    [
        (torch.zeros(1, 8, 7, 7), r"returned shape \(1, 8, 7, 7\): a feature map"),
        (torch.zeros(2, 3), r"shape \(1, classes\), but it returned shape \(2, 3\)"),
        (torch.zeros(3), r"but it returned shape \(3,\)"),
        ({"a": 1}, "returned a dict with the keys a"),
    ],
)
def test_other_shapes_are_named_in_a_sentence(output: object, sentence: str) -> None:
    with pytest.raises(ModelError, match=sentence):
        class_outputs(output, 1)


def test_an_entry_that_is_gone_in_a_later_pass_is_a_sentence() -> None:
    with pytest.raises(ModelError, match="returned a NoneType"):
        Reader(("logits",))({"other": torch.zeros(1, 3)}, 1)
