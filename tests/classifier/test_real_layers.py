"""The layers found in published networks: Grad-CAM's maps lie on what the pictures show."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from reportgen.attribution import METHODS
from reportgen.classifier.classifier import Classifier
from reportgen.classifier.loading import open_model
from reportgen.classifier.metadata import Hints
from reportgen.config import Config
from reportgen.image import open_image
from reportgen.layer_records import LayerChoice
from reportgen.pipeline import made_ready
from reportgen.subject import make_subject

PICTURES = (
    "n01443537_goldfish",
    "n01491361_tiger_shark",
    "n02007558_flamingo",
    "n02098286_West_Highland_white_terrier",
)
Ready = Callable[[str], Classifier]
Found = tuple[float, float, LayerChoice]


@pytest.fixture(scope="module")
def ready(assets: Path) -> Iterator[Ready]:
    """Return what makes a model ready, once for all pictures."""
    with ExitStack() as stack:

        @cache
        def make(weights: str) -> Classifier:
            opened = open_model(assets / "weights" / weights)
            return stack.enter_context(made_ready(opened, Hints(), Config(device="cpu")))

        yield make


def found(assets: Path, classifier: Classifier, picture: str, layer: str = "") -> Found:
    """Return how much of the map lies in the mask, the mask's share, and the layer's choice."""
    mask = str(assets / "masks" / "imagenet" / f"{picture}.png")
    config = Config(mask=mask, layer=layer, device="cpu")
    shown = open_image(assets / "images" / "imagenet" / f"{picture}.JPEG")
    classifier = replace(classifier, searches={})  # each picture looks for the layer itself
    subject = make_subject(classifier, shown, config)
    request = subject.request(subject.pixels[None], config)
    (heat,) = METHODS["gradcam"].explain(request).maps
    choice = classifier.layer_choice(layer)
    if subject.mask is None or choice is None:
        raise AssertionError("there is a mask, and a layer was looked for")
    share = float(subject.mask.float().mean())
    return float((heat * subject.mask).sum() / heat.sum()), share, choice


@pytest.mark.parametrize(
    ("weights", "last"),
    [
        ("mobilenet_v2_imagenet.pth", "features.18.2"),
        ("squeezenet1_1_imagenet.pth", "features.12"),
    ],
)
def test_maps_lie_on_what_the_picture_shows(
    assets: Path, ready: Ready, weights: str, last: str
) -> None:
    better = 0
    for picture in PICTURES:
        inside, share, choice = found(assets, ready(weights), picture)
        assert choice.chosen == last
        better += inside > share
    assert better >= len(PICTURES) - 1


def test_an_early_layer_that_is_named_is_kept_and_fails(assets: Path, ready: Ready) -> None:
    classifier = ready("mobilenet_v2_imagenet.pth")
    inside, share, choice = found(assets, classifier, PICTURES[3], "features.4")
    assert (choice.source, choice.chosen) == ("option", "features.4")
    (candidate,) = choice.candidates
    assert [check.key for check in candidate.checks if check.outcome == "fails"] == ["removal"]
    assert inside < share
