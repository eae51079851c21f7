"""The user's model as the rest of the house sees it: pixels in, class probabilities out."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from reportgen.classifier.batching import settled, taken
from reportgen.classifier.black_box import BlackBox, reason_of
from reportgen.classifier.borrowing import borrowed
from reportgen.classifier.derivatives import in_words
from reportgen.classifier.device import batch_size, choose_device, tf32
from reportgen.classifier.evaluator import Batches, Copies, Evaluator
from reportgen.classifier.folding import rounded
from reportgen.classifier.heads import Head, check_head, contrasted, detect_head, tempered
from reportgen.classifier.inputs import INPUT, Intake, preprocessing_of
from reportgen.classifier.layers import FeatureLayer, Search, search_layer
from reportgen.classifier.memory import Footprint
from reportgen.classifier.metadata import Hints, Known, combine
from reportgen.classifier.normalisation import normalisation_of
from reportgen.classifier.opened import Opened
from reportgen.classifier.outputs import Wish
from reportgen.classifier.probing import (
    Probe,
    accepts_channels_last,
    check_finite,
    folded_copy,
    probe,
    reduced_copy,
)
from reportgen.classifier.program_constants import on_device
from reportgen.classifier.renormalising import SWITCH, renormalising_note, switched
from reportgen.classifier.targets import (
    Classes,
    Target,
    find_class,
    one_target,
    targets_of,
)
from reportgen.config import Config
from reportgen.errors import NotApplicable, UsageError
from reportgen.layer_records import LayerChoice
from reportgen.records import ClassScore, Contrast, ModelRecord, Prediction, Source, Sourced


@dataclass(frozen=True)
class Classifier:
    """A model ready to be explained. Pixels are float32 (n, C, H, W) in [0, 1] on ``device``.

    ``footprint`` is what its passes need of memory, None where that was not measured. ``threshold``
    is the probability from which on a label holds, None where one class wins. ``searches`` holds
    the layers looked for so far, by the name asked for.
    """

    record: ModelRecord
    labels: tuple[str, ...]
    evaluator: Evaluator
    footprint: Footprint | None = None
    threshold: float | None = None
    searches: dict[str, Search] = field(default_factory=dict, compare=False, repr=False)

    @property
    def device(self) -> torch.device:
        """The device that the network is on."""
        return self.evaluator.device

    @property
    def mean(self) -> tuple[float, ...]:
        """The data set's mean of each of the picture's channels, in [0, 1].

        It is what normalisation turns into zero, also where the network itself normalises.
        """
        own, stated = self.record.own_normalisation, self.record.preprocessing
        mean = tuple(value / own.white for value in own.mean) if own else stated.mean
        return mean[::-1] if stated.channel_order == "bgr" else mean

    def probabilities(self, pixels: Tensor) -> Tensor:
        """Return probabilities (n, classes) of pixels (n, C, H, W)."""
        return self.evaluator.probabilities(len(pixels), lambda start, stop: pixels[start:stop])

    def predict(self, pixels: Tensor, target: str | Target = "", top: int = 5) -> Prediction:
        """Return the ``top`` classes for pixels (C, H, W), and the class to explain.

        Raises UsageError for a target that the model does not know, or for more than one.
        """
        raw = self._raw(pixels)
        head, known = self.evaluator.head, self._classes(raw)
        if not isinstance(target, Target):
            target = one_target(target, known)
        if target.other is not None:
            head = contrasted(head, target.index, target.other)
        classes = self._scored(head, raw, target)
        shown = known.ranked()[: max(top, len(known.holding()))]
        return Prediction(
            top=tuple(classes[index] for index in shown),
            target=classes[target.index if target.other is None else -1],
            target_source=target.source,
            contrast=_contrast(classes, target),
            threshold=self.threshold,
        )

    def targets(self, pixels: Tensor, text: str) -> tuple[Target, ...]:
        """Return what ``Config.target`` asks for of pixels (C, H, W), one or several targets.

        Raises UsageError for a target that the model does not know.
        """
        return targets_of(text, self._classes(self._raw(pixels)))

    def find_target(self, target: str) -> int:
        """Return the index of a class given by index or by label (case does not matter)."""
        return find_class(target, self.labels)

    def explaining(self, contrast: Contrast | None) -> Classifier:
        """Return the classifier whose last column, behind all classes, is the contrast, if any."""
        if contrast is None:
            return self
        head = contrasted(self.evaluator.head, contrast.first.index, contrast.second.index)
        evaluator = copy.copy(self.evaluator)  # of the same network, with the same counter
        evaluator.head = head
        return replace(self, evaluator=evaluator)

    def _raw(self, pixels: Tensor) -> Tensor:
        with torch.inference_mode():
            raw = self.evaluator.raw(pixels[None])
        check_finite(raw)
        return raw

    def _classes(self, raw: Tensor) -> Classes:
        found = self.evaluator.head.probabilities(raw)[0].tolist()
        return Classes(self.labels, found[: len(self.labels)], self.threshold)

    def _scored(self, head: Head, raw: Tensor, target: Target) -> list[ClassScore]:
        labels = [*self.labels]
        if target.other is not None:
            labels.append(f"{labels[target.index]} rather than {labels[target.other]}")
        values = zip(head.probabilities(raw)[0].tolist(), head.scores(raw)[0].tolist(), strict=True)
        return [
            ClassScore(index=index, label=label, probability=probability, score=score)
            for index, (label, (probability, score)) in enumerate(zip(labels, values, strict=True))
        ]

    def feature_layer(self, pixels: Tensor, target: int, name: str = "") -> FeatureLayer:
        """Return the layer for Grad-CAM on pixels (C, H, W): ``name``, or one that is found."""
        return self.layer_search(pixels, target, name).found()

    def layer_search(self, pixels: Tensor, target: int, name: str = "") -> Search:
        """Return how the layer was found, on the first picture that asked for it.

        All pictures share that layer, so that what is measured of their maps can be pooled.
        """
        if name not in self.searches:
            with in_words():
                self.searches[name] = search_layer(self.evaluator, pixels[None], target, name)
        return self.searches[name]

    def layer_choice(self, name: str = "") -> LayerChoice | None:
        """Return how the layer was chosen, None where none was looked for."""
        return self.searches[name].choice if name in self.searches else None


def _contrast(classes: Sequence[ClassScore], target: Target) -> Contrast | None:
    if target.other is None:
        return None
    return Contrast(first=classes[target.index], second=classes[target.other])


@contextmanager
def classifier_from(opened: Opened, given: Hints, config: Config) -> Iterator[Classifier]:
    """Make an opened model ready, and leave its network as it was found afterwards.

    ``given`` is what the user said (flags, sidecar), which comes before what the file says. What
    nobody says is detected by probing the network, or assumed and marked so.
    """
    device = _device(opened, config)
    with borrowed(opened.network), _moved(opened.network, device), tf32(False):
        opened = switched(opened, given.transform_input)
        yield _make(opened, combine(given, opened.hints), device, config)


def _make(opened: Opened, hints: Hints, device: torch.device, config: Config) -> Classifier:
    opened, intake = taken(hints, opened, device)
    hints, preprocessing = intake.hints, preprocessing_of(intake.hints)
    opened = settled(opened, preprocessing, device)
    wish = Wish(config.output, len(hints.labels.value) if hints.labels else None)
    known = probe(opened, preprocessing, device, wish)
    head, record_of_head = _head(hints, known, config)
    labels = _labels(hints.labels, head, known.raw)
    batches = Batches(
        config.batch_size or batch_size(device),
        opened.fixed_batch,
        accepts_channels_last(opened, known),
    )
    evaluator = Evaluator(
        opened.network,
        head,
        normalisation_of(preprocessing),
        device,
        batches,
        _copies(opened, known, batches, config),
    )
    note = renormalising_note(opened, hints.transform_input)
    opened = _noted(opened, (*intake.notes, note, known.read.note))
    record = _record(opened, intake, record_of_head, labels)
    threshold = config.threshold if head.several else None
    return Classifier(record, labels.value, evaluator, threshold=threshold)


def _head(hints: Hints, known: Probe, config: Config) -> tuple[Head, Sourced]:
    """Return how outputs become probabilities, as the hints say or else as the outputs show."""
    detected = detect_head(known.raw, known.last)
    kind = hints.head.value if hints.head else detected.kind
    stated = hints.temperature.value if hints.temperature else None
    head = tempered(check_head(kind, known.raw.shape[1]), config.temperature or stated)
    if hints.head:
        record = Sourced(value=head.title, source=hints.head.source)
    else:
        record = Sourced(value=head.title, source=detected.source, evidence=detected.evidence)
    return replace(head, read=known.read), record


def _noted(opened: Opened, notes: Sequence[str]) -> Opened:
    return replace(opened, notes=(*opened.notes, *(note for note in notes if note)))


def _copies(opened: Opened, known: Probe, batches: Batches, config: Config) -> Copies:
    """Return copies of the network for passes without gradients, as far as ``config`` wants them.

    Raises UsageError for a precision that this device or model cannot compute in.
    """
    if isinstance(opened.network, BlackBox):
        return _no_copies(opened.network, config)
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


def _no_copies(network: BlackBox, config: Config) -> Copies:
    if config.precision != "float32":
        raise UsageError(
            f"Precision {config.precision} is not possible: the number format of this model "
            f"cannot be changed, because {network.reason}."
        )
    return Copies()


def _device(opened: Opened, config: Config) -> torch.device:
    if isinstance(opened.network, BlackBox):
        return _device_of(opened.network, config.device)
    parameter = next(opened.network.parameters(), None)
    if opened.format == "module" and config.device == "auto" and parameter is not None:
        return parameter.device
    return choose_device(config.device)


def _device_of(network: BlackBox, name: str) -> torch.device:
    if name not in ("auto", *network.devices):
        raise UsageError(
            f"The device '{name}' is not possible for this model, because {network.reason}; use "
            "--device auto."
        )
    return choose_device(network.devices[0] if name == "auto" else name)


@contextmanager
def _moved(network: nn.Module, device: torch.device) -> Iterator[None]:
    parameter = next(network.parameters(), None)
    before = parameter.device if parameter is not None else device
    network.to(device)
    try:
        with on_device(network, device):
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
    opened: Opened, intake: Intake, head: Sourced, labels: Known[tuple[str, ...]]
) -> ModelRecord:
    hints = intake.hints
    sources: Mapping[str, Source] = {
        name: known.source
        for name in (*INPUT, SWITCH)
        if (known := getattr(hints, name)) is not None
    }
    return ModelRecord(
        name=opened.name,
        format=opened.format,
        architecture=opened.architecture,
        file_sha256=opened.file_sha256,
        weights_sha256=weights_hash(opened.network),
        parameters=_parameters(opened.network),
        classes=len(labels.value),
        head=head,
        labels=Sourced(value=list(labels.value), source=labels.source),
        preprocessing=preprocessing_of(hints),
        preprocessing_sources=sources,
        own_normalisation=intake.own,
        transform_input=hints.transform_input.value if hints.transform_input else None,
        trusted_pickle=opened.trusted_pickle,
        predictions_only=reason_of(opened.network),
        notes=opened.notes,
    )


def _parameters(network: nn.Module) -> int | None:
    if isinstance(network, BlackBox):
        return network.parameter_count
    return sum(parameter.numel() for parameter in network.parameters())


def weights_hash(network: nn.Module) -> str | None:
    """Return the SHA-256 over name, type, shape and bytes of each tensor of the state.

    None for a Python function, of which there is nothing to hash.
    """
    if isinstance(network, BlackBox):
        return network.weights_sha256
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        if isinstance(tensor, Tensor):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
            flat = tensor.detach().cpu().contiguous().reshape(-1)
            digest.update(flat.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
