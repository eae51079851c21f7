"""Reading an inner activation of a network: of an eager module, an exported graph, a script.

Each kind offers three things: ``shapes`` runs a batch once and lists the activations in the
order in which they are made; ``tap`` returns a callable that runs the network and gives the output
and one named activation, so that gradients can be taken with respect to it; and ``resume`` returns
one that runs what follows a named activation, with another in its place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.overrides import TorchFunctionMode

from reportgen.classifier.evaluator import Resume, Resumed
from reportgen.classifier.script_taps import ScriptTaps, Shape, Tapped

Place = tuple[str, str]  # the path of a module ("" for the network itself) and a name of its own
_ROUNDING = 1e-4


class ModuleTaps:
    """Activations of an eager module: what its tensor functions return, by module path.

    Watching functions rather than modules also sees what a forward computes by itself, such as a
    ReLU between two modules. A path stands for the last tensor made inside that module; any other
    tensor is called after its function as well.
    """

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self._known: dict[str, int] = {}

    def shapes(self, batch: Tensor) -> list[tuple[str, Shape]]:
        """Return (name, shape) of each activation, in the order in which they are made."""
        found: list[Shape] = []
        places: list[Place] = []
        path: list[str] = [""]

        def note(call: int, function: str, tensor: Tensor) -> Tensor:
            places.append((path[-1], f"{function}_{call}"))
            found.append(tuple(tensor.shape))
            return tensor

        with _followed(self.network, path), _Functions(note):
            # With a gradient wanted, fused transformer kernels, which call no function of their
            # parts, stay off.
            self.network(batch.detach().requires_grad_())
        shown, self._known = _named(places)
        return list(zip(shown, found, strict=True))

    def names(self) -> list[str]:
        """Return the names of all modules and functions seen in the last run."""
        return list(self._known)

    def tap(self, name: str) -> Tapped:
        """Return a callable batch -> (output, activation called ``name``)."""
        wanted = self._known[name]

        def run(batch: Tensor) -> tuple[object, Tensor]:
            leaves: list[Tensor] = []

            def split(call: int, _: str, tensor: Tensor) -> Tensor:
                return _leaf(tensor, leaves) if call == wanted else tensor

            with _Functions(split):
                output = self.network(batch.detach().requires_grad_())
            return output, leaves[-1]

        return run

    def resume(self, name: str) -> Resume:
        """Return a callable (batch, example) -> the network behind the activation ``name``.

        A module can only be run from its start. What comes before the activation is run on one
        picture instead of the whole batch where the example gets the same output that way.
        """
        run = partial(self._exchanged, self._known[name])

        def start(batch: Tensor, example: Tensor) -> Resumed:
            whole, brief = partial(run, batch), partial(run, batch[:1])
            if len(batch) == 1:
                return Resumed(whole, 0)
            expected, found = whole(example), _attempted(brief, example)
            passes = len(batch) + (0 if found is None else len(example))
            return Resumed(brief if _same(found, expected) else whole, passes)

        return start

    def _exchanged(self, wanted: int, batch: Tensor, activation: Tensor) -> object:
        def exchange(call: int, _: str, tensor: Tensor) -> Tensor:
            # The clone protects the given activation from in-place layers that follow.
            return activation.clone() if call == wanted else tensor

        # With a gradient wanted, functions are called in the order in which they were numbered.
        with torch.enable_grad(), _Functions(exchange):
            return self.network(batch.detach().requires_grad_())


def _attempted(run: Callable[[Tensor], object], activation: Tensor) -> object | None:
    try:
        return run(activation)
    except Exception:  # whatever a network says to one picture, it takes the whole batch
        return None


def _same(found: object | None, expected: object) -> bool:
    if not isinstance(found, Tensor) or not isinstance(expected, Tensor):
        return False
    if found.shape != expected.shape:
        return False
    return bool((found - expected).abs().max() <= _ROUNDING * expected.abs().max())


class _Functions(TorchFunctionMode):
    """Hands every floating tensor that a tensor function returns to ``change``, with its number."""

    def __init__(self, change: Callable[[int, str, Tensor], Tensor]) -> None:
        super().__init__()
        self._change = change
        self._count = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if not isinstance(result, Tensor) or not result.is_floating_point():
            return result
        call = self._count
        self._count += 1
        return self._change(call, getattr(func, "__name__", "tensor"), result)


@contextmanager
def _followed(network: nn.Module, path: list[str]) -> Iterator[None]:
    """Keep the dotted name of the module that is running at the end of ``path``."""
    handles = []
    for name, module in network.named_modules():
        if name:
            handles.append(module.register_forward_pre_hook(_entering(name, path)))
            handles.append(module.register_forward_hook(_leaving(path), always_call=True))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _entering(name: str, path: list[str]) -> Callable[[nn.Module, Any], None]:
    return lambda module, inputs: path.append(name)


def _leaving(path: list[str]) -> Callable[[nn.Module, Any, Any], None]:
    def leave(module: nn.Module, inputs: Any, output: Any) -> None:
        path.pop()

    return leave


def _named(places: list[Place]) -> tuple[list[str], dict[str, int]]:
    """Return the name of each place, and the place of each name, module paths included.

    A path stands for the last place inside that module, however deep. That place is called after
    the innermost module it is the last of; the others have their own name behind their path.
    """
    known: dict[str, int] = {}
    for index, (path, _) in enumerate(places):
        known.update(dict.fromkeys(_modules(path), index))
    shown = [
        path if path and known[path] == index else ".".join(filter(None, (path, own)))
        for index, (path, own) in enumerate(places)
    ]
    return shown, {**known, **{name: index for index, name in enumerate(shown)}}


def _modules(path: str) -> list[str]:
    """Return a module's path and the paths of the modules around it."""
    parts = path.split(".") if path else []
    return [".".join(parts[:end]) for end in range(1, len(parts) + 1)]


