"""Read an ONNX file as data: check that it takes pictures and names no file elsewhere.

An ONNX file holds operators and tensors, and no code. It may name files that hold its weights, and
operators from outside the standard; neither is followed further than its own folder.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reportgen.classifier.metadata import Hints, Known, combine
from reportgen.classifier.normalisation import WHITE
from reportgen.classifier.sniffing import read_failure
from reportgen.classifier.ultralytics import exported_hints
from reportgen.errors import ModelError

_EXTRA = "install it with: pip install 'reportgen[onnx]'"
# Those that onnxruntime brings with it.
_DOMAINS = ("", "ai.onnx", "ai.onnx.ml", "com.microsoft")
_LABELS = ("labels", "classes", "class_names", "names", "id2label")
_SHOWN = 3


@dataclass(frozen=True)
class Intake:
    """The one input of a graph. ``batch``, ``channels`` and ``size`` are None where they are free.

    ``channels_last`` is the layout of TensorFlow; ``whole`` numbers are uint8, from 0 to 255.
    """

    name: str
    batch: int | None
    channels: int | None
    size: tuple[int, int] | None
    channels_last: bool
    whole: bool

    def array(self, batch: Tensor) -> NDArray[Any]:
        """Return a batch (n, C, H, W) of floats as the graph takes it."""
        ordered = batch.permute(0, 2, 3, 1) if self.channels_last else batch
        numbers = ordered.round().clamp(0, WHITE).to(torch.uint8) if self.whole else ordered.float()
        return np.ascontiguousarray(numbers.detach().cpu().numpy())


@dataclass(frozen=True)
class Graph:
    """A checked ONNX model. ``proto`` computes in float32; it is ``changed`` if the file did not.

    ``hints`` are what the file says about its input and its classes, ``producer`` what wrote it.
    """

    path: Path
    proto: Any
    intake: Intake
    changed: bool
    hints: Hints
    producer: str

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names of the outputs."""
        return tuple(output.name for output in self.proto.graph.output)


def require(name: str) -> None:
    """Raise ModelError where a library for ONNX files is not installed."""
    from importlib.util import find_spec

    if find_spec(name) is None:
        raise ModelError(f"ONNX files need {name}, which is not installed; {_EXTRA}.")


def read_graph(path: Path) -> Graph:
    """Return the model in an ONNX file, with its weights in memory and in float32.

    Raises ModelError for a damaged file, custom operators, weights outside the file's folder or
    missing, and for a graph that does not take one batch of pictures or gives no scores.
    """
    for library in ("onnx", "onnxruntime"):
        require(library)
    import onnx

    try:
        proto = onnx.load(str(path), load_external_data=False)
    except Exception:
        proto = None
    if proto is None or not proto.graph.node:
        raise ModelError(
            f"The model file '{path}' holds no ONNX graph that can be read; it may be damaged, or "
            "of another format that begins alike (Core ML's, or TensorFlow's saved_model.pb); copy "
            "it again, or export the model to ONNX."
        )
    _check_operators(path, proto)
    _load_weights(path, proto)
    changed = _to_float32(proto)
    intake = _intake(path, proto)
    _check_outputs(path, proto)
    producer = " ".join(filter(None, (proto.producer_name, proto.producer_version)))
    return Graph(path, proto, intake, changed, _hints(path, proto, intake), producer)


def tensors_of(proto: Any) -> Iterator[Any]:
    """Give every tensor of a model: weights and constants, in functions and inner graphs too."""
    for graph in _graphs(proto):
        yield from graph.initializer
    for node in _nodes(proto):
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors


def _graphs(proto: Any) -> Iterator[Any]:
    yield proto.graph
    for node in _nodes(proto):
        for attribute in node.attribute:
            yield from [attribute.g] if attribute.HasField("g") else attribute.graphs


def _nodes(proto: Any) -> Iterator[Any]:
    left = [*proto.graph.node, *(node for function in proto.functions for node in function.node)]
    while left:
        node = left.pop(0)
        yield node
        for attribute in node.attribute:
            inner = [attribute.g] if attribute.HasField("g") else attribute.graphs
            left.extend(node for graph in inner for node in graph.node)


def _check_operators(path: Path, proto: Any) -> None:
    own = {(function.domain, function.name) for function in proto.functions}
    used = {(node.domain, node.op_type) for node in _nodes(proto)} - own
    custom = sorted(f"{kind} ({domain})" for domain, kind in used if domain not in _DOMAINS)
    if custom:
        raise ModelError(
            f"The ONNX model '{path}' uses operators that are not part of ONNX: "
            f"{', '.join(custom[:_SHOWN])}; they need code from elsewhere, so export it with "
            "standard operators only."
        )


def _load_weights(path: Path, proto: Any) -> None:
    from onnx.external_data_helper import (
        ExternalDataInfo,
        load_external_data_for_model,
        uses_external_data,
    )

    folder = path.parent.resolve()
    for location in {
        ExternalDataInfo(t).location for t in tensors_of(proto) if uses_external_data(t)
    }:
        file = folder / location
        if not location or not file.resolve().is_relative_to(folder):
            raise ModelError(
                f"The ONNX model '{path}' names weights outside its own folder ('{location}'), "
                "which are not read; put them beside it and export it again."
            )
        if not file.is_file():
            raise ModelError(
                f"The weights of the ONNX model '{path}' are in '{location}', which is missing; "
                "put that file beside it."
            )
    try:
        load_external_data_for_model(proto, str(folder))
    except Exception as error:
        raise read_failure(path, error, "onnx") from None


