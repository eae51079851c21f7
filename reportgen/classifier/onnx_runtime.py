"""An ONNX model run by onnxruntime: predictions, and nothing else."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reportgen.classifier.onnx_graphs import Graph
from reportgen.classifier.sniffing import read_failure

_PROVIDERS = {"cuda": "CUDAExecutionProvider", "cpu": "CPUExecutionProvider"}
_ERRORS_ONLY = 3


class Session:
    """Runs a graph on batches (n, C, H, W) of floats, on the device that they are on."""

    def __init__(self, graph: Graph) -> None:
        self._intake = graph.intake
        self._names = graph.outputs
        # A file as it is need not be in memory twice.
        self._content = graph.proto.SerializeToString() if graph.changed else str(graph.path)
        self._sessions: dict[str, Any] = {}
        try:
            self._session("cpu")
        except Exception as error:
            raise read_failure(graph.path, error, "onnxruntime") from None

    @property
    def devices(self) -> tuple[str, ...]:
        """The devices that this onnxruntime can use here, the best first."""
        import onnxruntime

        present = onnxruntime.get_available_providers()
        known = {"cuda": torch.cuda.is_available(), "cpu": True}
        return tuple(d for d in _PROVIDERS if known[d] and _PROVIDERS[d] in present)

    def __call__(self, batch: Tensor) -> object:
        """Return the output, or all of them by name where there are several."""
        values = self._session(batch.device.type).run(
            None, {self._intake.name: self._intake.array(batch)}
        )
        found = {
            name: torch.from_numpy(np.array(value)).to(batch.device)
            for name, value in zip(self._names, values, strict=True)
            if isinstance(value, np.ndarray) and value.dtype.kind in "biuf"
        }
        return found if len(self._names) > 1 else next(iter(found.values()))

    def _session(self, device: str) -> Any:
        if device not in self._sessions:
            import onnxruntime

            options = onnxruntime.SessionOptions()
            options.log_severity_level = _ERRORS_ONLY
            options.intra_op_num_threads = torch.get_num_threads()
            # What one provider cannot compute falls to the next.
            providers = list(dict.fromkeys((_PROVIDERS[device], _PROVIDERS["cpu"])))
            self._sessions[device] = onnxruntime.InferenceSession(
                self._content, options, providers=providers
            )
        return self._sessions[device]


def weights_of(graph: Graph) -> tuple[int, str]:
    """Return how many numbers the weights of a graph are, and the SHA-256 over all of them."""
    from onnx import numpy_helper

    digest, count = hashlib.sha256(), 0
    for tensor in sorted(graph.proto.graph.initializer, key=lambda tensor: str(tensor.name)):
        values = np.asarray(numpy_helper.to_array(tensor))
        digest.update(f"{tensor.name} {values.dtype} {values.shape} ".encode())
        digest.update(np.ascontiguousarray(values).tobytes())
        count += values.size
    return count, digest.hexdigest()
