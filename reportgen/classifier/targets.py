"""What is to be explained: a class, each of several classes, or one class rather than another.

An index counts before a label, so that a label of digits alone is asked for by its index.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal

from reportgen.errors import UsageError

Source = Literal["top class", "option", "threshold"]

_LISTED = 20
_TOP = "top:"
_CONTRAST = "contrast:"


@dataclass(frozen=True)
class Target:
    """The class ``index`` to explain, or why it and not the class ``other``; and who chose it."""

    index: int
    other: int | None = None
    source: Source = "option"


@dataclass(frozen=True)
class Classes:
    """The labels of a model's classes, and the probabilities that one picture has of them.

    With several labels a picture, those that reach the ``threshold`` hold; else it is None.
    """

    labels: Sequence[str]
    probabilities: Sequence[float]
    threshold: float | None = None

    def ranked(self) -> list[int]:
        """Return the indices of the classes, the most probable first."""
        return sorted(range(len(self.labels)), key=lambda index: -self.probabilities[index])

    def holding(self) -> list[int]:
        """Return the indices of the labels that hold, the most probable first."""
        least = self.threshold
        if least is None:
            return []
        return [index for index in self.ranked() if self.probabilities[index] >= least]


def targets_of(text: str, classes: Classes) -> tuple[Target, ...]:
    """Return what ``Config.target`` asks for: one target, or several in order of probability.

    Without a text these are the labels that hold, with several labels a picture; else, or where
    none holds, it is the top class. Raises UsageError for what the model does not have.
    """
    count = top_count(text, classes.labels)
    if count is not None:
        return tuple(Target(index) for index in classes.ranked()[:count])
    if text:
        return (find_target(text, classes.labels),)
    holding = tuple(Target(index, source="threshold") for index in classes.holding())
    return holding or (Target(classes.ranked()[0], source="top class"),)


def one_target(text: str, classes: Classes) -> Target:
    """Return the target, or the most probable one where the text is empty.

    Raises UsageError as ``targets_of``, and where the text asks for several.
    """
    check_single(text, classes.labels)
    return targets_of(text, classes)[0]


def check_single(text: str, labels: Sequence[str]) -> None:
    """Raise UsageError where a text names several targets, or one that the model does not have."""
    count = top_count(text, labels)
    if count is not None and count > 1:
        raise UsageError(
            f"The target '{text}' asks for {count} reports, where there is room for one; use "
            "reportgen.explain_each or the command line with one picture, or name one class."
        )
    if text and count is None:
        find_target(text, labels)


def top_count(text: str, labels: Sequence[str]) -> int | None:
    """Return K of ``top:K``, None for other texts; UsageError for another K than 1 to classes."""
    if not _asks(_TOP, text, labels):
        return None
    number = text[len(_TOP) :].strip()
    if not number.isdecimal() or not 1 <= int(number) <= len(labels):
        raise UsageError(
            f"The target '{text}' should be {_TOP}K with a number K from 1 to {len(labels)}, the "
            "number of classes."
        )
    return int(number)


def find_target(text: str, labels: Sequence[str]) -> Target:
    """Return the class that an index or a label names, or the two of ``contrast:A,B``.

    Raises UsageError for a class that the model does not have.
    """
    if _asks(_CONTRAST, text, labels):
        return _contrast(text, labels)
    return Target(find_class(text, labels))


def find_class(text: str, labels: Sequence[str]) -> int:
    """Return the index of a class given by index or by label (case does not matter).

    Raises UsageError for one that the model does not have, naming the nearest labels.
    """
    wanted = text.strip()
    if wanted.removeprefix("-").isdecimal():
        return _by_index(int(wanted), labels)
    index = _by_label(wanted, labels)
    if index is None:
        raise UsageError(f"Unknown target '{wanted}'; {_known(wanted, labels)}.")
    return index


def _asks(form: str, text: str, labels: Sequence[str]) -> bool:
    # A label may begin like a form; then it is the label that is meant.
    return text.casefold().startswith(form) and _by_label(text.strip(), labels) is None


def _contrast(text: str, labels: Sequence[str]) -> Target:
    """Return the two classes; a label may hold commas itself, so each comma may be the one."""
    parts = text[len(_CONTRAST) :].split(",")
    cuts = [(",".join(parts[:at]), ",".join(parts[at:])) for at in range(1, len(parts))]
    pairs = {pair for first, second in cuts if (pair := _pair(first, second, labels))}
    if len(pairs) > 1:
        raise UsageError(
            f"The target '{text}' can be read in {len(pairs)} ways, because labels hold commas; "
            "give the classes by their indices."
        )
    if not pairs:
        raise _no_pair(text, cuts, labels)
    first, second = pairs.pop()
    if first == second:
        raise UsageError(
            f"The target '{text}' contrasts a class with itself; name two different classes."
        )
    return Target(first, second)


def _pair(first: str, second: str, labels: Sequence[str]) -> tuple[int, int] | None:
    try:
        return find_class(first, labels), find_class(second, labels)
    except UsageError:
        return None


def _no_pair(text: str, cuts: Sequence[tuple[str, str]], labels: Sequence[str]) -> UsageError:
    """Return the error for a text of which no cut gives two classes."""
    for part in cuts[0] if len(cuts) == 1 else ():
        try:
            find_class(part, labels)
        except UsageError as error:
            return error
    return UsageError(
        f"The target '{text}' should be {_CONTRAST}A,B with two classes, each an index or a label; "
        f"{_known(text[len(_CONTRAST) :], labels)}."
    )


def _by_index(index: int, labels: Sequence[str]) -> int:
    if not 0 <= index < len(labels):
        raise UsageError(
            f"Target {index} is out of range; the model has the classes 0 to {len(labels) - 1}."
        )
    return index


def _by_label(text: str, labels: Sequence[str]) -> int | None:
    folded = [label.casefold() for label in labels]
    return folded.index(text.casefold()) if text.casefold() in folded else None


def _known(target: str, labels: Sequence[str]) -> str:
    if len(labels) <= _LISTED:
        return f"the known ones are: {', '.join(labels)}"
    close = get_close_matches(target, labels, n=5, cutoff=0.4) or labels[:5]
    return f"of {len(labels)} classes the nearest are: {', '.join(close)}"
