"""Read class labels from a file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reportgen.errors import UsageError

Labels = tuple[str, ...]


def read_labels(path: Path) -> Labels:
    """Return the labels in a file, in the order of the classes.

    A text file has one label a line. A JSON file has a list, an object from index to label (or to
    a list whose last entry is the label, as ImageNet's class index has), or an object from label
    to index. Raises UsageError for a file of another form or with classes left out.
    """
    try:
        text = path.read_text(encoding="utf-8-sig").strip()
    except OSError as error:
        raise UsageError(f"Cannot read the labels '{path}': {error.strerror}.") from None
    except UnicodeDecodeError:
        raise UsageError(f"The labels '{path}' are not text in UTF-8; save them as such.") from None
    labels = _from_json(path, text) if text.startswith(("{", "[")) else _from_lines(text)
    if not labels or not all(labels):
        raise UsageError(f"The labels '{path}' have an empty label; expected one for each class.")
    return labels


def _from_lines(text: str) -> Labels:
    return tuple(line.strip() for line in text.splitlines())


def _from_json(path: Path, text: str) -> Labels:
    try:
        content = json.loads(text)
    except ValueError as error:
        raise UsageError(f"The labels '{path}' are not valid JSON: {error}.") from None
    ordered = ordered_labels(content) if isinstance(content, dict) else content
    names = [_name(item) for item in ordered or ()]
    if not names or not all(isinstance(name, str) for name in names):
        raise UsageError(
            f"The labels '{path}' cannot be used; expected a list of labels, or an object with "
            "every index from 0 on, each with its label."
        )
    return tuple(str(name).strip() for name in names)


def ordered_labels(content: Mapping[str, Any]) -> list[Any] | None:
    """Return the labels of an object from index to label, or from label to index, in order.

    None where an index is missing.
    """
    by_index = content
    if all(type(index) is int for index in content.values()):
        by_index = {str(index): label for label, index in content.items()}
    indices = [str(index) for index in range(len(content))]
    return [by_index[i] for i in indices] if set(indices) == set(by_index) else None


def _name(item: object) -> object:
    return item[-1] if isinstance(item, list) and item else item
