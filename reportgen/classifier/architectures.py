"""Recognise torchvision's classifiers by the names and shapes in a state dict, and build them.

``architectures.json`` holds, for every classifier of torchvision, a digest of its tensor names and
one of its shapes. Left open in the shapes are the dimensions that a user changes: the number of
classes, the input channels of the first convolution, and the positions of a vision transformer.
No two entries share both digests, so a match is the only one. What leaves no trace in names and
shapes (strides, dilation, groups that keep the shape) cannot be recognised: such a network is taken
for torchvision's own.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import torch
from pydantic import TypeAdapter
from torch import nn
from torch.overrides import TorchFunctionMode

from reportgen.classifier.fitting import Shapes, likeness, shapes_of
from reportgen.classifier.torchvision_operators import ensure_torchvision
from reportgen.errors import unknown_name

IMAGENET_CLASSES = 1000
RGB = 3

_INDEX = "architectures.json"
_POSITIONS = "encoder.pos_embedding"
_CANDIDATES = 6
LEAST_LIKENESS = 0.1

# No layer but a head has this many outputs, so that it tells the heads.
UNUSUAL_CLASSES = 7919

# Auxiliary heads do not take part in a prediction. The published weights of both networks expect
# them to re-normalise their input.
_INCEPTION: Mapping[str, bool] = {
    "aux_logits": False,
    "init_weights": False,
    "transform_input": True,
}
_OPTIONS: Mapping[str, Mapping[str, bool]] = {"googlenet": _INCEPTION, "inception_v3": _INCEPTION}

_ALLOCATORS = frozenset({torch.empty, torch.zeros, torch.ones})
INITIALISERS = frozenset(
    getattr(torch.Tensor, name)
    for name in ("normal_", "uniform_", "zero_", "fill_", "erfinv_", "mul_", "add_", "clamp_")
)


@dataclass(frozen=True)
class Recognised:
    """A torchvision classifier and the choices its shapes tell.

    ``image_size`` is the side in pixels of the square input of a vision transformer, else None.
    """

    name: str
    classes: int = IMAGENET_CLASSES
    channels: int = RGB
    image_size: int | None = None


@dataclass(frozen=True)
class Entry:
    """One architecture in the index: two digests, and the tensors with an open dimension."""

    names: str
    shapes: str
    tensors: int
    top: tuple[str, ...]
    heads: tuple[str, ...]
    stem: str


def recognise(shapes: Shapes) -> Recognised | None:
    """Return the torchvision classifier whose state dict has these ``shapes``, or None.

    Batch counters must be left out; auxiliary heads too, as by ``torchvision_names``.
    """
    names = digest(sorted(shapes))
    for name, entry in known_architectures().items():
        if entry.names == names and entry.shapes == digest(_open_shapes(shapes, entry)):
            return _read(name, entry, shapes)
    return None


def build(recognised: Recognised) -> nn.Module:
    """Return the network without its weights: they follow by ``load_weights(..., assign=True)``.

    Its parameters lie on the meta device, so that no memory is filled only to be overwritten.
    """
    options: dict[str, Any] = {"num_classes": recognised.classes}
    if recognised.image_size is not None:
        options["image_size"] = recognised.image_size
    network = _skeleton(recognised.name, options)
    if recognised.channels != RGB:
        _change_channels(network, known_architectures()[recognised.name].stem, recognised.channels)
    return network


def known_heads() -> tuple[str, ...]:
    """Return the names that a linear head has in torchvision's classifiers."""
    places = (head.rpartition(".")[0] for e in known_architectures().values() for head in e.heads)
    return tuple(dict.fromkeys(places))


def closest_build(name: str, shapes: Shapes) -> nn.Module:
    """Return the architecture ``name`` with as many classes as ``shapes`` has, where they tell."""
    heads = (shapes[head] for head in known_architectures()[name].heads if head in shapes)
    counts = [shape[0] for shape in heads if shape and shape[0] > 0]
    return build(Recognised(name, counts[0] if counts else IMAGENET_CLASSES))


def nearest(shapes: Shapes) -> str | None:
    """Return the architecture most like ``shapes`` by names and shapes, or None where none is."""
    likely = sorted(known_architectures(), key=lambda name: _distance(name, shapes))[:_CANDIDATES]
    like = {
        name: likeness(shapes_of(closest_build(name, shapes).state_dict()), shapes)
        for name in likely
    }
    best = max(likely, key=lambda name: like[name])
    return best if like[best] >= LEAST_LIKENESS else None


@cache
def known_architectures() -> Mapping[str, Entry]:
    """Return the index that ships with the package, by torchvision's names."""
    return TypeAdapter(dict[str, Entry]).validate_python(_index()["architectures"])


