"""Language models that can word a report: on this machine, or behind a server's interface."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from reportgen.config import Config
from reportgen.errors import UsageError
from reportgen.narrators.base import Narrator
from reportgen.narrators.local import find_local
from reportgen.narrators.server import find_server

NARRATORS: Mapping[str, Callable[[str, Config], Narrator]] = {
    "llm": find_local,
    "openai": find_server,
}


def find_narrator(config: Config) -> Narrator | None:
    """Return the language model that the option ``narrator`` names, None where it names none.

    A model is not loaded, and a server not asked. Raises UsageError for another form and for a
    server elsewhere that is not allowed, ModelError for a model that cannot be used.
    """
    if not config.narrator:
        return None
    kind, colon, place = config.narrator.partition(":")
    if kind not in NARRATORS or not colon or not place:
        # What stands behind the colon is not repeated: it may hold a password.
        raise UsageError(
            f"The narrator '{kind}{colon}' cannot be used; expected llm:PATH_OR_ID for a language "
            "model on this machine, or openai:URL#MODEL for one behind a server."
        )
    return NARRATORS[kind](place, config)
