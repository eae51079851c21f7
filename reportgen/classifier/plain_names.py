"""Names for the parts of a converted ONNX model that an exported program can carry."""

from __future__ import annotations

import copy
import re

from torch import fx, nn

_ODD = re.compile(r"\W")


def plainly_named(network: nn.Module) -> nn.Module:
    """Return the network with names of letters, digits and underscores, and the same tensors.

    The parts of a converted ONNX model are called after its nodes ("/model/0/conv/Conv"), whose
    names a file that is opened without trust must not hold. Other networks are returned as they
    are.
    """
    if not isinstance(network, fx.GraphModule):
        return network
    plain: dict[str, str] = {}
    taken = {name for name, _ in network.named_children()}
    for name in sorted(filter(_ODD.search, taken)):
        plain[name] = _free(_ODD.sub("_", name), taken | set(plain.values()))
    if not plain:
        return network
    graph = copy.deepcopy(network.graph)
    for node in graph.nodes:
        if node.op == "call_module":
            node.target = plain.get(node.target, node.target)
    root = nn.Module()
    for name, part in network.named_children():
        root.add_module(plain.get(name, name), part)
    return fx.GraphModule(root, graph).train(network.training)


def _free(name: str, taken: set[str]) -> str:
    """Return the name, with a number behind it where it is taken."""
    found, number = name, 1
    while found in taken:
        found, number = f"{name}_{number}", number + 1
    return found
