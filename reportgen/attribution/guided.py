"""Guided backpropagation, through every rectifier that the network calls as a function."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from reportgen.attribution.base import Explained, Method, Request, in_batches
from reportgen.attribution.gradients import gradients, largest
from reportgen.config import Config
from reportgen.errors import NotApplicable
from reportgen.records import Card
from reportgen.work import Size, Work

CARD = Card(
    key="guided-backprop",
    title="Guided Backpropagation",
    category="gradient, changed at rectifiers",
    definition="The gradient of the class score, where every ReLU (also ReLU6) lets only positive "
    "gradients back through; the largest absolute value over the channels of each pixel.",
    paper="Springenberg et al., Striving for Simplicity: The All Convolutional Net, ICLR 2015 "
    "workshop, arXiv 1412.6806",
    range=(0, None),
    needs="gradients of the input, and a network with ReLU",
    seeding="deterministic",
    limits="Nearly the same for every class: it draws the edges that the first layers see, and is "
    "no evidence of what the class rests on (Adebayo et al. 2018). Activations that are no "
    "ReLU are left as they are, and so is a ReLU spelled as clamp or maximum.",
    granularity="pixels",
    class_agnostic=True,
)
_RECTIFIERS = {"relu", "relu6"}
_CLIPPED = "hardtanh"


class _Guided(TorchFunctionMode):
    """Lets only positive gradients back into the rectifiers that are called inside it.

    What a module calls inside its forward is seen, and so are the operators of an exported graph.
    A tensor's hook runs on the whole gradient by that tensor, before the rectifier's own backward.
    """

    def __init__(self) -> None:
        super().__init__()
        self.seen = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if _rectifies(func, args, kwargs or {}) and result.requires_grad:
            self.seen += 1
            result.register_hook(_positive)
        return result


def _rectifies(func: Any, args: Any, kwargs: Any) -> bool:
    # torch.relu_, Tensor.relu_ and aten.relu_.default are all relu, in place.
    name = str(getattr(func, "__name__", "")).split(".")[0].rstrip("_")
    if name == _CLIPPED:
        lowest = args[1] if len(args) > 1 else kwargs.get("min_val", -1)
        return bool(lowest == 0)
    return name in _RECTIFIERS


def _positive(gradient: Tensor) -> Tensor:
    return gradient.clamp_min(0)


def _explain(request: Request) -> Explained:
    network = request.classifier.evaluator.network
    if any(isinstance(module, torch.jit.ScriptModule) for module in network.modules()):
        raise NotApplicable(
            "guided backpropagation changes the gradient of each ReLU, and those inside "
            "TorchScript cannot be reached"
        )
    seen: list[int] = []
    maps = in_batches(request, lambda pixels: _guided(request, pixels, seen))
    return Explained(
        maps=maps,
        signed=False,
        resolution="pixels",
        settings={
            "score": request.classifier.evaluator.head.score,
            "channels": "largest absolute value",
            "rectifiers in a pass": seen[0],
        },
    )


def _guided(request: Request, pixels: Tensor, seen: list[int]) -> Tensor:
    with _Guided() as mode:
        gradient = gradients(request, pixels)
    if mode.seen == 0:
        raise NotApplicable(
            "guided backpropagation changes the gradient of each ReLU, and this network calls none"
        )
    seen.append(mode.seen)
    return largest(gradient)


def _work(config: Config, size: Size) -> Work:
    return Work(1, 1)


METHOD = Method(CARD, _explain, _work)