class ExportedTaps:
    """Activations of an exported program's graph, by module path where the export kept it."""

    def __init__(self, network: fx.GraphModule) -> None:
        self.network = network
        nodes = [node for node in network.graph.nodes if node.op == "call_function"]
        shown, known = _named([(_module_path(node), node.name) for node in nodes])
        self._nodes = dict(zip((node.name for node in nodes), shown, strict=True))
        self._known = {name: nodes[index].name for name, index in known.items()}

    def shapes(self, batch: Tensor) -> list[tuple[str, Shape]]:
        """Return (name, shape) of each activation, in the order in which they are made."""
        found: list[tuple[str, Shape]] = []

        def note(node: str, result: Any) -> Any:
            if isinstance(result, Tensor) and node in self._nodes:
                found.append((self._nodes[node], tuple(result.shape)))
            return result

        with torch.no_grad():
            _Nodes(self.network, note).run(batch)
        return found

    def names(self) -> list[str]:
        """Return the names of all modules and nodes that can be read."""
        return list(self._known)

    def tap(self, name: str) -> Tapped:
        """Return a callable batch -> (output, activation called ``name``)."""
        wanted = self._known[name]

        def run(batch: Tensor) -> tuple[object, Tensor]:
            leaves: list[Tensor] = []

            def split(node: str, result: Any) -> Any:
                return _leaf(result, leaves) if node == wanted else result

            output = _Nodes(self.network, split).run(batch)
            return _unwrapped(output), leaves[-1]

        return run

    def resume(self, name: str) -> Resume:
        """Return a callable (batch, example) -> the network behind the activation ``name``."""

        def start(batch: Tensor, example: Tensor) -> Resumed:
            before = self._until(self._known[name])
            kept = self._kept(before, batch)

            def tail(activation: Tensor) -> object:
                # In-place nodes that follow may change what they read; each run has its own.
                values = {node: _copied(kept.get(node.name)) for node in before}
                values[before[-1]] = activation.clone()
                return _unwrapped(fx.Interpreter(self.network).run(batch, initial_env=values))

            return Resumed(tail, len(batch))

        return start

    def _until(self, last: str) -> list[fx.Node]:
        nodes = [node for node in self.network.graph.nodes if node.op == "call_function"]
        return nodes[: [node.name for node in nodes].index(last) + 1]

    def _kept(self, before: list[fx.Node], batch: Tensor) -> dict[str, Any]:
        """Return what the nodes ``before`` give to those behind them, by name."""
        behind = set(self.network.graph.nodes) - set(before)
        read = {node.name for node in before if behind & set(node.users)}
        kept: dict[str, Any] = {}

        def keep(node: str, result: Any) -> Any:
            if node in read:
                kept[node] = _copied(result)
            return result

        _Nodes(self.network, keep).run(batch)
        return kept


class _Nodes(fx.Interpreter):
    """Runs a graph and hands what each node returns to ``change``, with the node's name."""

    def __init__(self, network: fx.GraphModule, change: Callable[[str, Any], Any]) -> None:
        super().__init__(network)
        self._change = change

    def run_node(self, n: fx.Node) -> Any:
        return self._change(n.name, super().run_node(n))


Taps = ModuleTaps | ExportedTaps | ScriptTaps


def taps_of(network: nn.Module) -> Taps:
    """Return the way to read activations that fits the kind of network."""
    if isinstance(network, torch.jit.ScriptModule):
        return ScriptTaps(network)
    if isinstance(network, fx.GraphModule) and not _calls_modules(network):
        return ExportedTaps(network)
    return ModuleTaps(network)


def _calls_modules(network: fx.GraphModule) -> bool:
    return any(node.op == "call_module" for node in network.graph.nodes)


def _leaf(output: Tensor, leaves: list[Tensor]) -> Tensor:
    # The clone protects the kept activation from in-place layers that follow.
    leaf = output.detach().requires_grad_()
    leaves.append(leaf)
    return leaf.clone()


def _module_path(node: fx.Node) -> str:
    stack = list(node.meta.get("nn_module_stack", {}).values())
    return str(stack[-1][0]) if stack else ""


def _unwrapped(output: Any) -> object:
    return output[0] if isinstance(output, tuple | list) and len(output) == 1 else output


def _copied(result: Any) -> Any:
    return result.clone() if isinstance(result, Tensor) else result
