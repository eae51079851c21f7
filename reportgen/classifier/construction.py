"""Turn a state dict into a network, with the architecture recognised or named by the user."""

from __future__ import annotations

from collections import ChainMap
from dataclasses import dataclass

from torch import nn

from reportgen.classifier.architectures import (
    Recognised,
    build,
    closest_build,
    nearest,
    recognise,
    require_known,
)
from reportgen.classifier.factories import build_from_factory
from reportgen.classifier.fitting import Shapes, StateDict, compare, load_weights, shapes_of
from reportgen.classifier.state_dicts import Weights, prefix_variants, torchvision_names
from reportgen.errors import ModelError

_TORCHVISION = "torchvision"
_RENORMALISING = ("googlenet", "inception_v3")


@dataclass(frozen=True)
class Constructed:
    """A network with its weights; ``recognised`` is None for other than torchvision's."""

    network: nn.Module
    architecture: str
    recognised: Recognised | None = None
    notes: tuple[str, ...] = ()


def construct(weights: Weights, arch: str = "") -> Constructed:
    """Return the network of ``arch`` (see ``Config.arch``) or, without one, of torchvision.

    Raises ModelError where no architecture fits the weights, saying which comes nearest and what
    differs; UsageError for an ``arch`` that does not exist.
    """
    place, _, name = arch.partition(":")
    if arch and place != _TORCHVISION:
        return _from_factory(weights, arch)
    if arch:
        require_known(name)
    return _from_torchvision(weights, name)


def _from_torchvision(weights: Weights, wanted: str) -> Constructed:
    for variant in prefix_variants(weights.tensors):
        tensors, notes = torchvision_names(variant)
        recognised = recognise(shapes_of(tensors))
        if recognised is not None and wanted in ("", recognised.name):
            return _filled(recognised, tensors, (*weights.notes, *notes))
    raise _unrecognised(weights.origin, shapes_of(tensors), wanted)


def _filled(recognised: Recognised, tensors: StateDict, notes: tuple[str, ...]) -> Constructed:
    network = build(recognised)
    load_weights(network, tensors, assign=True)
    if recognised.name in _RENORMALISING:
        notes = (*notes, _renormalising_note(recognised.name))
    return Constructed(network, f"{_TORCHVISION}:{recognised.name}", recognised, notes)


def _renormalising_note(name: str) -> str:
    return (
        f"{name} was built to re-normalise its input (transform_input), as torchvision's published "
        "weights need; the file does not say whether these weights do."
    )


def _unrecognised(origin: str, shapes: Shapes, wanted: str) -> ModelError:
    name = wanted or nearest(shapes)
    start = f"'{origin}' holds a state dict of {len(shapes)} tensors that "
    if name is None:
        return ModelError(f"{start}fits no known architecture, nor nearly; {_advice()}.")
    fits = (
        f"does not fit {_TORCHVISION}:{name}"
        if wanted
        else (f"fits no known architecture; nearest is {_TORCHVISION}:{name}")
    )
    misfit = compare(shapes_of(closest_build(name, shapes).state_dict()), shapes)
    return ModelError(f"{start}{fits}, with {misfit}; {_advice()}.")


def _advice() -> str:
    return "name its architecture with --arch package.module:factory, timm:NAME or torchvision:NAME"


def _from_factory(weights: Weights, arch: str) -> Constructed:
    variants = [(tensors, shapes_of(tensors)) for tensors in prefix_variants(weights.tensors)]
    # With and without prefixes at once: which of them the network has is not known before.
    network = build_from_factory(arch, dict(ChainMap(*(shapes for _, shapes in variants))))
    wanted = shapes_of(network.state_dict())
    tensors, shapes = max(variants, key=lambda variant: len(wanted.keys() & variant[1].keys()))
    try:
        load_weights(network, tensors)
    except ModelError as error:
        raise ModelError(
            f"'{weights.origin}' holds a state dict of {len(shapes)} tensors that does not fit "
            f"'{arch}', with {error}; name the architecture it was saved from."
        ) from None
    return Constructed(network, arch, notes=weights.notes)
