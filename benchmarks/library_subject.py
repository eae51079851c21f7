"""What both sides of ``libraries.py`` are given: one model, ready twice, and one picture."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from reportgen.attribution.segmentation import segment
from reportgen.classifier.classifier import Classifier, classifier_from
from reportgen.classifier.evaluator import Counter
from reportgen.classifier.layers import FeatureLayer
from reportgen.classifier.loading import open_model
from reportgen.classifier.metadata import Hints, combine
from reportgen.classifier.opened import Opened
from reportgen.classifier.outputs import class_outputs
from reportgen.classifier.preprocessing import prepare
from reportgen.classifier.sidecar import flag_hints, sidecar_hints
from reportgen.classifier.torchvision_operators import ensure_torchvision
from reportgen.config import Baseline, Config
from reportgen.image import open_image
from reportgen.perturbation.removal import baseline
from reportgen.records import Prediction

Array = NDArray[np.floating]

# reportgen may compute in bfloat16, which is some hundredths off at the end of a network.
_CLOSE = 0.2


class Plain(nn.Module):
    """The network as it was opened, from pixels (n, C, H, W) in [0, 1] to scores; it counts."""

    def __init__(self, network: nn.Module, classifier: Classifier) -> None:
        super().__init__()
        self.network = network.to(classifier.device)
        self.device = classifier.device
        self.counter = Counter()
        self._head = classifier.evaluator.head
        preprocessing = classifier.record.preprocessing
        self._mean, self._std = (
            torch.tensor(values, device=self.device).view(-1, 1, 1)
            for values in (preprocessing.mean, preprocessing.std)
        )

    def forward(self, pixels: Tensor) -> Tensor:
        """Return scores (n, classes)."""
        return self._head.scores(self._raw(pixels))

    def probabilities(self, pixels: Tensor) -> Array:
        """Return probabilities (n, classes) of pixels on any device, as libraries take them."""
        with torch.no_grad():
            found = self._head.probabilities(self._raw(pixels.to(self.device)))
        return np.asarray(found.cpu().numpy())

    def _raw(self, pixels: Tensor) -> Tensor:
        raw = class_outputs(self.network((pixels - self._mean) / self._std), len(pixels))
        self.counter.forward += len(pixels)
        if raw.requires_grad:
            raw.register_hook(self._count_backward)  # type: ignore[no-untyped-call]
        return raw

    def _count_backward(self, gradient: Tensor) -> None:
        self.counter.backward += len(gradient)


@dataclass(frozen=True)
class Subject:
    """What both sides are given: pixels (3, H, W), segments (H, W), and the class explained.

    ``module`` is the part of ``plain`` whose output is ``layer``; ``maps`` are those of the curves.
    """

    classifier: Classifier
    plain: Plain
    pixels: Tensor
    prediction: Prediction
    segments: NDArray[np.int64]
    layer: FeatureLayer
    module: str
    maps: Mapping[str, Tensor]

    @property
    def target(self) -> int:
        """The index of the class that is explained."""
        return self.prediction.target.index

    @property
    def picture(self) -> Array:
        """The pixels as libraries take them: (H, W, 3)."""
        return channels_last(self.pixels)

    def predict(self, pictures: Array) -> Array:
        """Return probabilities (n, classes) of pictures (n, H, W, 3) in [0, 1]."""
        return self.plain.probabilities(torch.from_numpy(pictures).permute(0, 3, 1, 2))

    def fill(self, kind: Baseline, config: Config) -> Tensor:
        """Return the picture (3, H, W) that stands for nothing, the same for both sides."""
        return baseline(self.pixels, kind, self.classifier.mean, config.seed)


def module_of(plain: Plain, classifier: Classifier, pixels: Tensor, layer: FeatureLayer) -> str:
    """Return the outermost module whose output is the activation of ``layer``, "" for none.

    Modules that run more than once a pass are left out: a hook could not tell their outputs apart.
    """
    wanted = classifier.evaluator.features(pixels[None], layer).float()
    same: dict[str, list[bool]] = {}

    def note(name: str, output: Any) -> None:
        # Looked at right away: what follows may overwrite it.
        fits = isinstance(output, Tensor) and output.shape == wanted.shape
        same.setdefault(name, []).append(fits and _near(output, wanted))

    handles = [
        module.register_forward_hook(lambda _, __, output, name=name: note(name, output))
        for name, module in plain.named_modules()
    ]
    plain.probabilities(pixels[None])
    for handle in handles:
        handle.remove()
    return next((name for name, _ in plain.named_modules() if same.get(name) == [True]), "")


def _near(output: Tensor, wanted: Tensor) -> bool:
    return bool((output - wanted).norm() <= _CLOSE * wanted.norm())


@contextmanager
def subject_of(model: str, random: bool, image: Path, config: Config) -> Iterator[Subject]:
    """Make model and picture ready for both sides; the libraries get a network of their own.

    Raises SystemExit where a library cannot take the picture, or be told the layer.
    """
    opened, hints = opened_model(model, random, config)
    untouched = copy.deepcopy(opened.network)
    with classifier_from(opened, hints, config) as classifier:
        prepared = prepare(open_image(image).image, classifier.record.preprocessing)
        if len(prepared.pixels) != 3:
            raise SystemExit("lime and shap's examples take pictures of three channels.")
        yield ready(classifier, Plain(untouched, classifier), prepared.pixels, config)


def ready(classifier: Classifier, plain: Plain, pixels: Tensor, config: Config) -> Subject:
    """Return the picture (3, H, W) made ready; raise SystemExit where Grad-CAM's layer is none."""
    on_device = pixels.to(classifier.device)
    prediction = classifier.predict(on_device, config.target)
    layer = classifier.feature_layer(on_device, prediction.target.index, config.layer)
    module = module_of(plain, classifier, on_device, layer)
    if not module:
        raise SystemExit(f"No module gives the activation '{layer.name}'; name one with --layer.")
    segments = segment(pixels, config)[0]
    return Subject(classifier, plain, on_device, prediction, segments, layer, module, maps={})


def opened_model(model: str, random: bool, config: Config) -> tuple[Opened, Hints]:
    """Return the model, and what the options and a file beside it say of it.

    With ``random``, ``torchvision:NAME`` is that architecture with weights of the run's seed.
    """
    given = flag_hints(config)
    if not random:
        opened = open_model(model, config.arch, config.trust_pickle)
        return opened, combine(given, sidecar_hints(model))
    ensure_torchvision()
    from torchvision.models import get_model

    with torch.random.fork_rng(), tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(config.seed)
        file = Path(folder) / f"{model.rpartition(':')[2]}.pth"
        torch.save(get_model(file.stem, weights=None).state_dict(), file)
        return open_model(file, f"torchvision:{file.stem}"), given


def channels_last(pixels: Tensor) -> Array:
    """Return pixels (C, H, W) as libraries take them: (H, W, C)."""
    return np.ascontiguousarray(pixels.permute(1, 2, 0).cpu().numpy())
