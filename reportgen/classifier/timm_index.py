"""Make the index of timm's classifiers that ships with the package.

Each network is planned several times without data: with an unusual number of classes, with other
input channels, for larger pictures. The dimensions that change are those a user may have changed.
"""

from __future__ import annotations

import json
import lzma
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, replace
from typing import Any

from reportgen.classifier.architectures import RGB, UNUSUAL_CLASSES, digest, tops
from reportgen.classifier.factories import require_timm
from reportgen.classifier.fitting import Shapes
from reportgen.classifier.timm_architectures import Family, open_lines, skeleton

_UNUSUAL_CHANNELS = 5

# A smaller first kernel than this is a stem, behind which the usual strides follow.
_LEAST_PATCH = 8
_STRIDES = 32


def make_index() -> bytes:
    """Return the content of ``timm_architectures.json.xz`` for the installed timm.

    The shapes of more than a thousand networks are worked out, in about a quarter of an hour.
    """
    timm = require_timm("an index")
    families = [asdict(family) for family in describe_families(timm.list_models())]
    text = json.dumps({"timm": timm.__version__, "families": families})
    return lzma.compress(text.encode(), preset=9)


def describe_families(names: Iterable[str]) -> list[Family]:
    """Return the families of the networks ``names``, their plainest member first.

    That is one whose weights timm publishes, of the shortest name. Encoders without a head are left
    out.
    """
    members: dict[str, dict[str, tuple[int, int]]] = defaultdict(dict)
    families: dict[str, Family] = {}
    for name in sorted(names, key=_plainness):
        family = _describe(name)
        if family is not None:
            key = json.dumps(asdict(replace(family, members={})), sort_keys=True)
            members[key].update(family.members)
            families[key] = family
    return [replace(family, members=members[key]) for key, family in families.items()]


def _describe(name: str) -> Family | None:
    shapes = skeleton(name, {"num_classes": UNUSUAL_CLASSES})
    heads = tuple(key for key in shapes if shapes[key][:1] == (UNUSUAL_CLASSES,))
    if not heads:
        return None
    side = _side(name)
    stems, sized = _stems(name, shapes), _sized(name, side, shapes)
    first = next(((key, places[0]) for key, places in sized.items()), None)
    family = Family(
        names=digest(sorted(shapes)),
        shapes="",
        tensors=len(shapes),
        parameters=sum(math.prod(s) for key, s in shapes.items() if key not in {*heads, *sized}),
        top=tuple(sorted(tops(shapes))),
        heads=heads,
        stems=stems,
        sized=sized,
        step=_step(shapes, stems) if sized else 0,
        members={name: (side, shapes[first[0]][first[1]] if first else 0)},
    )
    return replace(family, shapes=digest(open_lines(family, shapes)))


def _plainness(name: str) -> tuple[bool, int, str]:
    return not require_timm(name).is_model_pretrained(name), len(name), name


def _side(name: str) -> int:
    size = require_timm(name).get_pretrained_cfg(name).input_size
    return int(size[-1])


def _stems(name: str, shapes: Shapes) -> dict[str, tuple[int, int]]:
    other = skeleton(name, {"num_classes": UNUSUAL_CLASSES, "in_chans": _UNUSUAL_CHANNELS})
    return {key: (place, shapes[key][place] // RGB) for key, place in _changed(shapes, other)}


def _sized(name: str, side: int, shapes: Shapes) -> dict[str, tuple[int, ...]]:
    """Return the dimensions that grow with the picture."""
    grown = (_grown(name, larger, shapes) for larger in (2 * side, side + 32, side + 28))
    return next((found for found in grown if found), {})


def _step(shapes: Shapes, stems: Mapping[str, tuple[int, int]]) -> int:
    """Return how many pixels more make another position: a patch, or what strides come to."""
    for key, (_, each) in stems.items():
        patch = shapes[key][-1] if len(shapes[key]) == 4 else math.isqrt(each)
        if patch >= _LEAST_PATCH:
            return patch
    return _STRIDES


def _grown(name: str, side: int, shapes: Shapes) -> dict[str, tuple[int, ...]]:
    try:
        other = skeleton(name, {"num_classes": UNUSUAL_CLASSES, "img_size": side})
    except Exception:  # a size that the network cannot be built for, or no choice of it at all
        return {}
    grown: dict[str, tuple[int, ...]] = {}
    for key, place in _changed(shapes, other):
        grown[key] = (*grown.get(key, ()), place)
    return grown


def _changed(shapes: Shapes, other: Shapes) -> Iterator[tuple[str, int]]:
    for key, shape in shapes.items():
        there: Any = other.get(key, ())
        if len(there) == len(shape):
            yield from ((key, i) for i, size in enumerate(shape) if size != there[i])
