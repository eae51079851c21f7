"""How a network's outputs become class scores and class probabilities.

A *score* is the number whose gradient explains a class (the logit, or the logarithm of a
probability where the network gives probabilities already). A head with one output stands for two
classes: the output speaks for the second of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from reportgen.classifier.outputs import class_outputs
from reportgen.errors import ModelError, UsageError
from reportgen.records import Source

_TINY = 1e-12
_SUM = 1e-2  # how far the sum of probabilities may be from 1, for networks of half precision


@dataclass(frozen=True)
class Head:
    """Maps raw outputs (n, outputs) to scores and to probabilities, both (n, classes).

    ``score`` says in words what a score is. With ``several`` labels a picture each probability
    stands alone; else one class holds, and they sum to 1. ``read`` finds the raw outputs in what
    the network returns.
    """

    kind: str
    title: str
    scores: Callable[[Tensor], Tensor]
    probabilities: Callable[[Tensor], Tensor]
    score: str = "logit"
    several: bool = False
    temperature: float | None = None
    read: Callable[[object, int], Tensor] = class_outputs


@dataclass(frozen=True)
class Detected:
    """The key in HEADS that fits, and the evidence for it; "assumed" where that is weak."""

    kind: str
    source: Source
    evidence: str


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
    "multilabel": Head(
        "multilabel", "one sigmoid for each class", lambda z: z, torch.sigmoid, several=True
    ),
    "probabilities": Head(
        "probabilities",
        "probabilities, as the network gives them",
        lambda p: _both(p).clamp_min(_TINY).log(),
        _both,
        score="log-probability",
    ),
    "multilabel-probabilities": Head(
        "multilabel-probabilities",
        "one probability for each class, as the network gives them",
        lambda p: p.clamp_min(_TINY).log(),
        lambda p: p,
        score="log-probability",
        several=True,
    ),
    "log-probabilities": Head(
        "log-probabilities",
        "exponential of log-probabilities, as the network gives them",
        lambda z: z,
        torch.exp,
        score="log-probability",
    ),
}
_LAST: Mapping[str, str] = {
    "Softmax": "softmax",
    "LogSoftmax": "log-softmax",
    "Sigmoid": "sigmoid",
    "Addmm": "linear layer",
    "Mm": "linear layer",
    "Convolution": "convolution",
}
_LINEAR = ("linear layer", "convolution")
# Heads whose scores are logarithms of their probabilities, but for one constant a picture.
_LOGARITHMIC = ("softmax", "probabilities", "log-probabilities")
_RESHAPING = (
    "View", "UnsafeView", "ReshapeAlias", "Squeeze", "Unsqueeze", "Clone", "Alias", "Select",
    "Slice", "ToCopy", "T", "Transpose", "Permute",
)  # fmt: skip


def detect_head(raw: Tensor, last: str = "") -> Detected:
    """Return the head that fits raw outputs (n, outputs) of several different pictures.

    ``last`` is the network's ``last_operation``, which settles what the values leave open. Outputs
    that all lie in [0, 1] are probabilities: of one class that holds where they sum to 1, else of
    each class alone. Outputs whose exponentials sum to 1 are log-probabilities. Of others, one is
    the logit of two classes, and several are the logits of a softmax: several sigmoids cannot be
    told from it by looking, they must be stated.
    """
    single = raw.shape[1] == 1
    if not single and _sum_to_one(raw.exp()):
        return Detected("log-probabilities", "detected", _summing("their exponentials", raw, last))
    if not _in_range(raw) or last in _LINEAR:
        return Detected("sigmoid" if single else "softmax", "detected", _open(raw, last))
    if not single and _sum_to_one(raw):
        return Detected("probabilities", "detected", _summing("they", raw, last))
    if not single and _constant(raw):
        # All-zero outputs (a dead network) also lie in [0, 1]; "probabilities" would hide that.
        return Detected("softmax", "assumed", "its outputs are the same for every probe picture")
    kind = "probabilities" if single else "multilabel-probabilities"
    source: Source = "detected" if last == "sigmoid" else "assumed"
    return Detected(kind, source, _range(raw, last))


def last_operation(output: object) -> str:
    """Return the operation that made a network's output, such as "softmax"; "" if not known.

    It is known where the output (a tensor) can be differentiated; what only reshapes is left out.
    """
    node = getattr(output, "grad_fn", None)
    while node is not None:
        name = node.name().rstrip("0123456789").removesuffix("Backward")
        if name not in _RESHAPING or not node.next_functions:
            return _LAST.get(name, "")
        node = node.next_functions[0][0]
    return ""


def _in_range(raw: Tensor) -> bool:
    return bool(((raw >= 0) & (raw <= 1)).all())


def _sum_to_one(values: Tensor) -> bool:
    return _in_range(values) and bool(((values.sum(dim=1) - 1).abs() <= _SUM).all())


def _constant(raw: Tensor) -> bool:
    return bool((raw == raw[:1]).all())


def _ends(last: str) -> str:
    return f"; the last operation is a {last}" if last else ""


def _open(raw: Tensor, last: str) -> str:
    found = "all outputs lie in [0, 1]" if _in_range(raw) else "some outputs lie outside [0, 1]"
    return f"for {len(raw)} probe pictures {found}{_ends(last)}"


def _summing(what: str, raw: Tensor, last: str) -> str:
    return f"for {len(raw)} probe pictures {what} sum to 1{_ends(last)}"


def _range(raw: Tensor, last: str) -> str:
    one = "the output lies" if raw.shape[1] == 1 else "all outputs lie"
    sums = "" if raw.shape[1] == 1 else " and do not sum to 1"
    return f"for {len(raw)} probe pictures {one} in [0, 1]{sums}{_ends(last)}"


def check_head(kind: str, outputs: int) -> Head:
    """Return the head, or raise ModelError where it cannot fit a network with this many outputs."""
    if kind == "sigmoid" and outputs != 1:
        raise ModelError(
            f"The head 'sigmoid' is for a network with one output, but this one has {outputs}; "
            "use 'multilabel' for one sigmoid a class, or 'softmax'."
        )
    if kind in ("softmax", "log-probabilities") and outputs == 1:
        raise ModelError(
            f"The head '{kind}' needs two or more outputs, but this network has one; use 'sigmoid'."
        )
    return HEADS[kind]


def tempered(head: Head, temperature: float | None) -> Head:
    """Return the head with its logits divided by ``temperature``; the scores are those quotients.

    Raises UsageError where the network gives no logits. Guo et al., On Calibration of Modern Neural
    Networks, ICML 2017, arXiv 1706.04599.
    """
    if temperature is None:
        return head
    if head.score != "logit":
        raise UsageError(
            "The option temperature divides logits, but this model gives probabilities already; "
            "leave it out."
        )
    return replace(
        head,
        title=f"{head.title}, divided by the temperature {temperature:g}",
        scores=lambda raw: head.scores(raw / temperature),
        probabilities=lambda raw: head.probabilities(raw / temperature),
        score=f"logit divided by {temperature:g}",
        temperature=temperature,
    )


def contrasted(head: Head, first: int, second: int) -> Head:
    """Return the head with one more column: why the class ``first`` and not ``second``.

    Its score is the difference of the two scores, its probability that of the first against the
    second alone, p1 / (p1 + p2).
    """
    return replace(
        head,
        scores=partial(_with_difference, head, first, second),
        probabilities=partial(_with_share, head, first, second),
        score=f"{head.score} of the first class less that of the second",
    )


def _with_difference(head: Head, first: int, second: int, raw: Tensor) -> Tensor:
    scores = head.scores(raw)
    return torch.cat([scores, (scores[:, first] - scores[:, second])[:, None]], dim=1)


def _with_share(head: Head, first: int, second: int, raw: Tensor) -> Tensor:
    known = head.probabilities(raw)
    if head.kind in _LOGARITHMIC:
        # The same number, also where both probabilities are too small for their format.
        scores = head.scores(raw)
        share = (scores[:, first] - scores[:, second]).sigmoid()
    else:
        both = known[:, first] + known[:, second]
        share = known[:, first] / both.clamp_min(torch.finfo(known.dtype).tiny)
    return torch.cat([known, share[:, None]], dim=1)
