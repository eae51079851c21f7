"""Gradients of batch normalisation for one picture, which PyTorch computes wrongly on the CPU.

Of a batch of one, the stride from picture to picture means nothing, and may be anything: after
``flatten(2).transpose(1, 2)`` the gradient comes back so. PyTorch 2.13 then takes the values of one
layout for those of another, and says nothing (seen in 2.13.0; forward passes are right, and so are
larger batches). Tensors whose strides say what they are do not meet the fault. Inside a script
nothing can be put right: several pictures are run instead of one, or, where it takes one alone, no
gradient is made.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

_NAMES = frozenset(
    ("batch_norm", "instance_norm", "native_batch_norm", "_native_batch_norm_legit_no_training")
)


class LonePictures(TorchFunctionMode):
    """Gives batch normalisation, and its gradient, one picture in a layout that is clear."""

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
    """Return the tensor, or a copy where it is of one picture and its strides do not show it."""
    clear = tensor.shape[0] != 1 or tensor.stride(0) == tensor.numel()
    return tensor if clear else tensor.clone(memory_format=torch.contiguous_format)
