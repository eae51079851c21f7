"""What a report will cost, told before the work starts, and the batches that fit into memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from reportgen.attribution import METHODS
from reportgen.classifier.black_box import BlackBox
from reportgen.classifier.classifier import Classifier
from reportgen.classifier.derivatives import cause
from reportgen.classifier.evaluator import Evaluator
from reportgen.classifier.kept_tensors import room_to_keep
from reportgen.classifier.layers import FeatureLayer
from reportgen.classifier.lone_pictures import misread
from reportgen.classifier.memory import (
    Footprint,
    available_memory,
    footprint,
    largest_batch,
    out_of_memory,
    parse_memory,
    shortage,
    weight_bytes,
)
from reportgen.classifier.severed import Severed
from reportgen.config import Config
from reportgen.errors import ModelError, NotApplicable, UsageError
from reportgen.metrics import METRICS
from reportgen.metrics.base import Plan
from reportgen.metrics.destroyed import NEEDS as WEIGHTS_DRAWN
from reportgen.metrics.planning import planned
from reportgen.work import Size, Work

_FEATURE_MAP = "feature map"
_PREDICTIONS = "predictions"
_TIMED = 8


@dataclass(frozen=True)
class Step:
    """A method or metric by name, the passes that it will make, and the seconds these take."""

    name: str
    work: Work
    seconds: float


@dataclass(frozen=True)
class Forecast:
    """What reports on ``targets`` targets of ``pictures`` pictures will cost.

    That is passes, seconds and memory. The steps are those of one report. ``memory`` is what a pass
    of ``batch_size`` pictures needs with the model's weights, in bytes; None where it cannot be
    measured. The number of passes may depend on the picture, and what is done between them is not
    in the seconds.
    """

    methods: tuple[Step, ...]
    metrics: tuple[Step, ...]
    device: str
    batch_size: int
    memory: int | None
    pictures: int = 1
    targets: int = 1

    @property
    def steps(self) -> tuple[Step, ...]:
        """All steps, in the order in which they are made."""
        return (*self.methods, *self.metrics)

    @property
    def work(self) -> Work:
        """The passes of all steps, pictures and targets."""
        return sum((step.work for step in self.steps), Work()) * (self.pictures * self.targets)

    @property
    def seconds(self) -> float:
        """The seconds of all passes."""
        return sum(step.seconds for step in self.steps) * self.pictures * self.targets


@dataclass(frozen=True)
class Speed:
    """Seconds a picture: of a pass without gradients, and of one with the gradient by the picture.

    ``both`` is that of the second, forward and back together.
    """

    forward: float
    both: float

    def seconds(self, work: Work) -> float:
        """Return the seconds that ``work`` takes."""
        return max(0, work.forward - work.backward) * self.forward + work.backward * self.both


@dataclass(frozen=True)
class Asked:
    """The methods and metrics asked for, and what their cost depends on.

    ``pixels`` (C, H, W) is the picture, ``target`` the class explained, ``segments`` the number of
    segments; ``layer`` finds the layer that class activation maps look at.
    """

    methods: Sequence[str]
    metrics: Sequence[str]
    pixels: Tensor
    target: int
    segments: int
    layer: Callable[[], FeatureLayer]
    mask: bool


def fitted(classifier: Classifier, config: Config) -> Classifier:
    """Return the classifier with what its passes need, its batches no larger than memory.

    The limit is ``max_memory``, or else what is free on the device. Where a pass with gradients
    fails or needs more, it gives predictions only from now on. ``footprint`` is None where memory
    cannot be measured. Raises UsageError where one picture without gradients needs more than
    ``max_memory``, or that option cannot be kept here; ModelError where it needs more than there
    is.
    """
    evaluator = classifier.evaluator
    try:
        found, refusal = _footprint(classifier)
    except NotApplicable as error:
        if config.max_memory:
            raise UsageError(f"The option max_memory cannot be kept here: {error}.") from None
        return classifier
    limit = parse_memory(config.max_memory) if config.max_memory else None
    if limit is not None and not refusal and found.needed(found.smallest) > limit:
        refusal = f"a pass with gradients of {shortage(found, limit)}"
        found = _measured(classifier, graded=False)
    room = _room(classifier, found) if limit is None else limit
    if room is not None:
        evaluator.batch_size = largest_batch(found, room, evaluator.batch_size)
    return _refusing(replace(classifier, footprint=found), refusal)


def _room(classifier: Classifier, found: Footprint) -> int | None:
    free = available_memory(classifier.device)
    # The weights are in memory already; an estimate alone is no reason to refuse.
    return None if free is None else max(free + found.weights, found.needed(found.smallest))


def _refusing(classifier: Classifier, refusal: str) -> Classifier:
    """Return the classifier as one of predictions only, where there is a ``refusal``."""
    if not refusal:
        return classifier
    classifier.evaluator.refusal = refusal
    record = classifier.record.model_copy(update={"predictions_only": refusal})
    return replace(classifier, record=record)


def forecast(classifier: Classifier, config: Config, asked: Asked) -> Forecast:
    """Return what the steps ``asked`` for will cost, by the speed of this network on this device.

    The speed is measured on one batch of the picture, forward, and forward and back. What needs
    more than predictions is left out where the model gives no more.
    """
    asked = _possible(classifier, asked) if classifier.record.predictions_only else asked
    found = classifier.footprint
    height, width = asked.pixels.shape[-2:]
    channels, search = _layer(classifier, asked)
    size = Size(height, width, asked.segments, channels)
    plan = Plan(
        config=config,
        methods=tuple(asked.methods),
        cards={name: METHODS[name].card for name in asked.methods},
        size=size,
        explain=lambda name, other: METHODS[name].work(other, size),
        mask=asked.mask,
    )
    speed, evaluator = _speed(classifier, asked), classifier.evaluator
    return Forecast(
        methods=_steps(_methods(config, asked.methods, size, search), speed),
        metrics=_steps(planned({name: METRICS[name] for name in asked.metrics}, plan), speed),
        device=classifier.device.type,
        batch_size=evaluator.batch_size,
        memory=found.needed(evaluator.batch_size) if found else None,
    )


def _possible(classifier: Classifier, asked: Asked) -> Asked:
    """Return what can be done with predictions alone, and without the weights of a black box."""
    closed = isinstance(classifier.evaluator.network, BlackBox)
    return replace(
        asked,
        methods=[name for name in asked.methods if METHODS[name].card.needs == _PREDICTIONS],
        metrics=[
            name
            for name in asked.metrics
            if not closed or METRICS[name].card.needs != WEIGHTS_DRAWN
        ],
    )


def _steps(works: Mapping[str, Work], speed: Speed) -> tuple[Step, ...]:
    return tuple(Step(name, work, speed.seconds(work)) for name, work in works.items())


def _methods(config: Config, names: Sequence[str], size: Size, search: Work) -> Mapping[str, Work]:
    """Return the work of each method; the first that looks at a layer has found it."""
    works = {name: METHODS[name].work(config, size) for name in names}
    first = next((name for name in names if _looks_at_layer(name)), None)
    if first is not None:
        works[first] += search
    return works


def _looks_at_layer(name: str) -> bool:
    return METHODS[name].card.granularity == _FEATURE_MAP


def _layer(classifier: Classifier, asked: Asked) -> tuple[int, Work]:
    """Return the channels of the layer, and what finding it took.

    No channels where no method looks at a layer, or none is found.
    """
    if not any(map(_looks_at_layer, asked.methods)):
        return 0, Work()
    counter = classifier.evaluator.counter
    before = Work(counter.forward, counter.backward)
    try:
        layer = asked.layer()
    except NotApplicable:
        layer = None
    search = Work(counter.forward, counter.backward) + before * -1
    if layer is None:
        return 0, search
    activation = classifier.evaluator.features(asked.pixels[None], layer)
    return int(layer.grid.spatial(activation).shape[1]), search


def _footprint(classifier: Classifier) -> tuple[Footprint, str]:
    """Return what passes need, and why none with gradients can be made, "" where one can."""
    try:
        return _measured(classifier), _misread(classifier)
    except Severed as error:
        refusal = str(error)
    except NotApplicable:
        raise
    except Exception as error:  # any failure of the user's code
        refusal = _too_large(classifier, "with") if out_of_memory(error) else cause(error)
    try:
        return _measured(classifier, graded=False), refusal
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        said = _too_large(classifier, "without")
    raise ModelError(f"{said[0].upper()}{said[1:]}.")


def _misread(classifier: Classifier) -> str:
    """Return why there is no right gradient of a script that takes one picture, "" where one is."""
    evaluator = classifier.evaluator
    script = isinstance(evaluator.network, torch.jit.ScriptModule)
    if not script or evaluator.fixed_batch != 1 or classifier.device.type != "cpu":
        return ""
    if not misread(evaluator.scores, _blank(classifier, 1)):
        return ""
    return (
        "PyTorch computes the gradient of batch normalisation wrongly for one picture in the "
        "layout that this TorchScript network has, and it takes no other number; save it as .pt2 "
        "or as a state dict, or trace it so that it takes several pictures"
    )


def _blank(classifier: Classifier, count: int) -> Tensor:
    used = classifier.record.preprocessing
    return torch.zeros(count, used.channels, *used.crop, device=classifier.device)


def _too_large(classifier: Classifier, way: str) -> str:
    height, width = classifier.record.preprocessing.crop
    return (
        f"a pass {way} gradients of {classifier.evaluator.fixed_batch or 1} picture(s) of "
        f"{height}x{width} pixels needs more memory than there is; use a smaller --size, or "
        "another --device"
    )


def _measured(classifier: Classifier, graded: bool = True) -> Footprint:
    """Return what passes of two pictures need, or, where memory is short, of one."""
    evaluator = classifier.evaluator
    if isinstance(evaluator.network, BlackBox):
        raise NotApplicable(
            f"the memory of a pass cannot be measured, because {evaluator.network.reason}"
        )
    fixed = evaluator.fixed_batch
    copies = (evaluator.copies.folded, evaluator.copies.reduced)
    weights = weight_bytes(evaluator.network)
    weights += sum(weight_bytes(c) for c in copies if isinstance(c, torch.nn.Module))

    def of(count: int) -> Footprint:
        pixels = _blank(classifier, count)
        with room_to_keep(classifier.device):
            return footprint(evaluator.raw, pixels, weights, fixed is not None, graded)

    if fixed is not None:
        return of(fixed)
    try:
        return of(2)
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
    return of(1)


def _speed(classifier: Classifier, asked: Asked) -> Speed:
    """Return the seconds a picture, each measured once on a batch of the picture itself."""
    evaluator = classifier.evaluator
    count = min(_TIMED, evaluator.batch_size)
    pixels = asked.pixels.expand(count, *asked.pixels.shape)
    forward = _timed(evaluator, lambda: evaluator.stream(count, lambda i, j: pixels[i:j]))
    if classifier.record.predictions_only:
        return Speed(forward / count, forward / count)
    both = _timed(evaluator, lambda: _gradient(evaluator, pixels, asked.target))
    return Speed(forward / count, both / count)


def _gradient(evaluator: Evaluator, pixels: Tensor, target: int) -> None:
    leaf = pixels.clone().requires_grad_()
    scores = evaluator.scores(leaf)
    if scores.requires_grad:
        torch.autograd.grad(scores[:, target].sum(), leaf, allow_unused=True)


def _timed(evaluator: Evaluator, run: Callable[[], object]) -> float:
    cuda = evaluator.device.type == "cuda"
    if cuda:
        torch.cuda.synchronize(evaluator.device)
    start = time.perf_counter()
    run()
    if cuda:
        torch.cuda.synchronize(evaluator.device)
    return time.perf_counter() - start
