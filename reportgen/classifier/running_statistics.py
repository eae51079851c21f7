"""Running statistics of batch normalisation, set to those of one batch, in every file format.

The operators that run are watched, below Python code, graphs and TorchScript alike: where one
normalises with running statistics, it is told to learn them instead, with all weight on this batch.
"""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils._python_dispatch import TorchDispatchMode

from reportgen.classifier.evaluator import Evaluator
from reportgen.classifier.severed import tensors_among

_MEAN, _VARIANCE, _TRAINING = "running_mean", "running_var", "training"
# What the share of this batch in the new statistics is called: by PyTorch, and by GPU libraries.
_SHARES = ("momentum", "exponential_average_factor")
_WITHOUT_TRAINING = "_native_batch_norm_legit_no_training"


class Kept:
    """The values of tensors, put back bit for bit in the end."""

    def __init__(self) -> None:
        self._kept: list[tuple[Tensor, Tensor]] = []

    def keep(self, tensor: Tensor) -> None:
        """Keep a tensor's values as they are now."""
        self._kept.append((tensor, tensor.detach().clone()))

    def __enter__(self) -> Kept:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Put all values back."""
        with torch.no_grad():
            # Two tensors may share their memory: what was kept first is the original.
            for tensor, values in reversed(self._kept):
                tensor.copy_(values)


def estimate(
    evaluator: Evaluator, statistics: Iterable[Tensor], copies: Tensor, kept: Kept
) -> bool:
    """Set these running means, and their variances, to those of ``copies`` (n, C, H, W).

    Each layer passes on what it has normalised with the statistics of all copies together. Tensors
    that change are handed to ``kept`` before. Returns whether all that the pass reads are set; a
    module that takes one size of batches only cannot be stopped at each layer, and is not run.
    """
    learning, network = _Learning(statistics, kept), evaluator.network
    if evaluator.fixed_batch and not isinstance(network, fx.GraphModule):
        return False

    def run(batches: tuple[Tensor, ...]) -> None:
        with torch.no_grad(), unoptimised(), learning:
            if evaluator.fixed_batch:
                _SideBySide(network, learning, len(copies)).run_all(batches)
            else:
                network(*batches)

    evaluator.watch_all(copies, run)
    return not learning.missed


def unoptimised() -> Any:
    """Return a context in which TorchScript runs its operators one by one, none of them fused."""
    return torch.jit.optimized_execution(False)  # type: ignore[attr-defined]


class _Learning(TorchDispatchMode):
    """Makes batch normalisation learn the statistics of its input, with all weight on them."""

    def __init__(self, statistics: Iterable[Tensor], kept: Kept) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._wanted = {id(tensor) for tensor in statistics}
        self._keep = kept.keep
        self.missed = False

    def normalises(self, function: Any, arguments: object) -> bool:
        """Return whether this operator normalises with one of the running means."""
        return self._reads(arguments) and _MEAN in _names(function) and _can_learn(function)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if not self.normalises(func, [args, kwargs]):
            self.missed = self.missed or self._reads([args, kwargs])
            return func(*args, **(kwargs or {}))
        names = _names(func)
        given = {**dict(zip(names, args, strict=False)), **(kwargs or {})}
        self._keep(given[_MEAN])
        self._keep(given[_VARIANCE])
        share = next(name for name in _SHARES if name in names)
        learner = func if _TRAINING in names else torch.ops.aten.native_batch_norm.default
        return learner(**{**given, _TRAINING: True, share: 1.0})

    def _reads(self, arguments: object) -> bool:
        return any(id(tensor) in self._wanted for tensor in tensors_among(arguments))


def _names(function: Any) -> list[str]:
    schema = getattr(function, "_schema", None)
    return [] if schema is None else [argument.name for argument in schema.arguments]


def _can_learn(function: Any) -> bool:
    return _TRAINING in _names(function) or function.__name__.startswith(_WITHOUT_TRAINING)


class _SideBySide(fx.Interpreter):
    """Runs a graph that takes batches of one size only on several of them, node by node.

    Nodes that normalise get all batches as one, of which the first ``count`` rows count: the others
    fill up the last batch, with repeats of its last row.
    """

    def __init__(self, network: nn.Module, learning: _Learning, count: int) -> None:
        super().__init__(network)
        self._learning = learning
        self._count = count

    def run_all(self, batches: tuple[Tensor, ...]) -> None:
        """Run the graph on batches of the size that it takes."""
        values: list[dict[fx.Node, Any]] = [{} for _ in batches]
        for node in self.module.graph.nodes:  # type: ignore[union-attr]
            arguments = [self._arguments(node, each) for each in values]
            if self._learning.normalises(node.target, arguments[0]):
                found = self._joined(node, arguments)
            else:
                found = self._apart(node, values, batches)
            for each, result in zip(values, found, strict=True):
                each[node] = result
                for last in self.user_to_last_uses.get(node, []):
                    del each[last]

    def _arguments(self, node: fx.Node, values: dict[fx.Node, Any]) -> tuple[Any, Any]:
        self.env = values
        return self.fetch_args_kwargs_from_env(node)

    def _apart(
        self, node: fx.Node, values: list[dict[fx.Node, Any]], batches: tuple[Tensor, ...]
    ) -> list[Any]:
        found = []
        for each, batch in zip(values, batches, strict=True):
            self.env, self.args_iter = each, iter((batch,))
            found.append(self.run_node(node))
        return found

    def _joined(self, node: fx.Node, arguments: list[tuple[Any, Any]]) -> list[Any]:
        size = len(arguments[0][0][0])
        (_, *others), named = arguments[0]
        rows = torch.cat([args[0] for args, _ in arguments])[: self._count]
        result = node.target(rows, *others, **named)  # type: ignore[operator]
        missing = size * len(arguments) - self._count

        def split(value: Any) -> list[Any]:
            if not isinstance(value, Tensor) or value.shape != rows.shape:
                return [value] * len(arguments)
            filled = torch.cat([value, value[-1:].expand(missing, *value.shape[1:])])
            return list(torch.split(filled, size))

        if isinstance(result, Tensor):
            return split(result)
        return list(zip(*(split(value) for value in result), strict=True))
