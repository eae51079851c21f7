"""Reading an inner activation of a TorchScript module, and running what follows it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from reportgen.classifier.evaluator import Resume, Resumed
from reportgen.errors import NotApplicable

Shape = tuple[int, ...]
Tapped = Callable[[Tensor], tuple[object, Tensor]]
Reader = Callable[[Tensor], tuple[object, list[Tensor]]]
_CONSTANT = ("prim::Constant", "prim::GetAttr")
_FUSED = "aten::scaled_dot_product_attention"
_ATTENTION = ("aten::softmax", "aten::_softmax", _FUSED)
_CONVOLUTIONS = ("aten::_convolution", "aten::conv2d")
_LAYERS = ("aten::_native_multi_head_attention", "aten::_transformer_encoder_layer_fwd")


def leaf_of(batch: Tensor) -> Tensor:
    """Return the batch cut off from what made it; gradients are wanted, but of whole numbers."""
    return batch.detach().requires_grad_(batch.is_floating_point())


class ScriptTaps:
    """Activations of a TorchScript module: values of its frozen, inlined graph.

    Hooks do not fire in TorchScript, so the graph is made to return the activation beside the
    output, as one tuple.
    """

    def __init__(self, network: torch.jit.ScriptModule) -> None:
        frozen = _frozen(network)
        self._graph = frozen._get_method("forward").graph.copy()
        torch._C._jit_pass_inline(self._graph)
        self._weights = _lifted(self._graph, frozen)
        self._functions = {
            value.debugName(): str(node.kind().rpartition("::")[2])
            for node in self._graph.nodes()
            for value in node.outputs()
            if node.kind() not in _CONSTANT and value.type().isSubtypeOf(torch._C.TensorType.get())
        }

    def shapes(self, batch: Tensor) -> list[tuple[str, Shape]]:
        """Return (name, shape) of each activation, in the order in which they are made."""
        with torch.no_grad():
            _, *tensors = self._returning(self.names())(batch, *self._weights)
        named = zip(self.names(), tensors, strict=True)
        return [(name, tuple(t.shape)) for name, t in named if t.is_floating_point()]

    def names(self) -> list[str]:
        """Return the names of all values that can be read."""
        return list(self._functions)

    def function(self, name: str) -> str:
        """Return the name of the operator that makes the value ``name``."""
        return self._functions[name]

    def reader(self, names: Sequence[str]) -> Reader:
        """Return a callable batch -> (output, values called ``names``) for many at once."""
        function = self._returning(list(names))

        def run(batch: Tensor) -> tuple[object, list[Tensor]]:
            output, *values = _run(function, leaf_of(batch), *self._weights)
            return output, values

        return run

    def tap(self, name: str) -> Tapped:
        """Return a callable batch -> (output, activation of the value ``name``)."""
        function = self._returning([name])

        def run(batch: Tensor) -> tuple[object, Tensor]:
            # The optimiser moves stretches of the graph into nodes of their own, inside which no
            # gradient can be asked for.
            with torch.jit.optimized_execution(False):  # type: ignore[attr-defined]
                output, activation = function(leaf_of(batch), *self._weights)
            return output, activation

        return run

    def attention(self) -> Reader:
        """Return a callable batch -> (output, what softmaxes and convolutions give, in order).

        Raises NotApplicable where attention is computed inside branches, loops, or operators of
        whole layers.
        """
        graph = self._graph.copy()
        values = _attention_values(graph)
        _return_tuple(graph, [next(iter(graph.outputs())), *values])
        function = _function(graph)

        def run(batch: Tensor) -> tuple[object, list[Tensor]]:
            output, *values = _run(function, leaf_of(batch), *self._weights)
            return output, values

        return run

    def resume(self, name: str) -> Resume:
        """Return a callable (batch, example) -> the network behind the value ``name``."""

        def start(batch: Tensor, example: Tensor) -> Resumed:
            names, behind = self._behind(name)
            kept = _run(self._until(name, names), batch, *self._weights) if names else ()

            def tail(activation: Tensor) -> object:
                # In-place nodes that follow may change what they read; each run has its own.
                changed = activation.clone(), *map(_copied, kept)
                return _run(behind, batch, *self._weights, *changed)

            return Resumed(tail, len(batch) if names else 0)

        return start

    def _behind(self, name: str) -> tuple[list[str], Any]:
        """Return the graph after a value, and what it reads from before it, by name.

        The graph takes the picture, the weights, the value, and what it reads.
        """
        graph = self._graph.copy()
        _fed(graph, self._ordered(graph)[name])
        names: list[str] = []
        for original, node in reversed(self._pairs(graph)[: self._place(name) + 1]):
            if node.kind() in _CONSTANT:
                continue
            for value, copy in zip(original.outputs(), node.outputs(), strict=True):
                if copy.uses():
                    _fed(graph, copy)
                    names.append(value.debugName())
            node.destroy()
        return names, _function(graph)

    def _until(self, name: str, names: list[str]) -> Any:
        """Return the graph up to a value, which gives ``names`` as a tuple."""
        graph = self._graph.copy()
        ordered = self._ordered(graph)
        after = [node for _, node in self._pairs(graph)[self._place(name) + 1 :]]
        _return_tuple(graph, [ordered[each] for each in names])
        for node in reversed(after):
            node.destroy()
        return _function(graph)

    def _place(self, name: str) -> int:
        made = [[value.debugName() for value in node.outputs()] for node in self._graph.nodes()]
        return next(place for place, names in enumerate(made) if name in names)

    def _pairs(self, graph: Any) -> list[tuple[Any, Any]]:
        return list(zip(self._graph.nodes(), graph.nodes(), strict=True))

    def _ordered(self, graph: Any) -> dict[str, Any]:
        # A copy numbers its values anew, in the same order; names are matched by position.
        names = [value.debugName() for value in _values(self._graph)]
        return dict(zip(names, _values(graph), strict=True))

    def _returning(self, names: list[str]) -> Any:
        graph = self._graph.copy()
        ordered = self._ordered(graph)
        _return_tuple(graph, [next(iter(graph.outputs())), *(ordered[name] for name in names)])
        return _function(graph)


def _return_tuple(graph: Any, values: list[Any]) -> None:
    node = graph.create("prim::TupleConstruct", 1)
    for value in values:
        node.addInput(value)
    kinds = [value.type() for value in node.inputs()]
    node.output().setType(torch._C.TupleType(kinds))
    graph.appendNode(node)
    graph.eraseOutput(0)
    graph.registerOutput(node.output())


def _attention_values(graph: Any) -> list[Any]:
    """Return the feature maps of a graph, and its attention matrices, made explicit if fused."""
    outer = [node for node in graph.nodes() if node.kind() in _ATTENTION]
    found = [node.kind() for node in _nodes(graph)]
    hidden = [kind for kind in found if kind in _ATTENTION or kind in _LAYERS]
    maps = [node.output() for node in graph.nodes() if node.kind() in _CONVOLUTIONS]
    if len(hidden) > len(outer):
        raise NotApplicable(
            "the attention matrices of this TorchScript cannot be read: they are made inside "
            f"branches or by an operator of a whole layer ({', '.join(dict.fromkeys(hidden))})"
        )
    return maps + [
        _explicit(graph, node) if node.kind() == _FUSED else node.output() for node in outer
    ]


def _explicit(graph: Any, node: Any) -> Any:
    """Put the form that makes the matrix in place of fused attention, and return the matrix."""
    graph.setInsertPoint(node)
    *given, scale, grouped = node.inputs()
    # Behind the inputs of the fused form stands a mask for dropout.
    inputs = [*given, graph.insertConstant(None), scale, grouped]
    explicit = graph.create("aten::_scaled_dot_product_attention_math", inputs, 2)
    explicit.insertBefore(node)
    output, matrix = explicit.outputs()
    node.output().replaceAllUsesWith(output)
    node.destroy()
    return matrix


def _fed(graph: Any, value: Any) -> None:
    """Make a value an input of the graph."""
    tensor, given = torch._C.TensorType.get(), graph.addInput()
    given.setType(tensor if value.type().isSubtypeOf(tensor) else value.type())
    value.replaceAllUsesWith(given)


def _function(graph: Any) -> Any:
    graph.eraseInput(0)
    return torch._C._create_function_from_graph("forward", graph)


def _run(function: Any, *inputs: Any) -> Any:
    # The optimiser rounds a graph's first runs and its later ones differently.
    with torch.jit.optimized_execution(False):  # type: ignore[attr-defined]
        return function(*inputs)


def _copied(value: Any) -> Any:
    return value.clone() if isinstance(value, Tensor) else value


def _frozen(network: torch.jit.ScriptModule) -> Any:
    """Return the module without branches on its own settings, with the network's own tensors."""
    # With the parameters as constants, those of equal values would become one, and what is
    # computed from them alone would stay as it was when weights are drawn anew.
    return torch._C._freeze_module(network.eval()._c, preserveParameters=True)


def _lifted(graph: Any, module: Any) -> list[Tensor | None]:
    """Make the module's tensors inputs of its graph, and return them in that order.

    A layer without a bias reads None in its place.
    """
    tensors: list[Tensor | None] = []
    read = [node for node in _nodes(graph) if node.kind() == "prim::GetAttr"]
    for node in read:
        value = _attribute(node.output(), module)
        if value is None or isinstance(value, Tensor):
            tensors.append(value)
            _fed(graph, node.output())
    for node in reversed(read):
        if not node.output().uses():
            node.destroy()
    return tensors


def _nodes(block: Any) -> Iterator[Any]:
    """Yield all nodes, those of branches and loops included."""
    for node in block.nodes():
        yield node
        for inner in node.blocks():
            yield from _nodes(inner)


def _attribute(value: Any, module: Any) -> Any:
    node = value.node()
    if node.kind() != "prim::GetAttr":
        return module
    return getattr(_attribute(next(iter(node.inputs())), module), node.s("name"))


def _values(graph: Any) -> list[Any]:
    return [value for node in graph.nodes() for value in node.outputs()]
