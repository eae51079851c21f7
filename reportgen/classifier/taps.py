"""Reading an inner activation of a network: of an eager module, an exported graph, a script.

Each kind offers these: ``shapes`` runs a batch once and lists the activations in the order in which
they are made, and ``function`` says what made one of them; ``reader`` returns a callable that runs
the network and gives the output and many activations at once; ``tap`` one that gives the output and
one activation, so that gradients can be taken with respect to it; and ``resume`` one that runs what
follows a named activation, with another in its place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx, nn

from reportgen.classifier.black_box import BlackBox, closed
from reportgen.classifier.evaluator import Resume, Resumed
from reportgen.classifier.functions import Call, Functions
from reportgen.classifier.script_taps import Reader, ScriptTaps, Shape, Tapped, leaf_of

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
        self._known: dict[str, Call] = {}
        self._functions: dict[str, str] = {}

    def shapes(self, batch: Tensor) -> list[tuple[str, Shape]]:
        """Return (name, shape) of each activation, in the order in which they are made."""
        found: list[Shape] = []
        calls: list[Call] = []
        places: list[Place] = []

        def note(call: Call, function: str, tensor: Tensor) -> Tensor:
            places.append((call[0], f"{function}_{len(calls)}"))
            calls.append(call)
            found.append(tuple(tensor.shape))
            return tensor

        with Functions(self.network, note):
            # With a gradient wanted, fused transformer kernels, which call no function of their
            # parts, stay off.
            self.network(leaf_of(batch))
        shown, known = _named(places)
        self._known = {name: calls[index] for name, index in known.items()}
        made_by = (own.rpartition("_")[0] for _, own in places)
        self._functions = dict(zip(shown, made_by, strict=True))
        return list(zip(shown, found, strict=True))

    def function(self, name: str) -> str:
        """Return the name of the function that made the activation ``name`` in the last run."""
        return self._functions[name]

    def reader(self, names: Sequence[str]) -> Reader:
        """Return a callable batch -> (output, activations called ``names``) for many at once."""
        wanted = {self._known[name]: place for place, name in enumerate(names)}

        def run(batch: Tensor) -> tuple[object, list[Tensor]]:
            found: dict[int, Tensor] = {}

            def keep(call: Call, _: str, tensor: Tensor) -> Tensor:
                return _kept(tensor, wanted[call], found) if call in wanted else tensor

            with Functions(self.network, keep):
                output = self.network(leaf_of(batch))
            # A network may call fewer functions for one picture than for two.
            return output, [found.get(place, torch.empty(0)) for place in range(len(names))]

        return run

    def names(self) -> list[str]:
        """Return the names of all modules and functions seen in the last run."""
        return list(self._known)

    def tap(self, name: str) -> Tapped:
        """Return a callable batch -> (output, activation called ``name``)."""
        wanted = self._known[name]

        def run(batch: Tensor) -> tuple[object, Tensor]:
            leaves: list[Tensor] = []

            def split(call: Call, _: str, tensor: Tensor) -> Tensor:
                return _leaf(tensor, leaves) if call == wanted else tensor

            with Functions(self.network, split):
                output = self.network(leaf_of(batch))
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

    def _exchanged(self, wanted: Call, batch: Tensor, activation: Tensor) -> object:
        def exchange(call: Call, _: str, tensor: Tensor) -> Tensor:
            # The clone protects the given activation from in-place layers that follow.
            return activation.clone() if call == wanted else tensor

        # With a gradient wanted, functions are called in the order in which they were numbered.
        with torch.enable_grad(), Functions(self.network, exchange):
            return self.network(leaf_of(batch))


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
        self._functions = {name: _function(node) for name, node in zip(shown, nodes, strict=True)}

    def shapes(self, batch: Tensor) -> list[tuple[str, Shape]]:
        """Return (name, shape) of each activation, in the order in which they are made."""
        found: list[tuple[str, Shape]] = []

        def note(node: str, result: Any) -> Any:
            floating = isinstance(result, Tensor) and result.is_floating_point()
            if floating and node in self._nodes:
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

    def function(self, name: str) -> str:
        """Return the name of the function that makes the activation ``name``."""
        return self._functions[name]

    def reader(self, names: Sequence[str]) -> Reader:
        """Return a callable batch -> (output, activations called ``names``) for many at once."""
        wanted = {self._known[name]: place for place, name in enumerate(names)}

        def run(batch: Tensor) -> tuple[object, list[Tensor]]:
            found: dict[int, Tensor] = {}

            def keep(node: str, result: Any) -> Any:
                return _kept(result, wanted[node], found) if node in wanted else result

            output = _Nodes(self.network, keep).run(leaf_of(batch))
            return _unwrapped(output), [found[place] for place in range(len(names))]

        return run

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
    """Return the way to read activations that fits the kind of network.

    Raises NotApplicable for a network that gives predictions only.
    """
    if isinstance(network, BlackBox):
        raise closed(network)
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


def _kept(tensor: Tensor, place: int, found: dict[int, Tensor]) -> Tensor:
    """Note an activation by whose values a gradient can be asked for, and return what follows."""
    found[place] = tensor if tensor.requires_grad else tensor.detach().requires_grad_()
    return found[place].clone()


def _function(node: fx.Node) -> str:
    """Return the bare name of the function that a node calls: "linear" of "aten.linear.default"."""
    return str(getattr(node.target, "_opname", getattr(node.target, "__name__", node.target)))


def _module_path(node: fx.Node) -> str:
    stack = list(node.meta.get("nn_module_stack", {}).values())
    return str(stack[-1][0]) if stack else ""


def _unwrapped(output: Any) -> object:
    return output[0] if isinstance(output, tuple | list) and len(output) == 1 else output


def _copied(result: Any) -> Any:
    return result.clone() if isinstance(result, Tensor) else result
