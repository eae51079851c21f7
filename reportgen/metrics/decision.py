"""What the robustness of the prediction watches: the class that wins, or whether a label holds.

Where one class wins, a change is another top class, whatever class is explained. Where a picture
may have several labels, each stands alone, and a change is the explained label's crossing of the
threshold; in a contrast, that of the first of the two.
"""

from __future__ import annotations

from torch import Tensor

from reportgen.metrics.base import Context
from reportgen.records import ClassScore

HOLDS, FAILS = 1, 0


def followed(context: Context) -> ClassScore:
    """Return the class whose probability is followed while the picture is changed."""
    prediction = context.prediction
    if prediction.threshold is None:
        return prediction.top[0]
    return prediction.contrast.first if prediction.contrast else prediction.target


def decisions(context: Context, probabilities: Tensor) -> Tensor:
    """Return the decision (n,) int64 behind each row of ``probabilities`` (n, classes or more).

    It is the index of the top class; or, with several labels a picture, HOLDS or FAILS.
    """
    threshold = context.prediction.threshold
    if threshold is None:
        # A contrast stands behind the classes, and is none of them.
        return probabilities[:, : len(context.classifier.labels)].argmax(dim=1)
    return (probabilities[:, followed(context).index] >= threshold).long()


def made(context: Context) -> int:
    """Return the decision on the picture itself."""
    threshold = context.prediction.threshold
    if threshold is None:
        return context.prediction.top[0].index
    return HOLDS if followed(context).probability >= threshold else FAILS


def named(context: Context, decision: int) -> str:
    """Return what is said of a picture by a decision: its label, or "not" the label."""
    if context.prediction.threshold is None:
        return context.classifier.labels[decision]
    label = followed(context).label
    return label if decision == HOLDS else f"not {label}"
