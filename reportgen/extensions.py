"""Methods and metrics that other installed packages bring, checked when they are loaded."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Protocol, TypeVar

from reportgen.errors import UsageError
from reportgen.records import Card


class Carded(Protocol):
    """What a table holds: something with a card."""

    @property
    def card(self) -> Card:
        """The card, whose key is the name in the table."""


T = TypeVar("T", bound=Carded)


def with_extensions(group: str, kind: type[T], own: tuple[T, ...]) -> Mapping[str, T]:
    """Return the table of ``own`` entries by key, then those of the entry-point ``group``.

    Raises UsageError for an entry point that cannot be loaded, is not a ``kind``, or takes a key
    that is taken.
    """
    table = {entry.card.key: entry for entry in own}
    for point in sorted(entry_points(group=group), key=lambda point: point.name):
        entry = _loaded(point, kind)
        if entry.card.key in table:
            raise UsageError(
                f"The extension '{point.value}' takes the key '{entry.card.key}', which is taken; "
                "uninstall it, or give its card another key."
            )
        table[entry.card.key] = entry
    return table


def _loaded(point: EntryPoint, kind: type[T]) -> T:
    try:
        entry = point.load()
    except Exception as error:  # any failure of a stranger's code
        raise UsageError(
            f"The extension '{point.value}' cannot be loaded ({type(error).__name__}: {error}); "
            "mend it or uninstall it."
        ) from error
    if not isinstance(entry, kind):
        raise UsageError(
            f"The extension '{point.value}' should be a {kind.__name__}, but it is a "
            f"{type(entry).__name__}; mend it or uninstall it."
        )
    return entry
