"""Where a network takes values out of the gradient, so that a gradient would leave parts of it out.

``detach``, ``no_grad`` inside a forward, and functions without a derivative (quantised ones) do.
Where all of a network's input is cut off no gradient is left, which is seen anyway; where part of
it is, the gradient is there and wrong.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor
from torch.overrides import TorchFunctionMode

from reportgen.errors import NotApplicable

# What these give does not depend on the values of the tensors that they are given,
_NEW = ("new_", "zeros", "ones", "empty", "full", "rand")
# or, in these, on those of the first alone.
_FIRST = ("to", "type_as", "expand_as", "view_as", "reshape_as")


class Severed(NotApplicable):
    """A gradient that would leave out a part of the network."""


@contextmanager
def whole() -> Iterator[None]:
    """Watch one pass with a gradient; Severed where its gradient leaves out a part of it."""
    with _Severed() as severed:
        yield
    if severed.mixed:
        raise Severed(
            "part of the network is computed without gradients (first seen in "
            f"'{severed.mixed}'), so a gradient of its scores would leave that part out"
        )


class _Severed(TorchFunctionMode):
    """Follows tensors that were computed from others which require a gradient, but do not.

    ``mixed`` is the function that first cut off a tensor which was later used beside others that
    still have a gradient, "" where there is none.
    """

    def __init__(self) -> None:
        super().__init__()
        self.mixed = ""
        self._cut: dict[int, tuple[Tensor, str]] = {}  # the tensors too, lest a number be reused

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = str(getattr(func, "__name__", "")).partition(".")[0]
        given = list(tensors_among([args, kwargs or {}]))[: 1 if name in _FIRST else None]
        attached = any(tensor.requires_grad for tensor in given)
        result = func(*args, **(kwargs or {}))
        found = [tensor for tensor in tensors_among(result) if _graded(tensor)]
        if any(map(_underived, found)):
            self.mixed = self.mixed or name
        elif found and not name.startswith(_NEW) and not name.endswith("_like"):
            self._follow(name, attached, given, found)
        return result

    def _follow(self, name: str, attached: bool, given: list[Tensor], found: list[Tensor]) -> None:
        cut = [self._cut[id(t)] for t in given if id(t) in self._cut and not t.requires_grad]
        if not any(tensor.requires_grad for tensor in found):
            origin = cut[0][1] if cut else name
            if cut or attached:
                self._cut.update({id(tensor): (tensor, origin) for tensor in found})
        elif cut:
            self.mixed = self.mixed or cut[0][1]


def _underived(tensor: Tensor) -> bool:
    # Such functions give a tensor that says it has a gradient, and nothing, or an error, on the
    # way back.
    return tensor.grad_fn is not None and "NotImplemented" in tensor.grad_fn.name()


def _graded(tensor: Tensor) -> bool:
    return tensor.is_floating_point() or tensor.is_quantized


def tensors_among(value: object) -> Iterator[Tensor]:
    """Yield the tensors among arguments or results, in lists and dictionaries too."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from tensors_among(item)
    elif isinstance(value, dict):
        yield from tensors_among(list(value.values()))
