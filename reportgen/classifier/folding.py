"""Copies of a network for passes without gradients, which do less work for the same outputs.

In eval mode batch normalisation multiplies and adds constants, which can be folded into the weights
of the convolution before it (Jacob et al., Quantization and Training of Neural Networks for
Efficient Integer-Arithmetic-Only Inference, CVPR 2018, section 3.2); ``torch.jit.freeze`` does it.
A copy holds the weights that the network had when the copy was made.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.jit._trace import TracerWarning

from reportgen.classifier.borrowing import borrowed
from reportgen.classifier.device import tf32
from reportgen.errors import NotApplicable

Forward = Callable[[Tensor], object]

_NORMALISATION = "aten::batch_norm"


def folded(network: nn.Module, batch: Tensor) -> Forward | None:
    """Return the network with batch normalisation folded in, or None where that cannot be done.

    ``batch`` (n, C, H, W) is normalised, and of a size that the network accepts. There is no copy
    of a network whose Python code decides something by looking at its tensors, because a recording
    would keep the decision for ``batch``, nor where no batch normalisation could be folded.
    """
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore", DeprecationWarning)
            warnings.simplefilter("ignore", FutureWarning)
            warnings.simplefilter("error", TracerWarning)
            recorded = _recorded(network, batch)
            found = _normalisations(recorded)
            frozen = torch.jit.freeze(recorded) if found else recorded
    except Exception:  # whatever recording meets in the user's code, the network itself still runs
        return None
    return frozen if _normalisations(frozen) < found else None


def reduced(network: nn.Module, batch: Tensor, dtype: torch.dtype) -> Forward:
    """Return a copy of the network that computes in ``dtype``, folded where that can be done.

    It takes and returns tensors of ``dtype``. ``batch`` is as in ``folded``. Raises NotApplicable
    where the network does not run in ``dtype``.
    """
    name = str(dtype).removeprefix("torch.")
    try:
        with warnings.catch_warnings(), torch.inference_mode():
            warnings.simplefilter("ignore")
            converted = copy.deepcopy(network).to(dtype)
            converted(batch.to(dtype))
    except Exception as error:  # whatever the user's code says to the other type
        # TorchScript says what went wrong last.
        reason = (str(error).strip().splitlines() or [type(error).__name__])[-1]
        raise NotApplicable(f"the model does not run in {name}: {reason}") from error
    return folded(converted, batch.to(dtype)) or converted


def rounded(run: Forward) -> Forward:
    """Return ``run`` with TF32 allowed, for NVIDIA GPUs."""

    def call(batch: Tensor) -> object:
        with tf32(True):
            return run(batch)

    return call


class _InOnePiece(nn.Module):
    """A network whose parts are not registered.

    Of each registered part a module of TorchScript's would be made first, which takes longer than
    the recording. Weights are constants from the start, as freezing makes them anyway.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self._run = (network,)

    def forward(self, batch: Tensor) -> object:
        return self._run[0](batch)


def _recorded(network: nn.Module, batch: Tensor) -> torch.jit.ScriptModule:
    if isinstance(network, torch.jit.ScriptModule):
        return network
    # What is recorded may call no script that is not registered.
    scripts = any(isinstance(part, torch.jit.ScriptModule) for part in network.modules())
    with borrowed(network):  # what wants a gradient cannot be a constant
        recorded: torch.jit.ScriptModule = torch.jit.trace(  # type: ignore[no-untyped-call]
            network if scripts else _InOnePiece(network).eval(),
            batch,
            check_trace=False,
            strict=False,
        )
    return recorded.eval()  # the graph of an exported program passes for one in training


def _normalisations(module: torch.jit.ScriptModule) -> int:
    graph: Any = module.inlined_graph
    return len(graph.findAllNodes(_NORMALISATION))
