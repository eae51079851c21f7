"""Gradients of batch normalisation for one picture, which PyTorch computes wrongly on the CPU.

Of a batch of one, the stride from picture to picture means nothing, and may be anything: from
tokens beside a class token the gradient comes back so. PyTorch 2.13 then takes the values of one
layout for those of another, and says nothing (seen in 2.13.0; forward passes are right, and so are
larger batches of maps with several rows and columns). Tensors whose strides say what they are do
not meet the fault. Inside a script nothing can be put right: several pictures are run instead of
one, or, where it takes one alone, no gradient is made.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

_NAMES = frozenset(
    ("batch_norm", "instance_norm", "native_batch_norm", "_native_batch_norm_legit_no_training")
)


class LonePictures(TorchFunctionMode):
    """Gives batch normalisation, and its gradient, pictures in a layout that is clear."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = str(getattr(func, "__name__", "")).partition(".")[0]
        if name not in _NAMES or not args:
            return func(*args, **(kwargs or {}))
        result = func(_clear(args[0]), *args[1:], **(kwargs or {}))
        output = result[0] if isinstance(result, tuple) else result
        if output.requires_grad:
            output.register_hook(_clear)
        return result


def misread(forward: Callable[[Tensor], Tensor], picture: Tensor) -> bool:
    """Return whether PyTorch takes one layout for another in the gradient of a picture."""
    leaf = picture.clone().requires_grad_()
    output = forward(leaf)
    if not output.requires_grad:
        return False
    watch = _Watch()
    with watch:
        torch.autograd.grad(output.sum(), leaf, allow_unused=True)
    return watch.met


class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Looks for batch normalisation's gradient of one picture whose layout is not clear."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.met = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.native_batch_norm_backward.default:
            self.met = self.met or any(_clear(each) is not each for each in args[:2])
        return func(*args, **(kwargs or {}))


def _clear(tensor: Tensor) -> Tensor:
    """Return the tensor, or a copy where a side of 1 has a stride that neither layout gives it."""
    if 1 not in tensor.shape:
        return tensor
    plain, last = range(tensor.dim()), (0, *range(2, tensor.dim()), 1)
    known = (_strides(tensor, order) for order in (plain, last))
    copy = tensor.stride() not in known
    return tensor.clone(memory_format=torch.contiguous_format) if copy else tensor


def _strides(tensor: Tensor, order: Sequence[int]) -> tuple[int, ...]:
    """Return the strides of a dense tensor of this shape whose sides lie in memory in an order."""
    strides, step = [0] * tensor.dim(), 1
    for side in reversed(order):
        strides[side] = step
        step *= tensor.shape[side]
    return tuple(strides)
