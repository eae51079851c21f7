"""Recognise timm's classifiers by the names and shapes in a state dict, and build them.

``timm_architectures.json.xz`` groups all classifiers of timm into families that share names and
shapes. Left open are the numbers of classes and of input channels, and what grows with the side of
the picture (positions, tables of relative positions). Members of a family differ only in what
leaves no trace in a state dict: the size of the picture, padding, activations, the training data.
Which of them a file was saved from only the file can say; else the plainest is taken.

Reading the index does not import timm; building does.
"""

from __future__ import annotations

import json
import lzma
import math
import re
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from typing import Any

import torch
from pydantic import TypeAdapter
from torch import nn
from torch.overrides import TorchFunctionMode

from reportgen.classifier.architectures import (
    IMAGENET_CLASSES,
    INITIALISERS,
    RGB,
    Unfilled,
    digest,
    open_shapes,
    shared,
    tops,
)
from reportgen.classifier.factories import require_timm
from reportgen.classifier.fitting import Shapes, likeness, shapes_of

INDEX = "timm_architectures.json.xz"

_CANDIDATES = 6
_LEAST_COMMON = 0.25


@dataclass(frozen=True)
class Family:
    """Networks of timm with one state dict: two digests, and the dimensions left open.

    ``stems`` holds for each tensor that meets the input its open dimension and how many of its
    places are one channel; ``sized`` the dimensions that grow with the picture, as soon as its side
    grows by ``step`` pixels. ``members`` holds for each name the side of its pictures and how large
    the first of those dimensions then is; the plainest is first: one whose weights timm publishes,
    of the shortest name.
    """

    names: str
    shapes: str
    tensors: int
    parameters: int
    top: tuple[str, ...]
    heads: tuple[str, ...]
    stems: Mapping[str, tuple[int, int]]
    sized: Mapping[str, tuple[int, ...]]
    step: int
    members: Mapping[str, tuple[int, int]]


@dataclass(frozen=True)
class TimmNetwork:
    """A classifier of timm and the choices its shapes tell.

    ``side`` is that of the square pictures in pixels, or None where it is the member's own;
    ``others`` are the members of the family that fit as well; ``tag`` is timm's word for the
    weights that these are, or came from, where it is known.
    """

    name: str
    classes: int
    channels: int = RGB
    side: int | None = None
    others: tuple[str, ...] = ()
    tag: str = ""


def recognise_timm(shapes: Shapes, named: str = "") -> TimmNetwork | None:
    """Return the classifier of timm whose state dict has these ``shapes``, or None.

    Where several have, that one is chosen whose name ``named`` starts with, else the plainest.
    Batch counters must be left out. Raises ModelError where timm is needed to tell the size of the
    pictures, and is not installed.
    """
    names = digest(sorted(shapes))
    for family in known_families():
        if family.names == names and family.shapes == digest(open_lines(family, shapes)):
            return _read(family, shapes, named)
    return None


def build_timm(found: TimmNetwork) -> nn.Module:
    """Return the network without its weights: they follow by ``load_weights(..., assign=True)``.

    Raises ModelError where timm is not installed.
    """
    timm, options = require_timm(found.name), _options(found)
    tagged = f"{found.name}.{found.tag}"
    name = tagged if timm.is_model_pretrained(tagged) else found.name
    if found.side is not None:
        size = (found.channels, found.side, found.side)
        options["pretrained_cfg_overlay"] = {"input_size": size}
    # Some networks make their positions of random numbers, which are not to be taken from others.
    with torch.random.fork_rng(devices=()), _Unset():
        network: nn.Module = timm.create_model(name, pretrained=False, **options)
    return network


def nearest_timm(shapes: Shapes) -> tuple[TimmNetwork, Shapes] | None:
    """Return the member most like ``shapes``, and its own shapes; None where none is.

    Raises ModelError where timm is not installed.
    """
    near = [family for family in known_families() if _common(family, shapes) >= _LEAST_COMMON]
    likely = sorted(near, key=lambda family: _distance(family, shapes))[:_CANDIDATES]
    found = [_closest(family, shapes) for family in likely]
    plans = [(network, skeleton(network.name, _options(network))) for network in found]
    return max(plans, key=lambda plan: likeness(plan[1], shapes), default=None)


def heads_of(name: str) -> tuple[str, ...]:
    """Return the tensors of a member whose first dimension is the number of classes."""
    return next(family.heads for family in known_families() if name in family.members)


@cache
def timm_heads() -> tuple[str, ...]:
    """Return the names that a head has in timm's classifiers."""
    places = (head.rpartition(".")[0] for family in known_families() for head in family.heads)
    return tuple(dict.fromkeys(places))


def is_timm(name: str) -> bool:
    """Return whether the index knows ``name``, with or without the tag of its weights."""
    plain = name.partition(".")[0]
    return any(plain in family.members for family in known_families())


@cache
def known_families() -> tuple[Family, ...]:
    """Return the index that ships with the package."""
    return TypeAdapter(tuple[Family, ...]).validate_python(_index()["families"])


