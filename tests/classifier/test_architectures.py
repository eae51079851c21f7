"""Every classifier of torchvision is recognised by the shapes of its state dict alone."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

import pytest
import torch

from reportgen.classifier import architectures
from reportgen.classifier.architectures import (
    Recognised,
    build,
    closest_build,
    known_architectures,
    known_heads,
    nearest,
    recognise,
    require_known,
    shared,
)
from reportgen.classifier.fitting import shapes_of
from reportgen.classifier.torchvision_operators import ensure_torchvision
from reportgen.errors import UsageError

ensure_torchvision()

import torchvision  # noqa: E402
from torchvision import models  # noqa: E402

Shapes = dict[str, tuple[int, ...]]

INDEX = Path(str(files("reportgen.classifier") / "architectures.json"))
SAME_VERSION = torchvision.__version__.partition("+")[0] == architectures.indexed_torchvision()
needs_indexed_version = pytest.mark.skipif(
    not SAME_VERSION, reason="the index is of another version of torchvision than the one installed"
)


def shapes(name: str, classes: int = 1000) -> Shapes:
    return shapes_of(build(Recognised(name, classes)).state_dict())


def with_classes(name: str, given: Shapes, classes: int) -> Shapes:
    heads = known_architectures()[name].heads
    return {k: (classes, *shape[1:]) if k in heads else shape for k, shape in given.items()}


@pytest.mark.parametrize("name", known_architectures())
def test_every_classifier_is_recognised(name: str) -> None:
    size = 224 if name.startswith("vit") else None
    seven = shapes(name, 7)
    assert recognise(seven) == Recognised(name, 7, 3, size)
    assert recognise(with_classes(name, seven, 1000)) == Recognised(name, 1000, 3, size)


@needs_indexed_version
def test_the_index_knows_every_classifier() -> None:
    assert list(known_architectures()) == models.list_models(module=models)


@needs_indexed_version
@pytest.mark.slow
def test_the_index_is_up_to_date() -> None:
    assert INDEX.read_text(encoding="utf-8") == architectures.make_index()


def test_no_two_architectures_share_their_digests() -> None:
    digests = {(entry.names, entry.shapes) for entry in known_architectures().values()}
    assert len(digests) == len(known_architectures()) >= 80


def test_the_index_is_small() -> None:
    assert INDEX.stat().st_size < 100_000
    assert set(json.loads(INDEX.read_text("utf-8"))) == {"torchvision", "architectures"}


def test_a_plainly_built_network_is_recognised() -> None:
    network = models.shufflenet_v2_x0_5(num_classes=11)
    assert recognise(shapes_of(network.state_dict())) == Recognised("shufflenet_v2_x0_5", 11)


@pytest.mark.parametrize(("size", "positions"), [(384, 577), (32, 5)])
def test_the_image_size_of_a_vision_transformer_is_read(size: int, positions: int) -> None:
    given = shapes("vit_b_16")
    given["encoder.pos_embedding"] = (1, positions, 768)
    recognised = recognise(given)
    assert recognised == Recognised("vit_b_16", 1000, 3, size)
    assert build(recognised).image_size == size


def test_positions_that_make_no_square_are_not_recognised() -> None:
    given = shapes("vit_b_16")
    given["encoder.pos_embedding"] = (1, 198, 768)
    assert recognise(given) is None


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "swin_t", "vit_b_32", "inception_v3"])
def test_other_input_channels_are_recognised_and_built(name: str) -> None:
    network = build(Recognised(name, 7, 1))
    recognised = recognise(shapes_of(network.state_dict()))
    assert recognised is not None
    assert (recognised.name, recognised.classes, recognised.channels) == (name, 7, 1)
    stem = network.get_submodule(known_architectures()[name].stem)
    original = build(Recognised(name)).get_submodule(known_architectures()[name].stem)
    assert stem.in_channels == 1
    assert (stem.stride, stem.padding) == (original.stride, original.padding)


@pytest.mark.parametrize(
    "change",
    [
        {"fc.bias": (8,)},
        {"fc.bias": ()},
        {"conv1.weight": (64, 3, 3, 3)},
        {"layer1.0.bn1.bias": (65,)},
        {"extra.weight": (3, 3)},
    ],
)
def test_another_network_is_not_taken_for_one_of_torchvision(change: Shapes) -> None:
    assert recognise({**shapes("resnet18"), **change}) is None


def test_a_missing_tensor_is_not_recognised() -> None:
    given = shapes("resnet18")
    del given["fc.bias"]
    assert recognise(given) is None


def test_building_takes_no_memory_for_weights_and_changes_no_random_numbers() -> None:
    before = torch.get_rng_state()
    network = build(Recognised("regnet_y_128gf"))
    assert {p.device.type for p in network.parameters()} == {"meta"}
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("name", ["inception_v3", "googlenet"])
def test_inception_has_no_auxiliary_head_and_renormalises_only_colour(name: str) -> None:
    network = build(Recognised(name))
    assert not any(key.startswith(("AuxLogits", "aux")) for key in network.state_dict())
    assert network.transform_input
    assert not build(Recognised(name, 1000, 1)).transform_input


@pytest.mark.parametrize("name", ["resnet18", "resnet101", "vgg16_bn", "vit_l_16", "swin_v2_s"])
def test_the_nearest_architecture_is_the_one_that_was_changed(name: str) -> None:
    given = shapes(name, 7)
    head = known_architectures()[name].heads[0]
    given["another.weight"] = given.pop(head)
    assert nearest(given) == name


def test_nothing_is_near_to_a_network_of_other_names() -> None:
    assert nearest({"blocks.0.kernel": (3, 3), "blocks.1.kernel": (3, 3)}) is None


@pytest.mark.parametrize(
    ("given", "classes"),
    [({"fc.weight": (12, 512)}, 12), ({"fc.weight": ()}, 1000), ({"head": (12, 512)}, 1000)],
)
def test_the_closest_build_takes_over_the_number_of_classes(given: Shapes, classes: int) -> None:
    assert closest_build("resnet18", given).fc.out_features == classes


def test_the_names_of_heads_are_known() -> None:
    assert {"fc", "classifier", "classifier.6", "head", "heads.head"} <= set(known_heads())


@pytest.mark.parametrize(
    ("some", "others", "expected"),
    [("ab", "ab", 1), ("abc", "bcd", 0.5), ("a", "b", 0), ("", "", 0)],
)
def test_what_two_collections_share(some: str, others: str, expected: float) -> None:
    assert shared(some, others) == expected


def test_an_unknown_architecture_is_refused_with_the_known_ones() -> None:
    require_known("resnet18")
    with pytest.raises(UsageError, match=r"Unknown torchvision classifier 'resnet19'; .*resnet18"):
        require_known("resnet19")


def test_one_common_name_is_not_near() -> None:
    assert nearest({"conv1.weight": (10, 1, 5, 5), "fc1.weight": (50, 320)}) is None
