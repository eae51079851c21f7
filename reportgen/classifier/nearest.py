"""Say of a state dict that fits no known architecture which comes nearest, and what differs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from reportgen.classifier.architectures import (
    LEAST_LIKENESS,
    closest_build,
    known_architectures,
    nearest,
    shared,
    tops,
)
from reportgen.classifier.fitting import Shapes, compare, likeness, shapes_of
from reportgen.classifier.prefixes import Variant
from reportgen.classifier.timm_architectures import heads_of, known_families, nearest_timm
from reportgen.classifier.transformers_names import look_alike
from reportgen.errors import ModelError

_ADVICE = (
    "name its architecture with --arch: torchvision:NAME, timm:NAME, or package.module:factory "
    "for a function of your own code that returns the network"
)
_SHOWN = 3


@dataclass(frozen=True)
class Near:
    """A known architecture with its shapes; ``heads`` are its tensors that tell the classes."""

    architecture: str
    shapes: Shapes
    heads: tuple[str, ...]


def unrecognised(origin: str, readings: Sequence[Variant]) -> ModelError:
    """Return the error for a state dict that fits nothing known under any of its ``readings``."""
    alike = next(filter(None, (look_alike(each.tensors) for each in readings)), "")
    if alike:
        return _of_transformers(origin, alike)
    best = max(readings, key=_familiar)
    given = shapes_of(best.tensors)
    near = _nearest(given)
    start = f"'{origin}' holds a state dict of {len(shapes_of(readings[0].tensors))} tensors that "
    if near is None:
        names = ", ".join(list(given)[:_SHOWN])
        return ModelError(
            f"{start}fits no known architecture, nor nearly ({names}, ...); {_ADVICE}."
        )
    misfit = compare(near.shapes, given)
    if misfit.missing and set(misfit.missing) <= set(near.heads) and not misfit.reshaped:
        return ModelError(_without_head(origin, near, misfit.missing))
    return ModelError(
        f"{start}fits no known architecture; nearest is {near.architecture}, with {misfit}; "
        f"{_ADVICE}."
    )


def does_not_fit(origin: str, readings: Sequence[Variant], name: str) -> ModelError:
    """Return the error for a state dict that is not of torchvision's network ``name``."""
    givens = [shapes_of(reading.tensors) for reading in readings]
    near = _torchvision(name, givens[0])
    given = max(givens, key=lambda shapes: likeness(near.shapes, shapes))
    return ModelError(
        f"'{origin}' holds a state dict of {len(given)} tensors that does not fit "
        f"{near.architecture}, with {compare(near.shapes, given)}; {_ADVICE}."
    )


def _familiar(reading: Variant) -> tuple[float, int]:
    """Return how much its top is like that of some known network, and its size."""
    top = tops(shapes_of(reading.tensors))
    known = [entry.top for entry in known_architectures().values()]
    known += [family.top for family in known_families()]
    return max(shared(top, other) for other in known), len(reading.tensors)


def _nearest(given: Shapes) -> Near | None:
    name = nearest(given)
    found = [] if name is None else [_torchvision(name, given)]
    found += _timm(given)
    best = max(found, key=lambda near: likeness(near.shapes, given), default=None)
    return best if best and likeness(best.shapes, given) >= LEAST_LIKENESS else None


def _torchvision(name: str, given: Shapes) -> Near:
    shapes = shapes_of(closest_build(name, given).state_dict())
    return Near(f"torchvision:{name}", shapes, known_architectures()[name].heads)


def _timm(given: Shapes) -> list[Near]:
    try:
        found = nearest_timm(given)
    except ModelError:  # without timm the nearest of torchvision is named
        return []
    if found is None:
        return []
    network, shapes = found
    return [Near(f"timm:{network.name}", shapes, heads_of(network.name))]


def _of_transformers(origin: str, name: str) -> ModelError:
    return ModelError(
        f"'{origin}' holds a state dict that looks like transformers' {name}, whose configuration "
        "is not in the file; give the folder that save_pretrained wrote (with config.json), or "
        "name its architecture with --arch package.module:factory."
    )


def _without_head(origin: str, near: Near, missing: tuple[str, ...]) -> str:
    return (
        f"'{origin}' holds {near.architecture} without its classification head "
        f"({', '.join(missing[:_SHOWN])}), as self-supervised training leaves it, and so has no "
        "classes to explain; give the classifier that was trained from it, or, where it has a head "
        "of another kind, name its architecture with --arch package.module:factory."
    )
