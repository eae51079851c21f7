"""Make torchvision importable where its compiled part does not fit the installed PyTorch.

A CPU build of PyTorch beside a torchvision wheel built for CUDA is common on CI machines. There
``import torchvision`` fails with "operator torchvision::nms does not exist", although its networks
and transforms need no compiled operator at all. Declaring the two operators that the import looks
up is enough; they have no implementation, and calling one still fails.
"""

from __future__ import annotations

import sys
from functools import cache
from importlib.machinery import PathFinder
from importlib.util import find_spec
from pathlib import Path

import torch

_OPERATORS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)


def ensure_torchvision() -> None:
    """Declare torchvision's missing operators; call it before anything that imports torchvision.

    It changes nothing where torchvision is healthy, already imported or not installed, and may be
    called any number of times.
    """
    if "torchvision" in sys.modules or hasattr(torch.ops.torchvision, "nms"):
        return
    spec = find_spec("torchvision")
    if spec is not None and spec.origin is not None and not _library_loads(Path(spec.origin)):
        _declared_operators()


def _library_loads(package_file: Path) -> bool:
    library = PathFinder.find_spec("_C", [str(package_file.parent)])
    if library is None or library.origin is None:
        return False
    try:
        torch.ops.load_library(library.origin)  # type: ignore[no-untyped-call]
    except OSError:
        return False
    return True


@cache
def _declared_operators() -> torch.library.Library:
    # Cached because the operators vanish again with the Library object that declared them.
    library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
    for schema in _OPERATORS:
        library.define(schema)  # type: ignore[no-untyped-call]
    return library