def indexed_torchvision() -> str:
    """Return the version of torchvision that the shipped index was made from."""
    return str(_index()["torchvision"])


def make_index() -> str:
    """Return the text of ``architectures.json`` for the installed torchvision."""
    ensure_torchvision()
    import torchvision

    names = torchvision.models.list_models(module=torchvision.models)
    index = {
        "torchvision": torchvision.__version__.partition("+")[0],
        "architectures": {name: asdict(_describe(name)) for name in names},
    }
    return json.dumps(index, indent=1) + "\n"


def require_known(name: str) -> None:
    """Raise UsageError, naming the known ones, where torchvision has no classifier ``name``."""
    if name not in known_architectures():
        raise unknown_name("torchvision classifier", name, known_architectures())


def _index() -> dict[str, Any]:
    content: dict[str, Any] = json.loads((files(__package__) / _INDEX).read_text("utf-8"))
    return content


def _describe(name: str) -> Entry:
    network = _skeleton(name, {"num_classes": UNUSUAL_CLASSES})
    shapes = shapes_of(network.state_dict())
    stem = next(key for key, module in network.named_modules() if isinstance(module, nn.Conv2d))
    entry = Entry(
        names=digest(sorted(shapes)),
        shapes="",
        tensors=len(shapes),
        top=tuple(sorted(tops(shapes))),
        heads=tuple(key for key, shape in shapes.items() if shape[:1] == (UNUSUAL_CLASSES,)),
        stem=stem,
    )
    return Entry(**{**asdict(entry), "shapes": digest(_open_shapes(shapes, entry))})


def _read(name: str, entry: Entry, shapes: Shapes) -> Recognised | None:
    stem = shapes[f"{entry.stem}.weight"]
    classes = {shapes[head][0] for head in entry.heads}
    positions = shapes[_POSITIONS][1] - 1 if _POSITIONS in shapes else 1
    side = math.isqrt(max(positions, 0))
    if len(classes) > 1 or side * side != positions:
        return None
    size = side * stem[-1] if _POSITIONS in shapes else None
    return Recognised(name, classes.pop(), stem[1], size)


def _open_shapes(shapes: Shapes, entry: Entry) -> list[str]:
    is_open = {(head, 0) for head in entry.heads} | {(f"{entry.stem}.weight", 1), (_POSITIONS, 1)}
    return open_shapes(shapes, is_open)


def open_shapes(shapes: Shapes, is_open: Collection[tuple[str, int]]) -> list[str]:
    """Return one line for each tensor, with a question mark for each (key, dimension) left open."""
    return [
        f"{key} {['?' if (key, i) in is_open else size for i, size in enumerate(shapes[key])]}"
        for key in sorted(shapes)
    ]


def digest(lines: Iterable[str]) -> str:
    """Return 128 bits of a SHA-256, which tell apart any number of architectures."""
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:32]


def _distance(name: str, shapes: Shapes) -> tuple[float, int]:
    entry = known_architectures()[name]
    return -shared(tops(shapes), entry.top), abs(entry.tensors - len(shapes))


def shared(some: Collection[str], others: Collection[str]) -> float:
    """Return the share of all names that is in both collections."""
    every = {*some, *others}
    return len(set(some) & set(others)) / len(every) if every else 0.0


def tops(shapes: Shapes) -> set[str]:
    """Return the names of the modules at the top of a network."""
    return {key.partition(".")[0] for key in shapes}


def _change_channels(network: nn.Module, stem: str, channels: int) -> None:
    old: Any = network.get_submodule(stem)
    new = nn.Conv2d(
        channels,
        old.out_channels,
        old.kernel_size,
        old.stride,
        old.padding,
        bias=old.bias is not None,
        device="meta",
    )
    network.set_submodule(stem, new)
    if hasattr(network, "transform_input"):
        network.transform_input = False  # type: ignore[assignment]


def _skeleton(name: str, options: Mapping[str, Any]) -> nn.Module:
    ensure_torchvision()
    from torchvision import models

    with Unfilled():
        network: nn.Module = models.get_model(
            name, weights=None, **_OPTIONS.get(name, {}), **options
        )
    return network


class Unfilled(TorchFunctionMode):
    """Put what layers allocate on the meta device, do not initialise it, compute the rest as usual.

    ``torch.device("meta")`` would not do: some architectures compute their widths with tensors.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        options = dict(kwargs or {})
        if func in INITIALISERS and args[0].is_meta:
            return args[0]
        if func in _ALLOCATORS and options.get("device") is None:
            options["device"] = "meta"
        return func(*args, **options)
