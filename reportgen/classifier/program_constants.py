"""Constants that tie a program to where it was made: its device, and half precision.

A traced or exported program has devices and number formats written into it, as in
``arange(4, device="cuda:0")``, and ``network.to(device)`` does not change them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import fx, nn

HALF = (torch.float16, torch.bfloat16)
"""The number formats of half precision."""

# How TorchScript numbers float16, bfloat16 and float32.
_SCRIPT_HALF, _SCRIPT_FLOAT32 = (5, 15), 6


@contextmanager
def on_device(network: nn.Module, device: torch.device) -> Iterator[None]:
    """Let the tensors that a program itself makes be made on ``device``, and put that back."""
    if isinstance(network, torch.jit.ScriptModule):
        before = [node.s("value") for node in _script_devices(network)]
        _write(network, [str(device)] * len(before))
        try:
            yield
        finally:
            _write(network, before)
    elif isinstance(network, fx.GraphModule):
        with _changed(network, lambda value: device if _is_device(value) else value):
            yield
    else:
        yield


def script_graphs(network: torch.jit.ScriptModule) -> Iterator[Any]:
    """Yield the graphs of all methods of a TorchScript network and its submodules, to be changed.

    Once the network has run, or its ``inlined_graph`` was asked for, PyTorch runs what it inlined
    then, and changes of inner graphs come too late.
    """
    for module in network.modules():
        methods: Any = module._c
        for name in methods._method_names():
            yield methods._get_method(name).graph


def move_script(network: torch.jit.ScriptModule, device: str) -> None:
    """Let the tensors that a TorchScript network itself makes be made on ``device``."""
    _write(network, [device] * len(list(_script_devices(network))))


def widen_script(network: torch.jit.ScriptModule) -> bool:
    """Turn casts to half precision into casts to float32; return whether there were any."""
    found = False
    for node in _script_constants(network):
        halves = node.kindOf("value") == "i" and node.i("value") in _SCRIPT_HALF
        if halves and all(_is_dtype(use) for use in node.output().uses()):
            node.i_("value", _SCRIPT_FLOAT32)
            found = True
    return found


def widen_graph(network: fx.GraphModule) -> bool:
    """Turn casts to half precision into casts to float32; return whether there were any."""
    found = False

    def widened(value: Any) -> Any:
        nonlocal found
        half = isinstance(value, torch.dtype) and value in HALF
        found = found or half
        return torch.float32 if half else value

    _rewrite(network, widened)
    return found


def _write(network: torch.jit.ScriptModule, devices: list[str]) -> None:
    for node, device in zip(_script_devices(network), devices, strict=True):
        node.s_("value", device)


def _script_devices(network: torch.jit.ScriptModule) -> Iterator[Any]:
    for node in _script_constants(network):
        if str(node.output().type()) == "Device":
            yield node


def _script_constants(network: torch.jit.ScriptModule) -> Iterator[Any]:
    for graph in script_graphs(network):
        for node in graph.findAllNodes("prim::Constant", recurse=True):
            if node.hasAttribute("value"):
                yield node


def _is_dtype(use: Any) -> bool:
    schema = use.user.schema()
    if schema == "(no schema)":
        return False
    arguments = torch._C.parse_schema(schema).arguments
    return use.offset < len(arguments) and bool(arguments[use.offset].name == "dtype")


def _is_device(value: object) -> bool:
    return isinstance(value, torch.device)


@contextmanager
def _changed(network: fx.GraphModule, change: Callable[[Any], Any]) -> Iterator[None]:
    before = [(node, node.args, node.kwargs) for node in network.graph.nodes]
    _rewrite(network, change)
    try:
        yield
    finally:
        for node, args, kwargs in before:
            node.args, node.kwargs = args, kwargs
        network.recompile()


def _rewrite(network: fx.GraphModule, change: Callable[[Any], Any]) -> None:
    for node in network.graph.nodes:
        node.args = fx.node.map_aggregate(node.args, change)
        node.kwargs = fx.node.map_aggregate(node.kwargs, change)
    network.recompile()