def _to_float32(proto: Any) -> bool:
    """Let a model of other precision compute in float32; return whether it was of another one."""
    from onnx import TensorProto, numpy_helper

    others = (TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE)
    found = [tensor for tensor in tensors_of(proto) if tensor.data_type in others]
    for tensor in found:
        values = np.asarray(numpy_helper.to_array(tensor)).astype(np.float32)
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    typed = [
        value.type.tensor_type
        for graph in _graphs(proto)
        for value in (*graph.input, *graph.output, *graph.value_info)
        if value.type.tensor_type.elem_type in others
    ]
    for kind in typed:
        kind.elem_type = TensorProto.FLOAT
    casts = [
        attribute
        for node in _nodes(proto)
        if node.op_type == "Cast"
        for attribute in node.attribute
        if attribute.name == "to" and attribute.i in others
    ]
    for attribute in casts:
        attribute.i = TensorProto.FLOAT
    return bool(found or typed or casts)


def _intake(path: Path, proto: Any) -> Intake:
    from onnx import TensorProto

    stored = {tensor.name for tensor in proto.graph.initializer}
    inputs = [value for value in proto.graph.input if value.name not in stored]
    kinds = (TensorProto.FLOAT, TensorProto.UINT8)
    first: Any = inputs[0].type.tensor_type if inputs else None
    if len(inputs) != 1 or first.elem_type not in kinds or len(first.shape.dim) != 4:
        shown = ", ".join(map(_described, inputs)) or "no input"
        raise ModelError(
            f"The ONNX model '{path}' takes {shown}, where one batch of pictures (batch, channels, "
            "height, width), float or uint8, was expected; export it with one."
        )
    batch, *sides = (d.dim_value if d.dim_value > 0 else None for d in first.shape.dim)
    last = _channels_last(proto, inputs[0].name, sides)
    channels, height, width = (sides[2], *sides[:2]) if last else sides
    return Intake(
        name=inputs[0].name,
        batch=batch,
        channels=channels or _channels_of_kernel(proto),
        size=(height, width) if height and width else None,
        channels_last=last,
        whole=first.elem_type == TensorProto.UINT8,
    )


def _channels_last(proto: Any, name: str, sides: list[int | None]) -> bool:
    """Return whether the last of three dimensions holds the channels: the smaller stated one."""
    first, _, last = sides
    if first and last and first != last:
        return last < first
    if bool(first) != bool(last):
        return bool(last)
    # Converters from TensorFlow turn the input round before the first convolution.
    turns = [n for n in proto.graph.node if n.op_type == "Transpose" and name in n.input]
    return any(list(a.ints) == [0, 3, 1, 2] for node in turns for a in node.attribute)


def _channels_of_kernel(proto: Any) -> int | None:
    shapes = {tensor.name: list(tensor.dims) for tensor in proto.graph.initializer}
    for node in proto.graph.node:
        if node.op_type == "Conv" and len(shapes.get(node.input[1], ())) == 4:
            groups = next((a.i for a in node.attribute if a.name == "group"), 1)
            return int(shapes[node.input[1]][1]) * groups
    return None


def _check_outputs(path: Path, proto: Any) -> None:
    from onnx import TensorProto

    kinds = [output.type.tensor_type.elem_type for output in proto.graph.output]
    if TensorProto.FLOAT not in kinds:
        shown = ", ".join(map(_described, proto.graph.output)) or "nothing"
        raise ModelError(
            f"The ONNX model '{path}' gives {shown}, and no class scores; export it without the "
            "last step that turns scores into a class."
        )


def _described(value: Any) -> str:
    from onnx import TensorProto

    tensor = value.type.tensor_type
    kind = TensorProto.DataType.Name(tensor.elem_type).lower() if tensor.elem_type else "no tensor"
    shape = ", ".join(d.dim_param or str(d.dim_value or "?") for d in tensor.shape.dim)
    return f"'{value.name}' ({kind}: {shape or 'no shape'})"


def _hints(path: Path, proto: Any, intake: Intake) -> Hints:
    entries = {entry.key.casefold(): entry.value for entry in proto.metadata_props}
    labels = next(filter(None, (_labels(entries.get(key, "")) for key in _LABELS)), None)
    mean, std = (_numbers(entries.get(key, "")) for key in ("mean", "std"))
    if intake.whole:  # whole numbers are what a network that normalises by itself takes
        mean, std = ((value,) * (intake.channels or 3) for value in (0.0, 1 / WHITE))
    stated = Hints(
        labels=Known(labels, "file") if labels else None,
        channels=Known(intake.channels, "file") if intake.channels else None,
        crop=Known(intake.size, "file") if intake.size else None,
        mean=Known(mean, "file") if mean and std else None,
        std=Known(std, "file") if mean and std else None,
    )
    read = {key: _value(text) or text for key, text in entries.items()}
    return combine(stated, exported_hints(read, str(path)))


def _labels(text: str) -> tuple[str, ...] | None:
    """Return the labels in free text, a list or an object by index; None for anything else."""
    value = _value(text)
    if isinstance(value, dict):
        by_index = {str(index): label for index, label in value.items()}
        value = [by_index.get(str(index)) for index in range(len(by_index))]
    if isinstance(value, list | tuple) and value and all(isinstance(v, str) and v for v in value):
        return tuple(value)
    return None


def _numbers(text: str) -> tuple[float, ...] | None:
    value = _value(text)
    if not isinstance(value, list | tuple) or not value:
        return None
    if not all(isinstance(v, int | float) and 0 <= v <= 1 for v in value):
        return None
    return tuple(float(v) for v in value)


def _value(text: str) -> object:
    for read in (json.loads, ast.literal_eval):  # exporters write either; neither runs anything
        try:
            return read(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
    return None
