"""How a network's outputs become class scores and class probabilities.

A *score* is the number whose gradient explains a class (the logit, or the logarithm of a
probability where the network gives probabilities already). A head with one output stands for two
classes: the output speaks for the second of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from reportgen.errors import ModelError

_TINY = 1e-12


@dataclass(frozen=True)
class Head:
    """Maps raw outputs (n, outputs) to scores and to probabilities, both (n, classes).

    ``score`` says in words what a score is.
    """

    kind: str
    title: str
    scores: Callable[[Tensor], Tensor]
    probabilities: Callable[[Tensor], Tensor]
    score: str = "logit"


def _two_sided(raw: Tensor) -> Tensor:
    return torch.cat([-raw, raw], dim=1)


def _both(raw: Tensor) -> Tensor:
    return torch.cat([1 - raw, raw], dim=1) if raw.shape[1] == 1 else raw


HEADS: Mapping[str, Head] = {
    "softmax": Head("softmax", "softmax of logits", lambda z: z, lambda z: z.softmax(dim=1)),
    "sigmoid": Head(
        "sigmoid",
        "sigmoid of one logit, which speaks for the second class",
        _two_sided,
        lambda z: _two_sided(z).sigmoid(),
    ),
    "multilabel": Head("multilabel", "one sigmoid for each class", lambda z: z, torch.sigmoid),
    "probabilities": Head(
        "probabilities",
        "probabilities, as the network gives them",
        lambda p: _both(p).clamp_min(_TINY).log(),
        _both,
        score="log-probability",
    ),
}


def detect_head(raw: Tensor) -> str:
    """Return the key in HEADS that fits raw outputs (n, outputs) of several different pictures.

    Outputs that all lie in [0, 1] are probabilities; one other output is a logit of two classes;
    several are the logits of a softmax. Several sigmoids cannot be told from softmax logits by
    looking: they must be stated.
    """
    in_range = bool(((raw >= 0) & (raw <= 1)).all())
    if in_range and (raw.shape[1] == 1 or _holds_mass(raw)):
        return "probabilities"
    return "sigmoid" if raw.shape[1] == 1 else "softmax"


def _holds_mass(raw: Tensor) -> bool:
    # All-zero outputs (a dead network) also lie in [0, 1]; "probabilities" would hide that.
    return bool((raw.sum(dim=1) > 0.5).all())


def check_head(kind: str, outputs: int) -> Head:
    """Return the head, or raise ModelError where it cannot fit a network with this many outputs."""
    if kind == "sigmoid" and outputs != 1:
        raise ModelError(
            f"The head 'sigmoid' is for a network with one output, but this one has {outputs}; "
            "use 'multilabel' for one sigmoid a class, or 'softmax'."
        )
    if kind == "softmax" and outputs == 1:
        raise ModelError(
            "The head 'softmax' needs two or more outputs, but this network has one; use 'sigmoid'."
        )
    return HEADS[kind]


def class_outputs(output: object, images: int) -> Tensor:
    """Return a network's output as (images, outputs), or raise ModelError saying what it was."""
    if not isinstance(output, Tensor):
        raise ModelError(
            f"The model should return one tensor of class scores, but it returned {_kind(output)}; "
            "wrap it so that its forward returns the scores alone."
        )
    if output.ndim < 2 and output.numel() == images:
        return output.reshape(images, 1)  # one output, from a forward that squeezes
    if output.ndim > 2 and output.shape[0] == images and output[0].numel() == output.shape[1]:
        return output.flatten(1)
    if output.ndim != 2 or output.shape[0] != images:
        raise ModelError(
            f"The model should return class scores of shape ({images}, classes), but it returned "
            f"shape {tuple(output.shape)}: a feature map or another kind of output, which a "
            "classifier's last layers would turn into scores."
        )
    return output


def _kind(output: object) -> str:
    name = type(output).__name__
    if isinstance(output, Mapping):
        return f"a {name} with the keys {', '.join(map(str, output))}"
    if isinstance(output, tuple | list):
        return f"a {name} of {len(output)} items"
    return f"a {name}"
