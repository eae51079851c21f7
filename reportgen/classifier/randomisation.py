"""The network with some of its weights drawn anew, in place, for as long as a check needs it.

Paper: Adebayo et al., Sanity Checks for Saliency Maps, NeurIPS 2018 (arXiv 1810.03292). Unlike
there, each weight is drawn from a normal distribution with its tensor's own mean and standard
deviation, which needs no initialiser and so serves every architecture and file format; and running
statistics are estimated anew, because stale ones make the outputs explode or all alike.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from reportgen.classifier.black_box import BlackBox, closed
from reportgen.classifier.classifier import Classifier
from reportgen.classifier.running_statistics import Kept, estimate, unoptimised
from reportgen.classifier.severed import tensors_among
from reportgen.errors import NotApplicable

Draws = Callable[[str], torch.Generator]

STALE = "running statistics that could not be estimated anew stayed as they were"
_STATISTICS = "running_mean"
_NORMALISING = {
    "batch_norm",
    "instance_norm",
    "layer_norm",
    "group_norm",
    "rms_norm",
    "native_layer_norm",
    "native_group_norm",
    "native_batch_norm",
    "_native_batch_norm_legit_no_training",
}
_NORMALISING_KIND = re.compile(r"Norm(\dd)?$")
_BEFORE = -1  # the place in the pass of a parameter that nothing is known of


@dataclass(frozen=True)
class Stage:
    """Weights that are drawn anew together, named in the order in which a forward pass uses them.

    ``statistics`` are the running means that are used after the first of these weights: what
    reaches them changes with the weights.
    """

    weights: tuple[str, ...]
    statistics: tuple[str, ...]

    @property
    def title(self) -> str:
        """The modules of the first and the last of the weights."""
        ends = [_path(name) or name for name in (self.weights[0], self.weights[-1])]
        return " to ".join(dict.fromkeys(ends))


def stages(classifier: Classifier, pixels: Tensor, count: int) -> tuple[Stage, ...]:
    """Return all weights in at most ``count`` stages, from the network's output back to its input.

    The order is that in which one pass of pixels (C, H, W) first uses each parameter. One that is
    not seen in use follows those registered before it. Scales and shifts of normalisation layers
    belong to no stage. Raises NotApplicable for a network without weights, or without access to
    them.
    """
    evaluator = classifier.evaluator
    if isinstance(evaluator.network, BlackBox):
        raise closed(evaluator.network)
    uses = evaluator.watch(pixels[None], lambda batch: _uses(evaluator.network, batch))
    units = _units(evaluator.network, uses)
    if not units:
        raise NotApplicable(
            "the model holds no weights that could be drawn anew; a frozen program has made "
            "constants of them"
        )
    statistics = [
        (uses.calls.get(id(tensor), math.inf), name)
        for name, tensor in _statistics(evaluator.network).items()
    ]
    parts = min(count, len(units))
    edges = [len(units) * part // parts for part in range(parts + 1)]
    return tuple(
        _stage(units[low:high], statistics) for low, high in reversed(list(pairwise(edges)))
    )


@contextmanager
def randomised(
    classifier: Classifier, chosen: Iterable[Stage], draws: Draws, copies: Tensor
) -> Iterator[str]:
    """Draw the weights of the ``chosen`` stages anew, and put every tensor back bit for bit.

    ``draws(name)`` is the generator for the parameter of that name: a stream of its own, so that
    tensors of one shape do not get the same values. Where running statistics follow, these are set
    to those of one pass over ``copies`` (n, C, H, W), two or more versions of the picture. Yields
    what could not be done, "" if nothing.
    """
    stages_, network = tuple(chosen), classifier.evaluator.network
    parameters, found = dict(network.named_parameters()), _statistics(network)
    weights = {name: parameters[name] for stage in stages_ for name in stage.weights}
    wanted = [found[name] for name in {n: None for stage in stages_ for n in stage.statistics}]
    with classifier.evaluator.altered(), Kept() as kept:
        for weight in weights.values():
            kept.keep(weight)
        for name, weight in weights.items():
            _redraw(weight, draws(name))
        done = not wanted or estimate(classifier.evaluator, wanted, copies, kept)
        yield "" if done else STALE


class _Uses:
    """Notes when each watched tensor is first among the arguments of a function, and of which."""

    def __init__(self, watched: Iterable[Tensor]) -> None:
        self._watched = {id(tensor) for tensor in watched}
        self.calls: dict[int, int] = {}
        self.functions: dict[int, str] = {}
        self._count = 0

    def note(self, function: Any, arguments: object) -> None:
        """Count a call, and look for the tensors among its arguments."""
        self._count += 1
        for tensor in tensors_among(arguments):
            if id(tensor) in self._watched and id(tensor) not in self.calls:
                self.calls[id(tensor)] = self._count
                self.functions[id(tensor)] = _name(function)


class _Functions(TorchFunctionMode):
    """Watches what Python code calls, and the nodes of a graph."""

    def __init__(self, uses: _Uses) -> None:
        super().__init__()
        self._uses = uses

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        # Asking for a shape or a device is no use; asking for the transposed weight is one.
        if _name(func) != "__get__" or isinstance(result, Tensor):
            self._uses.note(func, [args, kwargs])
        return result


class _Operators(TorchDispatchMode):
    """Watches the operators that run, in TorchScript too, where a layer may be several of them."""

    def __init__(self, uses: _Uses) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._uses = uses

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self._uses.note(func, [args, kwargs])
        return func(*args, **(kwargs or {}))


def _name(function: Any) -> str:
    return str(getattr(function, "__name__", "")).partition(".")[0]


def _uses(network: nn.Module, batch: Tensor) -> _Uses:
    uses = _Uses([*network.parameters(), *network.buffers()])
    watching = _Operators(uses) if _is_script(network) else _Functions(uses)
    with torch.no_grad(), unoptimised(), watching:
        network(batch)
    return uses


def _is_script(network: nn.Module) -> bool:
    return isinstance(network, torch.jit.ScriptModule)


@dataclass(frozen=True)
class _Unit:
    """Weights of one function, or of one module where none is seen, and when they are used."""

    call: int
    weights: tuple[str, ...]


def _units(network: nn.Module, uses: _Uses) -> list[_Unit]:
    """Return the weights in the order of use; tied ones once, by their first name."""
    placed: list[tuple[int, str, str]] = []
    call, modules, script = _BEFORE, dict(network.named_modules()), _is_script(network)
    for name, parameter in network.named_parameters():
        call = uses.calls.get(id(parameter), call)
        known = id(parameter) in uses.calls and not script
        normalises = uses.functions.get(id(parameter)) in _NORMALISING
        if not known:
            normalises = normalises or _is_normalisation(modules[_path(name)])
        if parameter.is_floating_point() and not normalises:
            placed.append((call, "" if known else _path(name), name))
    placed.sort(key=lambda place: place[0])
    return [
        _Unit(unit[0][0], tuple(name for *_, name in unit))
        for unit in (list(group) for _, group in groupby(placed, key=_function_or_module))
    ]


def _function_or_module(place: tuple[int, str, str]) -> tuple[int, str]:
    call, path, _ = place
    return (_BEFORE, path) if path else (call, "")


def _is_normalisation(module: nn.Module) -> bool:
    kind = str(getattr(module, "original_name", type(module).__name__))
    return bool(_NORMALISING_KIND.search(kind))


def _stage(units: list[_Unit], statistics: list[tuple[float, str]]) -> Stage:
    return Stage(
        weights=tuple(name for unit in units for name in unit.weights),
        statistics=tuple(name for call, name in statistics if call > units[0].call),
    )


def _statistics(network: nn.Module) -> dict[str, Tensor]:
    """Return the running means of the network, by name."""
    return {
        name: buffer
        for name, buffer in network.named_buffers()
        if name.rpartition(".")[2] == _STATISTICS
    }


def _redraw(weight: Tensor, generator: torch.Generator) -> None:
    values = weight.detach().cpu().double()
    mean = values.mean()
    # In half the time of torch.std_mean, which reads the values one by one.
    deviation = (values - mean).square_().mean().sqrt()
    drawn = torch.randn(weight.shape, generator=generator)
    with torch.no_grad():
        weight.copy_(mean + deviation * drawn)


def _path(name: str) -> str:
    return name.rpartition(".")[0]
