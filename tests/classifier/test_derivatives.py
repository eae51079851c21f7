"""Why a network cannot be differentiated is said in words, not in PyTorch's."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from toys import classified, pictures, request, seeded

import reportgen
from reportgen.attribution import METHODS, gradients
from reportgen.classifier.derivatives import cause, in_words
from reportgen.errors import ModelError, NotApplicable

SQUARE = (3, 16, 16)


class Doubling(torch.autograd.Function):
    """Doubles its input, with no way back."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        return tensor * 2


class Encoder(nn.Module):
    """Patches, PyTorch's own transformer layers, and a mean over them."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 16, 4, 4)
        layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, 1)
        self.head = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.layers(self.patches(x).flatten(2).mT)
        scores: Tensor = self.head(tokens.mean(1))
        return scores


class Small(nn.Module):
    """Two convolutions with a function between them."""

    def __init__(self, between: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 3, 3)
        self.between = between

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.between(self.first(x))).mean((2, 3))


def in_place(tensor: Tensor) -> Tensor:
    found = tensor.exp()
    found += 1
    return found


def odd(tensor: Tensor) -> Tensor:
    if tensor.requires_grad:
        raise RuntimeError("the moon is in the wrong house.\nAnd more")
    return tensor


def fast() -> nn.Module:
    """Return a trace of PyTorch's fast path of transformer layers."""
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        found: nn.Module = torch.jit.trace(seeded(Encoder), torch.rand(2, *SQUARE))
    return found


with torch.inference_mode():
    SCALE = torch.full((1, 4, 1, 1), 2.0)


FAST = "no gradient passes its transformer layers, which were traced in PyTorch's fast path"
BROKEN: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "fast path": (fast, FAST),
    "no backward": (
        lambda: seeded(lambda: Small(Doubling.apply)),
        "the network has a function of its own without a gradient",
    ),
    "in place": (
        lambda: seeded(lambda: Small(in_place)),
        "the network changes in place what its gradient needs",
    ),
    "inference": (
        lambda: seeded(lambda: Small(lambda tensor: tensor * SCALE)),
        "the network holds tensors made in torch.inference_mode",
    ),
    "unknown": (
        lambda: seeded(lambda: Small(odd)),
        r"fails in PyTorch or in the network \(RuntimeError: the moon is in the wrong house\)$",
    ),
}


CASES = [(kind, method) for kind in BROKEN for method in ("saliency", "gradcam")]
# Class activation maps look at copies, which the network may change.
CASES.remove(("in place", "gradcam"))


@pytest.mark.parametrize(("kind", "method"), CASES)
def test_a_method_fails_in_words(kind: str, method: str) -> None:
    make, said = BROKEN[kind]
    with classified(make(), SQUARE) as classifier, pytest.raises(NotApplicable, match=said):
        METHODS[method].explain(request(classifier, pictures(1)))


def test_what_pytorch_itself_says_is_seen_without_the_words() -> None:
    with classified(fast(), SQUARE) as classifier, pytest.raises(RuntimeError, match="aten::"):
        gradients.SALIENCY_METHOD.explain(request(classifier, pictures(1)))


def test_an_operator_without_a_gradient_is_named() -> None:
    error = RuntimeError("derivative for aten::grid_sampler_x is not implemented")
    assert "the operator aten::grid_sampler_x, of which PyTorch has no gradient" in cause(error)


def test_of_a_script_the_last_line_is_told() -> None:
    text = "The following operation failed in the TorchScript interpreter.\nTraceback\n  x = y\n"
    told = cause(RuntimeError(f"{text}RuntimeError: no such thing"))
    assert told.endswith("or in the network (RuntimeError: no such thing)")
    assert cause(RuntimeError()).endswith("or in the network (RuntimeError)")


@pytest.mark.parametrize(
    "error",
    [
        ModelError("said on purpose"),
        MemoryError(),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
        KeyError("another"),
    ],
)
def test_what_is_not_of_the_gradient_stays_as_it_is(error: Exception) -> None:
    with pytest.raises(type(error)) as caught, in_words():
        raise error
    assert caught.value is error


@pytest.mark.parametrize("kind", ["fast path", "no backward"])
def test_the_report_is_made_without_gradients(kind: str, tmp_path: Path) -> None:
    make, said = BROKEN[kind]
    picture = np.random.default_rng(0).integers(0, 255, (16, 16, 3), dtype=np.uint8)
    options = {
        "size": "16", "profile": "quick", "methods": "gradcam,saliency,lime,occlusion",
        "metrics": "confidence", "segments": 9, "lime_samples": 20,
    }  # fmt: skip
    report = reportgen.explain(make(), picture, options).report
    assert [a.method for a in report.attributions] == ["lime", "occlusion"]
    assert all(said in skipped.reason for skipped in report.skipped)
    assert said in report.model.predictions_only
