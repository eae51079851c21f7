"""What every language model that words a report has in common: how it is found, opened and asked.

A narrator is text in, text out. What it may be told and what of its answers may stand in a report
is not its business, but that of ``narrative.narration``.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass


@dataclass(frozen=True)
class Question:
    """What a language model is told (``system``) and asked (``user``), and how long it may take.

    ``tokens`` bounds the length of the answer, ``seconds`` the time; ``seed`` is handed on to
    servers, although nothing is drawn at temperature 0.
    """

    system: str
    user: str
    seed: int
    tokens: int
    seconds: float


@dataclass(frozen=True)
class Ready:
    """A language model that answers.

    ``ask`` raises NotApplicable, saying why, where no answer comes. ``digest`` says which weights
    answered: the SHA-256 of their files, or what a server states once it has answered, or nothing.
    ``precision`` is the number format it computes in, where that is known.
    """

    ask: Callable[[Question], str]
    digest: Callable[[], str]
    precision: str = ""


@dataclass(frozen=True)
class Narrator:
    """A language model that was found, and is loaded only inside ``opened``.

    ``asked`` is the option it was found by, without folders; ``address`` is that of a server, and
    ``remote`` whether it is another machine.
    """

    asked: str
    model: str
    opened: Callable[[], AbstractContextManager[Ready]]
    address: str = ""
    remote: bool = False
