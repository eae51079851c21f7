"""The classifier: predictions, targets, labels, and a record that says where each came from."""

from __future__ import annotations

import hashlib

import pytest
import torch
from torch import Tensor, nn
from toys import (
    Fixed,
    FunctionalRelu,
    OnlyBatchesOf,
    as_opened,
    classified,
    hints,
    pictures,
    seeded,
)

from reportgen.classifier.classifier import classifier_from, weights_hash
from reportgen.classifier.device import batch_size, choose_device, describe
from reportgen.classifier.metadata import Hints, Known
from reportgen.config import Config
from reportgen.errors import ModelError, UsageError

SHAPE = (3, 16, 16)
LOGITS = torch.tensor([1.0, 4.0, 2.0, 3.0])
LABELS = ("tench", "Goldfish", "7", "shark")
CPU = Config(device="cpu")


def test_classes_come_in_descending_order() -> None:
    with classified(Fixed(LOGITS), SHAPE) as classifier:
        found = classifier.predict(torch.zeros(SHAPE), top=3)
    assert [c.index for c in found.top] == [1, 3, 2]
    assert found.target == found.top[0]
    assert found.target_source == "top class"
    assert [c.probability for c in found.top] == pytest.approx(
        [float(LOGITS.softmax(0)[i]) for i in (1, 3, 2)]
    )


@pytest.mark.parametrize(("target", "index"), [("0", 0), ("GOLDFISH", 1), ("3", 3), ("tench", 0)])
def test_a_target_is_an_index_or_a_label(target: str, index: int) -> None:
    given = hints(SHAPE, "softmax", LABELS)
    with classifier_from(as_opened(Fixed(LOGITS)), given, CPU) as classifier:
        found = classifier.predict(torch.zeros(SHAPE), target, top=1)
    assert (found.target.index, found.target.label) == (index, LABELS[index])
    assert found.target_source == "option"
    assert len(found.top) == 1


@pytest.mark.parametrize(
    ("target", "sentence"),
    [
        ("4", "Target 4 is out of range; the model has the classes 0 to 3"),
        ("-1", "Target -1 is out of range"),
        ("whale", "Unknown target 'whale'; the known ones are: tench, Goldfish, 7, shark"),
        ("²", "Unknown target '²'"),
        ("--1", "Unknown target '--1'"),
    ],
)
def test_an_unknown_target_is_a_sentence(target: str, sentence: str) -> None:
    given = hints(SHAPE, "softmax", LABELS)
    with (
        classifier_from(as_opened(Fixed(LOGITS)), given, CPU) as classifier,
        pytest.raises(UsageError, match=sentence),
    ):
        classifier.find_target(target)


def test_of_many_labels_only_the_nearest_are_named() -> None:
    labels = tuple(f"kind {index}" for index in range(30))
    given = hints(SHAPE, "softmax", labels)
    opened = as_opened(Fixed(torch.arange(30.0)))
    with (
        classifier_from(opened, given, CPU) as classifier,
        pytest.raises(UsageError, match=r"of 30 classes the nearest are: .*kind 12") as error,
    ):
        classifier.find_target("kint 12")
    assert str(error.value).count("kind") == 5


def test_probabilities_of_any_number_of_pictures() -> None:
    network = seeded(FunctionalRelu)
    with classified(network, SHAPE, batch_size=2) as classifier:
        found = classifier.probabilities(pictures(5))
        assert found.shape == (5, 3)
        assert float((found.sum(1) - 1).abs().max()) < 1e-6
        assert float((found - network(pictures(5)).softmax(1)).abs().max()) < 1e-6
        assert classifier.device == torch.device("cpu")
        assert classifier.mean == (0.0, 0.0, 0.0)


