"""The user's model as the rest of the house sees it: pixels in, class probabilities out."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, cast

import torch
from torch import Tensor, nn

from reportgen.classifier.device import batch_size, choose_device, tf32
from reportgen.classifier.evaluator import Batches, Copies, Evaluator, borrowed
from reportgen.classifier.folding import rounded
from reportgen.classifier.heads import Head, check_head, detect_head
from reportgen.classifier.layers import FeatureLayer, find_layer
from reportgen.classifier.memory import Footprint
from reportgen.classifier.metadata import Hints, Known, combine
from reportgen.classifier.opened import Opened
from reportgen.classifier.probing import (
    Probe,
    accepts_channels_last,
    check_finite,
    complete,
    folded_copy,
    preprocessing_of,
    probe,
    reduced_copy,
)
from reportgen.config import Config
from reportgen.errors import NotApplicable, UsageError
from reportgen.records import ClassScore, ModelRecord, Prediction, Source, Sourced

_LISTED = 20


@dataclass(frozen=True)
class Classifier:
    """A model ready to be explained. Pixels are float32 (n, C, H, W) in [0, 1] on ``device``.

    ``footprint`` is what its passes need of memory, None where that was not measured.
    """

    record: ModelRecord
    labels: tuple[str, ...]
    evaluator: Evaluator
    footprint: Footprint | None = None

    @property
    def device(self) -> torch.device:
        """The device that the network is on."""
        return self.evaluator.device

    @property
    def mean(self) -> tuple[float, ...]:
        """The data set's mean of each channel, in [0, 1]: what normalisation turns into zero."""
        return self.record.preprocessing.mean

    def probabilities(self, pixels: Tensor) -> Tensor:
        """Return probabilities (n, classes) of pixels (n, C, H, W)."""
        return self.evaluator.probabilities(len(pixels), lambda start, stop: pixels[start:stop])

    def predict(self, pixels: Tensor, target: str = "", top: int = 5) -> Prediction:
        """Return the ``top`` classes for pixels (C, H, W), and the class to explain.

        Raises UsageError for a target that the model does not know.
        """
        with torch.inference_mode():
            raw = self.evaluator.raw(pixels[None])
        check_finite(raw)
        scores = self.evaluator.head.scores(raw)[0].tolist()
        probabilities = self.evaluator.head.probabilities(raw)[0].tolist()
        ranked = sorted(range(len(scores)), key=lambda index: -probabilities[index])
        classes = [
            ClassScore(index=i, label=self.labels[i], probability=probabilities[i], score=scores[i])
            for i in range(len(scores))
        ]
        chosen = self.find_target(target) if target else ranked[0]
        return Prediction(
            top=tuple(classes[i] for i in ranked[:top]),
            target=classes[chosen],
            target_source="option" if target else "top class",
        )

    def find_target(self, target: str) -> int:
        """Return the index of a class given by index or by label (case does not matter)."""
        if target.removeprefix("-").isdecimal():
            return self._by_index(int(target))
        folded = [label.casefold() for label in self.labels]
        if target.casefold() in folded:
            return folded.index(target.casefold())
        raise UsageError(f"Unknown target '{target}'; {self._known(target)}.")

    def feature_layer(self, pixels: Tensor, target: int, name: str = "") -> FeatureLayer:
        """Return the layer for Grad-CAM on pixels (C, H, W): ``name``, or one that is found."""
        return find_layer(self.evaluator, pixels[None], target, name)

    def _by_index(self, index: int) -> int:
        if not 0 <= index < len(self.labels):
            raise UsageError(
                f"Target {index} is out of range; the model has the classes 0 to "
                f"{len(self.labels) - 1}."
            )
        return index

    def _known(self, target: str) -> str:
        if len(self.labels) <= _LISTED:
            return f"the known ones are: {', '.join(self.labels)}"
        close = get_close_matches(target, self.labels, n=5, cutoff=0.4) or self.labels[:5]
        return f"of {len(self.labels)} classes the nearest are: {', '.join(close)}"


@contextmanager
def classifier_from(opened: Opened, given: Hints, config: Config) -> Iterator[Classifier]:
    """Make an opened model ready, and leave its network as it was found afterwards.

    ``given`` is what the user said (flags, sidecar), which comes before what the file says. What
    nobody says is detected by probing the network, or assumed and marked so.
    """
    device = _device(opened, config)
    with borrowed(opened.network), _moved(opened.network, device), tf32(False):
        yield _make(opened, combine(given, opened.hints), device, config)


