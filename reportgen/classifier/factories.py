"""Build the network that the option ``arch`` names: timm's, or one from the user's own code."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from torch import nn

from reportgen.classifier.fitting import Shapes, shapes_of
from reportgen.classifier.torchvision_operators import ensure_torchvision
from reportgen.errors import ModelError, UsageError

Factory = Callable[..., Any]

_CLASSES = "num_classes"

# How many classes to ask for where a factory insists on a number before the file has told it.
_PROBE_CLASSES = 1000


def build_from_factory(arch: str, shapes: Shapes) -> nn.Module:
    """Return the network that ``arch`` builds, with as many classes as ``shapes`` has.

    ``arch`` is ``timm:NAME`` or ``package.module:factory``; the module may lie in the working
    directory. The factory is called without arguments, or with ``num_classes`` where it takes it.
    Raises UsageError for another form, ModelError where nothing usable is built.
    """
    factory = _find(arch)
    takes_classes = _takes_classes(factory)
    network = _call(factory, arch, _PROBE_CLASSES if takes_classes == "must" else None)
    classes = _other_classes(shapes_of(network.state_dict()), shapes)
    if takes_classes and classes is not None:
        return _call(factory, arch, classes)
    return network


def require_timm(name: str) -> Any:
    """Return the library timm, or raise ModelError where the network ``name`` of it needs it."""
    ensure_torchvision()
    try:
        import timm
    except ImportError:
        raise ModelError(
            f"The architecture 'timm:{name}' needs timm, which is not installed; "
            "install it with: pip install 'reportgen[timm]'."
        ) from None
    return timm


@contextmanager
def importable_working_directory() -> Iterator[None]:
    """Let modules in the working directory be imported inside the block, as ``python -m`` does."""
    before = list(sys.path)
    sys.path.insert(0, str(Path.cwd()))
    try:
        yield
    finally:
        sys.path[:] = before


def _find(arch: str) -> Factory:
    place, colon, name = arch.partition(":")
    if not colon or not place or not name:
        raise UsageError(
            f"The architecture '{arch}' cannot be used; expected torchvision:NAME, timm:NAME or "
            "package.module:factory."
        )
    return _timm_factory(name) if place == "timm" else _user_factory(place, name)


def _timm_factory(name: str) -> Factory:
    timm = require_timm(name)

    def create(num_classes: int | None = None) -> Any:
        options = {} if num_classes is None else {_CLASSES: num_classes}
        return timm.create_model(name, pretrained=False, **options)

    return create


def _user_factory(place: str, name: str) -> Factory:
    ensure_torchvision()
    try:
        with importable_working_directory():
            factory = getattr(import_module(place), name, None)
    except (Exception, SystemExit) as error:
        raise ModelError(_failure(f"Importing '{place}'", error)) from None
    if factory is None:
        raise ModelError(f"The module '{place}' has no '{name}'; check the name after the colon.")
    if not callable(factory):
        raise ModelError(
            f"'{place}:{name}' is of type {type(factory).__name__} and cannot be called; name a "
            "function or class that returns the network."
        )
    return factory  # type: ignore[no-any-return]


def _takes_classes(factory: Factory) -> str:
    """Return "" where the factory takes no ``num_classes``, "can" or "must" where it does."""
    try:
        parameter = inspect.signature(factory).parameters.get(_CLASSES)
    except (TypeError, ValueError):
        return ""
    if parameter is None:
        return ""
    return "must" if parameter.default is inspect.Parameter.empty else "can"


def _call(factory: Factory, arch: str, classes: int | None) -> nn.Module:
    try:
        with importable_working_directory():
            network = factory() if classes is None else factory(num_classes=classes)
    except (Exception, SystemExit) as error:
        raise ModelError(_failure(f"Building '{arch}'", error)) from None
    if not isinstance(network, nn.Module):
        raise ModelError(
            f"'{arch}' returned an object of type {type(network).__name__}, and not a network "
            "(torch.nn.Module); name a function or class that does."
        )
    return network


def _other_classes(built: Shapes, given: Shapes) -> int | None:
    """Return the first dimension of the file's tensors where only that differs, the same in all."""
    pairs = [(given[k], built[k]) for k in built if k in given and given[k] != built[k]]
    counts = {there[0] for there, _ in pairs if there}
    only_first = all(there and there[1:] == here[1:] for there, here in pairs)
    return counts.pop() if only_first and len(counts) == 1 else None


def _failure(what: str, error: BaseException) -> str:
    first = next(iter(str(error).splitlines()), "").rstrip(".")
    reason = f"{type(error).__name__}: {first}" if first else type(error).__name__
    return f"{what} failed; correct it or name another architecture ({reason})."