def test_the_record_says_what_was_given_and_what_was_found() -> None:
    network = seeded(FunctionalRelu)
    given = Hints(crop=Known((16, 24), "option"))
    with classifier_from(as_opened(network), given, CPU) as classifier:
        record = classifier.record
    assert record.classes == 3
    assert record.parameters == sum(p.numel() for p in network.parameters())
    assert (record.head.value, record.head.source) == ("softmax of logits", "detected")
    assert record.labels.value == ["class 0", "class 1", "class 2"]
    assert record.labels.source == "assumed"
    assert record.preprocessing.crop == (16, 24)
    assert record.preprocessing.resize == 16
    assert record.preprocessing.mean == (0.485, 0.456, 0.406)
    sources = dict(record.preprocessing_sources)
    assert sources == {
        "channels": "detected",
        "crop": "option",
        "resize": "option",
        "interpolation": "assumed",
        "mean": "assumed",
        "std": "assumed",
        "channel_order": "assumed",
    }


def test_one_channel_is_detected_and_not_normalised() -> None:
    network = seeded(lambda: FunctionalRelu(channels=1))
    with classifier_from(as_opened(network), Hints(), CPU) as classifier:
        found = classifier.record.preprocessing
        assert (found.channels, found.mean, found.std) == (1, (0.0,), (1.0,))
        assert classifier.predict(torch.zeros(1, *found.crop)).target.index in range(3)


def test_the_input_size_is_searched_for() -> None:
    network = seeded(lambda: nn.Sequential(nn.Flatten(), nn.Linear(28 * 28, 3)))
    with classifier_from(as_opened(network), Hints(), CPU) as classifier:
        assert classifier.record.preprocessing.crop == (28, 28)
        assert classifier.record.preprocessing.channels == 1


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (Hints(), "accepts none of the usual square inputs"),
        (Hints(crop=Known((9, 8), "option")), "does not accept a picture of 9x8 pixels"),
    ],
)
def test_a_network_that_accepts_nothing_is_a_sentence(given: Hints, sentence: str) -> None:
    network = seeded(lambda: nn.Sequential(nn.Flatten(), nn.Linear(17, 3)))
    with pytest.raises(ModelError, match=sentence), classifier_from(as_opened(network), given, CPU):
        pass


def test_a_mean_for_other_channels_is_a_sentence() -> None:
    given = Hints(crop=Known((16, 16), "option"), mean=Known((0.5,), "option"))
    with (
        pytest.raises(UsageError, match=r"takes 3 channel\(s\), but mean has 1 value"),
        classifier_from(as_opened(seeded(FunctionalRelu)), given, CPU),
    ):
        pass


@pytest.mark.parametrize("fixed_batch", [1, 4])
def test_a_fixed_batch_is_probed_and_used(fixed_batch: int) -> None:
    network = seeded(FunctionalRelu)
    bound = OnlyBatchesOf(network, fixed_batch)
    with classified(bound, SHAPE, fixed_batch=fixed_batch) as classifier:
        found = classifier.predict(pictures(1)[0])
        layer = classifier.feature_layer(pictures(1)[0], 0)
    expected = network(pictures(1)).softmax(1)[0]
    assert found.target.probability == pytest.approx(float(expected.detach().max()), abs=1e-6)
    assert layer.grid.height == 4


def by_hand(state: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()


def test_the_weights_are_hashed_with_name_type_and_shape() -> None:
    network = seeded(FunctionalRelu)
    assert weights_hash(network) == by_hand(network.state_dict())
    changed = seeded(FunctionalRelu)
    changed.fc.bias.data[0] += 1
    assert weights_hash(changed) != weights_hash(network)
    assert weights_hash(seeded(FunctionalRelu).double()) != weights_hash(network)


def test_half_precision_weights_have_a_hash() -> None:
    assert len(weights_hash(seeded(FunctionalRelu).bfloat16())) == 64


def test_devices_are_named_or_refused() -> None:
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device("auto").type in ("cpu", "cuda", "mps")
    assert describe(torch.device("cpu")) == "cpu"
    assert batch_size(torch.device("cpu")) < batch_size(torch.device("cuda"))
    for name, works in (
        ("cuda", torch.cuda.is_available()),
        ("mps", torch.backends.mps.is_available()),
    ):
        if not works:
            with pytest.raises(UsageError, match=f"The device '{name}' does not work here"):
                choose_device(name)
