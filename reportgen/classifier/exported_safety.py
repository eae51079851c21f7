"""Whether an exported program (.pt2) can be opened without running code that its author chose.

``torch.export.load`` is no safe reader: it unpickles parts of the archive, evaluates expressions,
resolves the names of functions, and compiles Python from names in the graph. This check lets an
archive pass only if every part is of a kind known to be plain data: the archive's members, the
functions called, the expressions, and every name. What it does not know, it refuses.
"""

from __future__ import annotations

import ast
import io
import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import torch

_MEMBERS = re.compile(
    r"data/weights/(weight_\d+|model_weights_config\.json)"
    r"|data/constants/(tensor_\d+|model_constants_config\.json)"
    r"|data/sample_inputs/model\.pt|models/model\.json|extra/.*"
    r"|archive_format|archive_version|byteorder|version|\.data/.*"
)
_GRAPH = "models/model.json"
_CONFIGS = ("data/weights/model_weights_config.json", "data/constants/model_constants_config.json")
_EXAMPLE = "data/sample_inputs/model.pt"

_NAME = re.compile(r"[\w.+-]*")
_FUNCTION = re.compile(
    r"torch\.ops\.(aten|prims|torchvision)\.(?!__|from_file|save)\w+\.(?!_)\w+"
    r"|torch\.ops\.aten\.__i?(and|or|xor|lshift|rshift)__\.(Tensor|Scalar)"
    r"|torch\.ops\.higher_order\.(wrap_with_set_grad_enabled|wrap_with_autocast)"
    r"|torch\.sym_(int|float|not|max|min|ite|sum)"
    r"|_operator\.(getitem|add|sub|mul|truediv|floordiv|mod|pow|neg|pos|eq|ne|lt|le|gt|ge|and_|or_)"
    r"|math\.(ceil|floor|trunc)"
)
_SYMBOLIC = frozenset(
    {"Symbol", "Integer", "Float", "Rational", "Add", "Mul", "Pow", "Max", "Min", "Mod", "Abs"}
    | {"FloorDiv", "CeilDiv", "CleanDiv", "PythonMod", "ModularIndexing", "PowByNatural"}
    | {"FloorToInt", "CeilToInt", "TruncToInt", "RoundToInt", "IntTrueDiv", "FloatTrueDiv"}
    | {"GreaterThan", "StrictGreaterThan", "LessThan", "StrictLessThan", "Equality", "Unequality"}
    | {"And", "Or", "Not"}
)
_EXPRESSION_NODES = (ast.Expression, ast.keyword, ast.Load, ast.UnaryOp, ast.USub)
_CONTAINERS = (None, "builtins.tuple", "builtins.list", "builtins.dict")

# Never evaluated: the first stays a text, and programs are opened without their guards.
_FREE_TEXT = ("as_string", "guards_code")


class Archive(Protocol):
    """The archive, read by the same reader that will load it."""

    def get_file_names(self) -> list[str]:
        """Return the names of the members."""

    def read_bytes(self, name: str) -> bytes:
        """Return the content of one member."""


def unsafe_part(archive: Archive) -> str:
    """Return what in the archive could run code when loaded, in a few words, or ""."""
    names = archive.get_file_names()
    if len(set(names)) < len(names):
        return "two members of the same name"
    unknown = next((name for name in names if not _MEMBERS.fullmatch(name)), None)
    if unknown is not None:
        return f"the member '{unknown}'"
    if _EXAMPLE in names and not _is_plain(archive.read_bytes(_EXAMPLE)):
        return "pickled example inputs"
    parts = (_unsafe_config(archive, names), _unsafe_graph(json.loads(archive.read_bytes(_GRAPH))))
    return next(filter(None, parts), "")


def _is_plain(pickled: bytes) -> bool:
    if not pickled:  # exported without an example
        return True
    try:
        torch.load(io.BytesIO(pickled), map_location="cpu", weights_only=True)
    except Exception:
        return False
    return True


def _unsafe_config(archive: Archive, names: list[str]) -> str:
    for config in _CONFIGS:
        entries = json.loads(archive.read_bytes(config))["config"] if config in names else {}
        for name, entry in entries.items():
            if entry["use_pickle"]:
                return f"the pickled tensor '{name}'"
            if not _NAME.fullmatch(name) or not _NAME.fullmatch(entry["path_name"]):
                return "a tensor with an unusual name"
    return ""


def _unsafe_graph(graph: Mapping[str, Any]) -> str:
    for key, text in _texts("", graph):
        check, what = _CHECKS.get(key, (_is_name, "the name"))
        if key not in _FREE_TEXT and not check(text):
            return f"{what} '{text[:60]}'"
    return ""


def _texts(key: str, value: object) -> Iterator[tuple[str, str]]:
    """Yield each text in a JSON value with the key it stands under, and each key as a name."""
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, list):
        for item in value:
            yield from _texts(key, item)
    elif isinstance(value, dict):
        # The notes on where a node came from: a flat mapping of texts that are only displayed.
        is_note = key == "metadata" and all(isinstance(item, str) for item in value.values())
        for name, item in () if is_note else value.items():
            yield "", name
            yield from _texts(name, item)


def _is_name(text: str) -> bool:
    return _NAME.fullmatch(text) is not None


def _is_function(text: str) -> bool:
    return _FUNCTION.fullmatch(text) is not None


def _is_expression(text: str) -> bool:
    """Return whether ``text`` is only calls of known symbolic functions on numbers and names."""
    try:
        nodes = list(ast.walk(ast.parse(text, mode="eval")))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return all(_is_expression_node(node) for node in nodes)


def _is_expression_node(node: ast.AST) -> bool:
    if isinstance(node, ast.Name):
        return node.id in _SYMBOLIC
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name)
    if isinstance(node, ast.Constant):
        return _is_name(str(node.value))
    return isinstance(node, _EXPRESSION_NODES)


def _is_structure(text: str) -> bool:
    """Return whether ``text`` describes tuples, lists and dictionaries, and no other container."""
    try:
        version, tree = json.loads(text)
    except (ValueError, TypeError):
        return False
    return isinstance(version, int) and _is_container(tree)


def _is_container(tree: Any) -> bool:
    if not isinstance(tree, dict) or tree.get("type") not in _CONTAINERS:
        return False
    context = json.loads(tree.get("context") or "null")
    plain = context is None or (
        isinstance(context, list) and all(isinstance(key, str) for key in context)
    )
    return plain and all(_is_container(child) for child in tree.get("children_spec", ()))


_CHECKS: Mapping[str, tuple[Callable[[str], bool], str]] = {
    "target": (_is_function, "the function"),
    "expr_str": (_is_expression, "the expression"),
    "in_spec": (_is_structure, "the structure"),
    "out_spec": (_is_structure, "the structure"),
}
