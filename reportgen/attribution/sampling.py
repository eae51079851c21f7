"""How far a sampled map may be from the one that endless samples would give."""

from __future__ import annotations

from torch import Tensor

from reportgen.records import Measurement


def sampling_error(
    method: str, mean: Tensor, squared_error: float | None, samples: int, of: str
) -> Measurement:
    """Return the standard error of a sampled mean, of any shape, as a share of its norm.

    ``squared_error`` is the sum of the squared standard errors of all its values, estimated from
    ``samples`` independent samples, each of which is called ``of``; None where one sample tells
    nothing of it.
    """
    norm = float(mean.double().norm())
    known = squared_error is not None and norm > 0
    return Measurement(
        metric="sampling_error",
        subject=method,
        value=squared_error**0.5 / norm if squared_error is not None and known else None,
        direction="lower is better",
        range=(0, None),
        settings={"samples": samples, "a sample is a": of, "norm": "Euclidean"},
        note="" if known else _reason(squared_error),
    )


def _reason(squared_error: float | None) -> str:
    if squared_error is None:
        return "one sample says nothing of its error"
    return "the map is zero everywhere"