def indexed_timm() -> str:
    """Return the version of timm that the shipped index was made from."""
    return str(_index()["timm"])


def skeleton(name: str, options: Mapping[str, Any]) -> Shapes:
    """Return the shapes of timm's network ``name``, of which only the plan is built."""
    timm = require_timm(name)
    with Unfilled():
        network = timm.create_model(name, pretrained=False, **options)
    return shapes_of(network.state_dict())


def open_lines(family: Family, shapes: Shapes) -> list[str]:
    """Return one line for each tensor, without the sizes that the family leaves open."""
    heads = [(key, 0) for key in family.heads]
    stems = [(key, dimension) for key, (dimension, _) in family.stems.items()]
    sized = [(key, number) for key, numbers in family.sized.items() for number in numbers]
    return open_shapes(shapes, {*heads, *stems, *sized})


def _index() -> dict[str, Any]:
    packed = (files(__package__) / INDEX).read_bytes()
    content: dict[str, Any] = json.loads(lzma.decompress(packed))
    return content


def _read(family: Family, shapes: Shapes, named: str) -> TimmNetwork | None:
    classes = {shapes[head][0] for head in family.heads}
    channels = {shapes[key][place] / each for key, (place, each) in family.stems.items()} or {RGB}
    if len(classes) != 1 or len(channels) != 1 or not all(count >= 1 for count in channels):
        return None
    fitting, called = _fitting(family, shapes), _called(named, family)
    names = [called, *fitting] if called else fitting
    network = TimmNetwork(names[0], classes.pop(), int(channels.pop()))
    found = _sized(network, names, family, shapes)
    if found is None:
        return None
    plain, _, tag = named.partition(".")
    if plain == found.name:
        return replace(found, tag=tag)
    return replace(found, others=tuple(sorted({*fitting} - {found.name})))


def _called(named: str, family: Family) -> str:
    """Return the longest name of a member that ``named`` starts with; empty where there is none."""
    starts = [name for name in family.members if re.match(rf"{name}(?![a-z0-9])", named)]
    return max(starts, key=len, default="")


def _fitting(family: Family, shapes: Shapes) -> list[str]:
    """Return the members made for pictures of this size, plainest first; all where none is."""
    if not family.sized:
        return list(family.members)
    grown = _grown(family, shapes)
    return [n for n, (_, own) in family.members.items() if own == grown] or list(family.members)


def _grown(family: Family, shapes: Shapes) -> int:
    key, places = next(iter(family.sized.items()))
    return shapes[key][places[0]]


def _sized(
    network: TimmNetwork, names: Sequence[str], family: Family, shapes: Shapes
) -> TimmNetwork | None:
    """Return the network under the first of ``names`` that has these shapes at some size."""
    if not family.sized or _grown(family, shapes) == family.members[network.name][1]:
        return network
    tried = (_with_side(replace(network, name=name), family, shapes) for name in names)
    return next((found for found in tried if found is not None), None)


def _with_side(found: TimmNetwork, family: Family, shapes: Shapes) -> TimmNetwork | None:
    """Return the network with the side of the pictures that gives it these shapes, else None."""

    def grown(side: int) -> int:
        return _grown(family, skeleton(found.name, _options(replace(found, side=side))))

    wanted, (own, usual) = _grown(family, shapes), family.members[found.name]
    # Positions grow with the square of the side, so that it is near this.
    near = own * math.sqrt(wanted / usual)
    sides = range(own % family.step or family.step, math.ceil(2 * near) + 1, family.step)
    place = bisect_left(sides, wanted, key=grown)
    if place == len(sides) or grown(sides[place]) != wanted:
        return None
    return replace(found, side=sides[place])


def _options(network: TimmNetwork) -> dict[str, Any]:
    options: dict[str, Any] = {"num_classes": network.classes}
    if network.channels != RGB:
        options["in_chans"] = network.channels
    if network.side is not None:
        options["img_size"] = network.side
    return options


def _closest(family: Family, shapes: Shapes) -> TimmNetwork:
    counts = [shapes[head][0] for head in family.heads if shapes.get(head)]
    known = set(family.sized) <= shapes.keys()
    name = _fitting(family, shapes)[0] if known else next(iter(family.members))
    return TimmNetwork(name, counts[0] if counts else IMAGENET_CLASSES)


def _common(family: Family, shapes: Shapes) -> float:
    return shared(tops(shapes), family.top)


def _distance(family: Family, shapes: Shapes) -> tuple[float, int, float]:
    given = sum(math.prod(shape) for shape in shapes.values())
    width = abs(math.log(max(given, 1) / family.parameters))
    return -_common(family, shapes), abs(family.tensors - len(shapes)), width


class _Unset(TorchFunctionMode):
    """Leave parameters as they are allocated, and compute the rest as usual.

    Unlike torchvision's, timm's networks keep tables that no file holds, so that they cannot be
    built without data.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func in INITIALISERS and isinstance(args[0], nn.Parameter):
            return args[0]
        return func(*args, **(kwargs or {}))
