"""Watching the tensor functions that an eager network calls, and the modules that it is in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as hooks
from torch.overrides import TorchFunctionMode

Call = tuple[str, int]
"""A call by the path of the module that makes it, and its number among those that this one makes.

Numbered through the whole network, all calls that follow a loop over the pictures of a batch would
have other numbers for another batch.
"""
Change = Callable[[Call, str, Tensor], Tensor]

# What a sum with one number for each channel is called.
BIAS = "bias"
_SUMS = frozenset(("add", "__add__", "__radd__"))


class Functions(TorchFunctionMode):
    """Hands every floating tensor that a tensor function returns to ``change``, with its call.

    What a script inside the network calls cannot be seen; such a script is taken for a function.
    """

    def __init__(self, network: nn.Module, change: Change) -> None:
        super().__init__()
        self._network = network
        self._scripts = set(_outermost_scripts(network))
        self._change = change
        self._path = [""]
        self._counts: Counter[str] = Counter()
        self._hooks = ExitStack()

    def __enter__(self) -> Any:
        """Watch what is called, the modules that call it, and the scripts inside the network."""
        if self._scripts:
            # Scripts take no hooks of their own, so one for all modules looks for them.
            handle = hooks.register_module_forward_hook(self._called)
            self._hooks.callback(handle.remove)
        self._hooks.enter_context(_followed(self._network, self._path))
        return super().__enter__()  # type: ignore[no-untyped-call]

    def __exit__(self, *error: Any) -> None:
        """Stop watching."""
        super().__exit__(*error)  # type: ignore[no-untyped-call]
        self._hooks.close()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        return self._changed(_name(func, args), result)

    def _called(self, module: nn.Module, inputs: Any, output: Any) -> Any:
        return self._changed("script", output) if module in self._scripts else output

    def _changed(self, function: str, result: Any) -> Any:
        if not isinstance(result, Tensor) or not result.is_floating_point():
            return result
        path = self._path[-1]
        call = (path, self._counts[path])
        self._counts[path] += 1
        return self._change(call, function, result)


def _name(function: Any, args: Any) -> str:
    name: str = getattr(function, "__name__", "tensor")
    added = name in _SUMS and any(isinstance(each, Tensor) and each.dim() == 1 for each in args)
    return BIAS if added else name


def _outermost_scripts(module: nn.Module) -> Iterator[nn.Module]:
    if isinstance(module, torch.jit.ScriptModule):
        yield module
        return
    for child in module.children():
        yield from _outermost_scripts(child)


@contextmanager
def _followed(network: nn.Module, path: list[str]) -> Iterator[None]:
    """Keep the dotted name of the module that is running at the end of ``path``."""
    names: dict[nn.Module, list[str]] = {}
    for name, module in network.named_modules(remove_duplicate=False):
        if name:
            names.setdefault(module, []).append(name)
    scripts: set[nn.Module] = {
        module for module in names if isinstance(module, torch.jit.ScriptModule)
    }

    def enter(module: nn.Module, inputs: Any) -> None:
        # A module with several names, such as an activation that blocks share, is running under
        # that of its caller.
        inside = f"{path[-1]}." if path[-1] else ""
        known = names[module]
        path.append(next((name for name in known if name.startswith(inside)), known[0]))

    def leave(module: nn.Module, inputs: Any, output: Any) -> None:
        path.pop()

    handles = [
        handle
        for module in names.keys() - scripts
        for handle in (
            module.register_forward_pre_hook(enter),
            module.register_forward_hook(leave, always_call=True),
        )
    ]
    if scripts:
        handles.append(hooks.register_module_forward_pre_hook(_among(scripts, enter)))
        left = _among(scripts, leave)
        handles.append(hooks.register_module_forward_hook(left, always_call=True))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _among(scripts: set[nn.Module], hook: Callable[..., None]) -> Callable[..., None]:
    """Return the hook for scripts alone: they take none of their own, and others have theirs."""
    return lambda module, *given: hook(module, *given) if module in scripts else None
