"""Where a report came from: versions, device, seeds, determinism, and what each stage cost."""

from __future__ import annotations

import platform
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import PackageNotFoundError, version

from reportgen.records import Passes

PACKAGES = (
    "captum", "grad-cam", "lime", "matplotlib", "numpy", "pillow", "scikit-image", "scipy",
    "shap", "torch", "torchvision", "weasyprint",
)  # fmt: skip

OPTIONAL = ("onnx2torch", "onnxruntime", "timm", "transformers")
"""Packages that open some models; of no influence on the reports of others."""

Counts = Callable[[], tuple[int, int]]


@dataclass
class Ledger:
    """Counts what each stage sends through the network, and how long it takes.

    ``counts`` returns the images sent forward and backward so far; ``started`` hears the name of
    each stage as it begins.
    """

    started: Callable[[str], None]
    counts: Counts = lambda: (0, 0)
    passes: list[Passes] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Book everything that happens inside, also where it ends in an error."""
        self.started(name)
        before, start = self.counts(), time.perf_counter()
        try:
            yield
        finally:
            after = self.counts()
            forward, backward = (b - a for a, b in zip(before, after, strict=True))
            self.passes.append(Passes(stage=name, forward=forward, backward=backward))
            self.seconds[name] = time.perf_counter() - start


def package_versions() -> dict[str, str]:
    """Return the versions of the packages that decide a report's numbers and looks."""
    names = (*PACKAGES, *(name for name in OPTIONAL if name in sys.modules))
    return {name: found for name in sorted(names) if (found := _version(name))}


def own_version() -> str:
    """Return reportgen's own version."""
    return _version("reportgen") or "unknown"


def python_version() -> str:
    """Return the version of Python."""
    return platform.python_version()


def machine() -> str:
    """Return operating system and processor family."""
    return f"{platform.system()} {platform.machine()}"


@cache
def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
