"""Turn a state dict into a network, with the architecture recognised or named by the user."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

from torch import nn

from reportgen.classifier.architectures import (
    Recognised,
    build,
    known_heads,
    recognise,
    require_known,
)
from reportgen.classifier.factories import build_from_factory
from reportgen.classifier.fitting import StateDict, load_weights, shapes_of
from reportgen.classifier.nearest import does_not_fit, unrecognised
from reportgen.classifier.prefixes import Variant, prefix_variants
from reportgen.classifier.state_dicts import Weights, in_float32, torchvision_names
from reportgen.classifier.timm_architectures import (
    TimmNetwork,
    build_timm,
    is_timm,
    recognise_timm,
    timm_heads,
)
from reportgen.errors import ModelError

_TORCHVISION = "torchvision"
_TIMM = "timm"
_SHOWN = 3

# The parts of networks that compare pictures with one another; their last layer tells no classes.
_CONTRASTIVE = (
    "encoder_q",
    "encoder_k",
    "base_encoder",
    "momentum_encoder",
    "online_encoder",
    "target_encoder",
)


@dataclass(frozen=True)
class Constructed:
    """A network with its weights; ``recognised`` is None for other than torchvision's.

    ``classes`` is None where only the user knows the architecture.
    """

    network: nn.Module
    architecture: str
    recognised: Recognised | None = None
    notes: tuple[str, ...] = ()
    classes: int | None = None


def construct(copies: Sequence[Weights], arch: str = "", named: str = "") -> Constructed:
    """Return the network of ``arch`` (see ``Config.arch``) or, without one, a known one that fits.

    The first of the ``copies`` that fits is used. torchvision comes before timm where both have the
    same names and shapes: those networks compute the same. ``named`` is what the file itself calls
    its architecture; it chooses among networks of timm that the weights fit alike. Raises
    ModelError where nothing fits, saying what comes nearest and what differs; UsageError for an
    ``arch`` that does not exist.
    """
    place, _, name = arch.partition(":")
    if place == _TORCHVISION:
        require_known(name)
    if place in ("", _TORCHVISION) or (place == _TIMM and is_timm(name)):
        made = _known(copies, arch, named)
        if made is not None:
            return made
    if place in ("", _TORCHVISION):
        raise _refusal(copies, name)
    return _from_factory(copies, arch)


def _known(copies: Sequence[Weights], arch: str, named: str) -> Constructed | None:
    for weights in copies:
        for variant in prefix_variants(weights.tensors, _heads()):
            made = _recognised(variant, weights, arch, named)
            if made is not None:
                return made
    return None


@cache
def _heads() -> tuple[str, ...]:
    return tuple(dict.fromkeys((*known_heads(), *timm_heads())))


def _recognised(variant: Variant, weights: Weights, arch: str, named: str) -> Constructed | None:
    place, _, name = arch.partition(":")
    tensors, notes = torchvision_names(variant.tensors)
    ours = recognise(shapes_of(tensors)) if place != _TIMM else None
    theirs = None
    if place != _TORCHVISION and (ours is None or _names_timm(named, ours)):
        theirs = recognise_timm(shapes_of(variant.tensors), name or named)
    if theirs is not None and (ours is None or theirs.name != ours.name) and _is(name, theirs.name):
        _check_use(variant, weights, f"{_TIMM}:{theirs.name}")
        return _filled_timm(theirs, variant, weights)
    if ours is None or not _is(name, ours.name):
        return None
    _check_use(variant, weights, f"{_TORCHVISION}:{ours.name}")
    return _filled(ours, tensors, (*weights.notes, *_reading_notes(variant), *notes))


def _names_timm(named: str, ours: Recognised) -> bool:
    return is_timm(named) and named.partition(".")[0] != ours.name


def _is(wanted: str, name: str) -> bool:
    return wanted.partition(".")[0] in ("", name)


def _check_use(variant: Variant, weights: Weights, architecture: str) -> None:
    """Raise ModelError where the tensors are of a known network, but maybe not the whole of one."""
    if any(part in variant.prefix.split(".") for part in _CONTRASTIVE):
        raise ModelError(
            f"'{weights.origin}' holds {architecture} as an encoder of self-supervised training "
            f"('{variant.prefix}'), whose last layer tells no classes; give the classifier that "
            "was trained from it."
        )
    strange = variant.strange()
    if strange and not weights.wanted:
        raise ModelError(
            f"'{weights.origin}' holds {architecture} under '{variant.prefix}', but beside it "
            f"{_few(strange)}, which may take part in a prediction; name the whole architecture "
            f"with --arch package.module:factory, or give --weights {variant.prefix[:-1]} to leave "
            "the others out."
        )


def _reading_notes(variant: Variant) -> tuple[str, ...]:
    notes = []
    if variant.head:
        notes.append(f"The layer '{variant.head}' of the file was taken for the network's head.")
    if variant.others:
        notes.append(
            f"The tensors under '{variant.prefix}' were used; {_few(tuple(variant.others))} beside "
            "them took no part."
        )
    return tuple(notes)


def _few(names: tuple[str, ...]) -> str:
    more = ", ..." if len(names) > _SHOWN else ""
    return f"{len(names)} other{'s' * (len(names) > 1)} ({', '.join(names[:_SHOWN])}{more})"


def _filled(recognised: Recognised, tensors: StateDict, notes: tuple[str, ...]) -> Constructed:
    network = build(recognised)
    converted, changed = in_float32(tensors)
    load_weights(network, converted, assign=True)
    architecture = f"{_TORCHVISION}:{recognised.name}"
    return Constructed(network, architecture, recognised, (*notes, *changed), recognised.classes)


def _filled_timm(found: TimmNetwork, variant: Variant, weights: Weights) -> Constructed:
    network = build_timm(found)
    tensors, changed = in_float32(variant.tensors)
    load_weights(network, tensors, assign=True)
    notes = (*weights.notes, *_reading_notes(variant), *changed, *_twin_notes(found))
    return Constructed(network, f"{_TIMM}:{found.name}", None, notes, found.classes)


def _twin_notes(found: TimmNetwork) -> tuple[str, ...]:
    if not found.others:
        return ()
    more = ", ..." if len(found.others) > _SHOWN else ""
    return (
        f"The weights fit {len(found.others)} more of timm's architectures "
        f"({', '.join(found.others[:_SHOWN])}{more}), which may compute otherwise; --arch "
        "timm:NAME chooses another.",
    )


def _refusal(copies: Sequence[Weights], wanted: str) -> ModelError:
    readings = [variant for weights in copies for variant in prefix_variants(weights.tensors)]
    origin = copies[0].origin
    return does_not_fit(origin, readings, wanted) if wanted else unrecognised(origin, readings)


def _from_factory(copies: Sequence[Weights], arch: str) -> Constructed:
    readings = [(weights, variant) for weights in copies for variant in _readings(weights)]
    # Under all prefixes at once: which of them the network has is not known before.
    network = build_from_factory(arch, dict(ChainMap(*(shapes_of(v.tensors) for _, v in readings))))
    wanted = shapes_of(network.state_dict())
    weights, variant = max(
        readings, key=lambda reading: len(wanted.keys() & shapes_of(reading[1].tensors).keys())
    )
    tensors, notes = in_float32(variant.tensors)
    try:
        load_weights(network, tensors)
    except ModelError as error:
        raise ModelError(
            f"'{weights.origin}' holds a state dict of {len(shapes_of(tensors))} tensors that does "
            f"not fit '{arch}', with {error}; name the architecture it was saved from."
        ) from None
    return Constructed(network, arch, notes=(*weights.notes, *_reading_notes(variant), *notes))


def _readings(weights: Weights) -> Iterator[Variant]:
    return prefix_variants(weights.tensors)
