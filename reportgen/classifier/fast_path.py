"""Transformer layers that were traced in PyTorch's fast path, written out.

Without gradients PyTorch runs a transformer layer, or its attention, as one operator that has no
gradient and no attention weights to read; a trace made so keeps that operator. The same arithmetic
in plain operators has both (Vaswani et al., Attention Is All You Need, NeurIPS 2017).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from reportgen.classifier.program_constants import script_graphs

_ATTENTION = "aten::_native_multi_head_attention"
_LAYER = "aten::_transformer_encoder_layer_fwd"
# Where each takes its mask, and the settings that the arithmetic hangs on.
_MASK = {_ATTENTION: 9, _LAYER: 18}
_SETTINGS = {_ATTENTION: (3, 4, 11), _LAYER: (1, 2, 7, 8, 9)}


def write_out(network: torch.jit.ScriptModule) -> bool:
    """Put plain operators in place of fused transformer layers; return whether there were any.

    Those with a mask stay as they are, and those of scripts, which choose as they run.
    """
    found = list(_fused(network))
    for graph, node in found:
        before = _Before(graph, node)
        written = _attention if node.kind() == _ATTENTION else _layer
        for old, new in zip(node.outputs(), written(before, list(node.inputs())), strict=True):
            old.replaceAllUsesWith(new)
        node.destroy()
    return bool(found)


def _fused(network: torch.jit.ScriptModule) -> Iterator[tuple[Any, Any]]:
    for graph in script_graphs(network):
        for kind in _MASK:
            for node in graph.findAllNodes(kind, recurse=True):
                if _is_plain(node):
                    yield graph, node


def _is_plain(node: Any) -> bool:
    inputs = list(node.inputs())
    unmasked = inputs[_MASK[node.kind()]].type().kind() == "NoneType"
    return unmasked and all(inputs[at].toIValue() is not None for at in _SETTINGS[node.kind()])


@dataclass(frozen=True)
class _Before:
    """Writes operators into a graph, before one of its nodes."""

    graph: Any
    node: Any

    def __call__(self, kind: str, *inputs: Any) -> Any:
        self.graph.setInsertPoint(self.node)
        values = [
            each if isinstance(each, torch._C.Value) else self.graph.insertConstant(each)
            for each in inputs
        ]
        made = self.graph.create(f"aten::{kind}", values, 1)
        made.insertBefore(self.node)
        return made.output()


def _attention(before: _Before, inputs: Sequence[Any]) -> tuple[Any, Any]:
    query, _, _, width, heads, *projections = inputs[:9]
    average = inputs[11].toIValue()
    mixed, weights = _mixed(before, query, width.toIValue(), heads.toIValue(), projections)
    return mixed, before("mean", weights, [1], False, None) if average else weights


def _mixed(
    before: _Before, tokens: Any, width: int, heads: int, projections: Sequence[Any]
) -> tuple[Any, Any]:
    """Write self-attention of tokens (n, t, width); return it, and its weights (n, heads, t, t)."""
    inner_weight, inner_bias, outer_weight, outer_bias = projections
    joined = before("linear", tokens, inner_weight, inner_bias)
    split = before("unflatten", joined, -1, [3, heads, width // heads])
    query, key, value = (
        before("transpose", before("select", split, 2, index), 1, 2) for index in range(3)
    )
    scores = before("matmul", query, before("transpose", key, -2, -1))
    weights = before("softmax", before("mul", scores, (width // heads) ** -0.5), -1, None)
    heard = before("flatten", before("transpose", before("matmul", weights, value), 1, 2), 2, -1)
    return before("linear", heard, outer_weight, outer_bias), weights


def _layer(before: _Before, inputs: Sequence[Any]) -> tuple[Any]:
    tokens, (width, heads) = inputs[0], (each.toIValue() for each in inputs[1:3])
    gelu, norm_first, eps = (each.toIValue() for each in inputs[7:10])
    first, second, into, out_of = (inputs[at : at + 2] for at in (10, 12, 14, 16))

    def normed(value: Any, affine: Sequence[Any]) -> Any:
        return before("layer_norm", value, [width], *affine, eps, True)

    def attended(value: Any) -> Any:
        return _mixed(before, value, width, heads, inputs[3:7])[0]

    def fed(value: Any) -> Any:
        wide = before("linear", value, *into)
        active = before("gelu", wide, "none") if gelu else before("relu", wide)
        return before("linear", active, *out_of)

    def added(one: Any, other: Any) -> Any:
        return before("add", one, other, 1)

    if norm_first:
        middle = added(tokens, attended(normed(tokens, first)))
        return (added(middle, fed(normed(middle, second))),)
    middle = normed(added(tokens, attended(tokens)), first)
    return (normed(added(middle, fed(middle)), second),)