def _make(opened: Opened, hints: Hints, device: torch.device, config: Config) -> Classifier:
    hints = complete(hints, opened, device)
    preprocessing = preprocessing_of(hints)
    known = probe(opened, preprocessing, device)
    head = hints.head or Known(detect_head(known.raw), "detected")
    checked = check_head(head.value, known.raw.shape[1])
    labels = _labels(hints.labels, checked, known.raw)
    batches = Batches(
        config.batch_size or batch_size(device),
        opened.fixed_batch,
        accepts_channels_last(opened, known),
    )
    evaluator = Evaluator(
        opened.network,
        checked,
        preprocessing.mean,
        preprocessing.std,
        device,
        batches,
        _copies(opened, known, batches, config),
    )
    record = _record(opened, hints, Known(checked.title, head.source), labels)
    return Classifier(record, labels.value, evaluator)


def _copies(opened: Opened, known: Probe, batches: Batches, config: Config) -> Copies:
    """Return copies of the network for passes without gradients, as far as ``config`` wants them.

    Raises UsageError for a precision that this device or model cannot compute in.
    """
    fold = folded_copy(opened, known, batches.layout) if config.folding else None
    if config.precision == "float32":
        return Copies(fold)
    if config.precision == "tf32":
        if known.batch.device.type != "cuda":
            raise UsageError("The precision tf32 exists on NVIDIA GPUs only; choose another.")
        return Copies(fold, rounded(fold or opened.network), "tf32")
    try:
        reduced = reduced_copy(opened, known, batches.layout)
    except NotApplicable as error:
        raise UsageError(f"Precision {config.precision} is not possible: {error}.") from None
    return Copies(fold, reduced, "bfloat16", torch.bfloat16)


def _device(opened: Opened, config: Config) -> torch.device:
    parameter = next(opened.network.parameters(), None)
    if opened.format == "module" and config.device == "auto" and parameter is not None:
        return parameter.device
    return choose_device(config.device)


@contextmanager
def _moved(network: nn.Module, device: torch.device) -> Iterator[None]:
    parameter = next(network.parameters(), None)
    before = parameter.device if parameter is not None else device
    network.to(device)
    try:
        yield
    finally:
        network.to(before)


def _labels(
    given: Known[tuple[str, ...]] | None, head: Head, raw: Tensor
) -> Known[tuple[str, ...]]:
    classes = head.probabilities(raw).shape[1]
    if given is None:
        return Known(tuple(f"class {index}" for index in range(classes)), "assumed")
    if len(given.value) == 1 and classes == 2:
        return Known((f"not {given.value[0]}", given.value[0]), given.source)
    if len(given.value) != classes:
        raise UsageError(
            f"There are {len(given.value)} labels, but the model has {classes} classes; "
            "give one label for each class, in the order of the outputs."
        )
    return given


def _record(
    opened: Opened, hints: Hints, head: Known[str], labels: Known[tuple[str, ...]]
) -> ModelRecord:
    names = ("channels", "resize", "crop", "interpolation", "mean", "std")
    sources: Mapping[str, Source] = {
        name: cast(Known[Any], getattr(hints, name)).source for name in names
    }
    return ModelRecord(
        name=opened.name,
        format=opened.format,
        architecture=opened.architecture,
        file_sha256=opened.file_sha256,
        weights_sha256=weights_hash(opened.network),
        parameters=sum(parameter.numel() for parameter in opened.network.parameters()),
        classes=len(labels.value),
        head=Sourced(value=head.value, source=head.source),
        labels=Sourced(value=list(labels.value), source=labels.source),
        preprocessing=preprocessing_of(hints),
        preprocessing_sources=sources,
        trusted_pickle=opened.trusted_pickle,
        notes=opened.notes,
    )


def weights_hash(network: nn.Module) -> str:
    """Return the SHA-256 over name, type, shape and bytes of each tensor of the state."""
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        if isinstance(tensor, Tensor):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
            flat = tensor.detach().cpu().contiguous().reshape(-1)
            digest.update(flat.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
