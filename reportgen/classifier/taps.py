"""Reading an inner activation of a network: of an eager module, an exported graph, a script.

Each kind offers the same two things: ``shapes`` runs a batch once and lists the activations in the
order in which they are made, and ``tap`` returns a callable that runs the network and gives the
output and one named activation, so that gradients can be taken with respect to it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.overrides import TorchFunctionMode

Shape = tuple[int, ...]
Place = tuple[str, str]  # the path of a module ("" for the network itself) and a name of its own
Tapped = Callable[[Tensor], tuple[object, Tensor]]


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


class _Nodes(fx.Interpreter):
    """Runs a graph and hands what each node returns to ``change``, with the node's name."""

    def __init__(self, network: fx.GraphModule, change: Callable[[str, Any], Any]) -> None:
        super().__init__(network)
        self._change = change

    def run_node(self, n: fx.Node) -> Any:
        return self._change(n.name, super().run_node(n))


class ScriptTaps:
    """Activations of a TorchScript module: values of its frozen, inlined graph.

    Hooks do not fire in TorchScript, so the graph is made to return the activation beside the
    output, as one tuple.
    """

    def __init__(self, network: torch.jit.ScriptModule) -> None:
        self._graph = _frozen(network).graph.copy()
        torch._C._jit_pass_inline(self._graph)
        self._values = [
            value.debugName()
            for node in self._graph.nodes()
            for value in node.outputs()
            if node.kind() not in ("prim::Constant", "prim::GetAttr")
            and value.type().isSubtypeOf(torch._C.TensorType.get())
        ]

    def shapes(self, batch: Tensor) -> list[tuple[str, Shape]]:
        """Return (name, shape) of each activation, in the order in which they are made."""
        with torch.no_grad():
            _, *tensors = self._returning(self._values)(batch)
        return [(name, tuple(t.shape)) for name, t in zip(self._values, tensors, strict=True)]

    def names(self) -> list[str]:
        """Return the names of all values that can be read."""
        return self._values

    def tap(self, name: str) -> Tapped:
        """Return a callable batch -> (output, activation of the value ``name``)."""
        function = self._returning([name])

        def run(batch: Tensor) -> tuple[object, Tensor]:
            # The optimiser moves stretches of the graph into nodes of their own, inside which no
            # gradient can be asked for.
            with torch.jit.optimized_execution(False):  # type: ignore[attr-defined]
                output, activation = function(batch.detach().requires_grad_())
            return output, activation

        return run

    def _returning(self, names: list[str]) -> Any:
        graph = self._graph.copy()
        by_name = {v.debugName(): v for node in graph.nodes() for v in node.outputs()}
        # The copy numbers its values anew, in the same order; names are matched by position.
        ordered = dict(zip(_all_values(self._graph), by_name.values(), strict=True))
        node = graph.create("prim::TupleConstruct", 1)
        for value in [next(iter(graph.outputs())), *(ordered[name] for name in names)]:
            node.addInput(value)
        kinds = [value.type() for value in node.inputs()]
        node.output().setType(torch._C.TupleType(kinds))
        graph.appendNode(node)
        graph.eraseOutput(0)
        graph.registerOutput(node.output())
        graph.eraseInput(0)
        return torch._C._create_function_from_graph("forward", graph)


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


def _frozen(network: torch.jit.ScriptModule) -> Any:
    with warnings.catch_warnings():
        # Whoever explains a model cannot change how it was saved.
        warnings.filterwarnings("ignore", "`torch.jit.freeze` is deprecated", DeprecationWarning)
        return torch.jit.freeze(network.eval())


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


def _all_values(graph: Any) -> list[str]:
    return [value.debugName() for node in graph.nodes() for value in node.outputs()]
