"""Methods of other packages: found, and refused with a sentence where they do not fit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import EntryPoint

import pytest

from reportgen import extensions
from reportgen.errors import UsageError
from reportgen.extensions import with_extensions
from reportgen.records import Card


@dataclass(frozen=True)
class Tool:
    """Something with a card."""

    card: Card


def tool(key: str) -> Tool:
    return Tool(
        Card(key=key, title=key, category="", definition="", paper="", needs="", seeding="")
    )


OWN = (tool("first"), tool("second"))
THEIRS = tool("theirs")
TAKEN = tool("second")
NOT_A_TOOL = "text"


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return a function that makes objects of this module known under an entry-point group."""

    def declare(*names: str) -> None:
        points = [EntryPoint(name, f"{__name__}:{name}", "group") for name in names]
        monkeypatch.setattr(
            extensions, "entry_points", lambda group: points if group == "group" else []
        )

    return declare


def test_another_package_comes_after_our_own(install: Callable[..., None]) -> None:
    install("THEIRS")
    assert list(with_extensions("group", Tool, OWN)) == ["first", "second", "theirs"]
    assert list(with_extensions("other", Tool, OWN)) == ["first", "second"]


@pytest.mark.parametrize(
    ("name", "word"),
    [("TAKEN", "'second'"), ("NOT_A_TOOL", "should be a Tool"), ("MISSING", "cannot be loaded")],
)
def test_what_does_not_fit_is_refused(install: Callable[..., None], name: str, word: str) -> None:
    install(name)
    with pytest.raises(UsageError, match=word):
        with_extensions("group", Tool, OWN)
