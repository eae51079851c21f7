"""Open ONNX files: as a PyTorch network where that gives the same outputs, else in onnxruntime."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

from torch import nn

from reportgen.classifier.black_box import BlackBox
from reportgen.classifier.onnx_conversion import Converted, converted
from reportgen.classifier.onnx_graphs import Graph, read_graph, require
from reportgen.classifier.onnx_runtime import Session, weights_of
from reportgen.classifier.opened import Opened
from reportgen.errors import NotApplicable

_FLOAT32 = "The model was of another precision, and was made to compute in float32."


def open_onnx(path: Path) -> Opened:
    """Return the model in an ONNX file, and what the file says about it.

    It is a PyTorch network, made by onnx2torch, where that gives the outputs of onnxruntime to
    within 1e-4 of the largest. Else onnxruntime runs it, which gives predictions only, and the
    reason says why. Raises ModelError for a file that cannot be used, or where the libraries for
    ONNX are not installed.
    """
    require("onnx2torch")
    graph = read_graph(path)
    session = Session(graph)
    notes = (_FLOAT32,) if graph.changed else ()
    try:
        made = converted(graph, session)
    except NotApplicable as error:
        reason = f"onnxruntime runs it: {error}"
        network = BlackBox(session, reason, session.devices, weights_of(graph))
        return _opened(graph, network, graph.intake.batch, notes)
    fixed = None if made.any_batch else graph.intake.batch
    return _opened(graph, made.network, fixed, (*notes, _note(made)))


def _opened(
    graph: Graph, network: nn.Module, fixed_batch: int | None, notes: tuple[str, ...]
) -> Opened:
    return Opened(
        network=network,
        name=graph.path.name,
        format="ONNX",
        architecture=f"graph by {graph.producer}" if graph.producer else "ONNX graph",
        hints=graph.hints,
        fixed_batch=fixed_batch,
        notes=notes,
    )


def _note(made: Converted) -> str:
    return (
        f"onnx2torch {version('onnx2torch')} turned the ONNX model into a PyTorch network, whose "
        f"outputs for noise differ from those of onnxruntime {version('onnxruntime')} by at most "
        f"{made.difference:.0e} of the largest."
    )
