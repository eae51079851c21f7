"""ONNX files of a small network: a convolution, a ReLU, the mean over places, a linear layer."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

CLASSES = 5
SIDE = 16


@dataclass(frozen=True)
class Form:
    """How a toy is written: its input's type and (batch, height, width), its layout and outputs.

    ``added`` nodes stand behind the scores, and ``outputs`` name what the graph returns.
    """

    kind: int = TensorProto.FLOAT
    batch: int | str = "n"
    sides: tuple[int | str, int | str] = (SIDE, SIDE)
    channels_last: bool = False
    opset: int = 17
    added: tuple[onnx.NodeProto, ...] = ()
    outputs: tuple[tuple[str, int], ...] = (("scores", TensorProto.FLOAT),)
    metadata: tuple[tuple[str, str], ...] = ()


PLAIN = Form()


def toy(form: Form = PLAIN) -> onnx.ModelProto:
    """Return the small network in this form; the weights are always the same."""
    draws = np.random.default_rng(0)
    half = form.kind in (TensorProto.FLOAT16, TensorProto.DOUBLE)
    kind = helper.tensor_dtype_to_np_dtype(form.kind) if half else np.dtype(np.float32)
    weights = {
        "kernel": draws.normal(size=(4, 3, 3, 3)),
        "matrix": draws.normal(size=(CLASSES, 4)),
        "bias": draws.normal(size=CLASSES),
    }
    channels = (*form.sides, 3) if form.channels_last else (3, *form.sides)
    outputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT if not half else form.kind, None)
        if of == TensorProto.FLOAT
        else helper.make_tensor_value_info(name, of, None)
        for name, of in form.outputs
    ]
    graph = helper.make_graph(
        [*_before(form), *_NODES, *form.added],
        "toy",
        [helper.make_tensor_value_info("pictures", form.kind, (form.batch, *channels))],
        outputs,
        [numpy_helper.from_array(v.astype(kind), name) for name, v in weights.items()],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", form.opset)], producer_name="toys"
    )
    model.ir_version = 8
    helper.set_model_props(model, dict(form.metadata))
    return model


_NODES = (
    helper.make_node("Conv", ["seen", "kernel"], ["felt"], pads=[1, 1, 1, 1]),
    helper.make_node("Relu", ["felt"], ["active"]),
    helper.make_node("GlobalAveragePool", ["active"], ["pooled"]),
    helper.make_node("Flatten", ["pooled"], ["flat"]),
    helper.make_node("Gemm", ["flat", "matrix", "bias"], ["scores"], transB=1),
)


def _before(form: Form) -> list[onnx.NodeProto]:
    """Return the nodes between the input and the convolution."""
    whole = form.kind == TensorProto.UINT8
    cast = helper.make_node("Cast", ["pictures"], ["floats"], to=TensorProto.FLOAT)
    given = "floats" if whole else "pictures"
    turned = helper.make_node("Transpose", [given], ["seen"], perm=[0, 3, 1, 2])
    kept = helper.make_node("Identity", [given], ["seen"])
    return [*([cast] if whole else []), turned if form.channels_last else kept]


def written(folder: Path, form: Form = PLAIN) -> Path:
    """Write the small network in this form and return the path."""
    path = folder / "toy.onnx"
    onnx.save(toy(form), path)
    return path


def as_module() -> nn.Module:
    """Return the small network as PyTorch has it."""
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1, bias=False),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, CLASSES),
    )
    stored = {t.name: torch.from_numpy(numpy_helper.to_array(t).copy()) for t in _initializers()}
    names = {"0.weight": "kernel", "4.weight": "matrix", "4.bias": "bias"}
    network.load_state_dict({name: stored[of] for name, of in names.items()})
    return network.eval()


def _initializers() -> Sequence[Any]:
    return list(toy().graph.initializer)


def exported(network: nn.Module, pictures: torch.Tensor, path: Path, **options: Any) -> Path:
    """Export a network with free batch size by the exporter that records, and return the path."""
    axes = {"pictures": {0: "n"}, "scores": {0: "n"}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network.eval(),
            (pictures,),
            path,
            input_names=["pictures"],
            output_names=["scores"],
            dynamic_axes=axes,
            dynamo=False,
            **options,
        )
    return path
