"""Language models behind a server's OpenAI-style interface, such as Ollama, llama.cpp or vLLM.

Only a server on this machine is asked, unless the user allows another. No redirect is followed, no
proxy used, and nothing that comes back is trusted: its size, its time and its form are bounded.
"""

from __future__ import annotations

import json
import os
import re
import socket
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from functools import partial
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from threading import Event, Timer
from typing import Any

from reportgen.config import Config
from reportgen.errors import NotApplicable, UsageError
from reportgen.narrators.addresses import KEY, Address, is_loopback, read_address
from reportgen.narrators.base import Narrator, Question, Ready

_MOST = 1 << 20  # bytes of an answer; a section's sentences take a few thousand
_OK = 200
_PATIENCE = 5.0  # seconds for a digest, which is good to have and no more
_DIGEST = re.compile(r"[\w.:+-]{1,128}", re.ASCII)
_LATE = "The server gave no answer within the time that it has."


def find_server(place: str, config: Config) -> Narrator:
    """Return the language model behind ``URL#MODEL``; the server is not asked yet.

    Raises UsageError for another form, and for a server on another machine without
    ``allow_remote``.
    """
    address = read_address(place)
    if address.remote and not config.allow_remote:
        raise UsageError(
            f"The narrator's server '{address.host}' is not this machine; give --allow-remote to "
            "let the report's facts leave it, or name a server on 127.0.0.1."
        )
    return Narrator(
        asked=f"openai:{address.text}#{address.model}",
        model=address.model,
        opened=partial(_opened, address),
        address=address.text,
        remote=address.remote,
    )


@contextmanager
def _opened(address: Address) -> Iterator[Ready]:
    stated: list[str] = []
    yield Ready(ask=partial(_answer, address, stated), digest=lambda: _digest(address, stated))


def _answer(address: Address, stated: list[str], question: Question) -> str:
    """Return the server's answer, and put into ``stated`` what it says of its weights."""
    body = {
        "model": address.model,
        "messages": [
            {"role": "system", "content": question.system},
            {"role": "user", "content": question.user},
        ],
        "temperature": 0,
        "seed": question.seed,
        "max_tokens": question.tokens,
        "stream": False,
    }
    place = f"{address.path}/chat/completions"
    found = _exchange(address, "POST", place, json.dumps(body), question.seconds)
    try:
        text = found["choices"][0]["message"]["content"]
    except (KeyError, IndexError, TypeError):
        text = None
    if not isinstance(text, str):
        raise NotApplicable("The server's answer has not the form of an OpenAI-style interface.")
    stated[:] = [str(found.get("system_fingerprint") or "")]
    return text


def _digest(address: Address, stated: list[str]) -> str:
    """Return what the server states of the model's weights, where it does."""
    if not stated:  # it has not answered once
        return ""
    found: Any = {}
    with suppress(NotApplicable):
        found = _exchange(address, "GET", f"{_root(address)}/api/tags", None, _PATIENCE)
    digests = [*_listed(found, address.model), *stated]
    return next((digest for digest in digests if _DIGEST.fullmatch(digest)), "")


def _root(address: Address) -> str:
    return address.path.removesuffix("/v1")


def _listed(found: Any, model: str) -> list[str]:
    """Return the digest of a model in Ollama's list of those that it has."""
    models = found.get("models") if isinstance(found, dict) else None
    several = models if isinstance(models, list) else []
    entries = [entry for entry in several if isinstance(entry, dict)]
    names = (model, f"{model}:latest")
    return [str(entry.get("digest") or "") for entry in entries if entry.get("name") in names]


def _exchange(address: Address, method: str, place: str, body: str | None, seconds: float) -> Any:
    """Return the JSON that the server answers with; raises NotApplicable, saying what failed."""
    kind = HTTPSConnection if address.scheme == "https" else HTTPConnection
    end = time.monotonic() + seconds
    try:
        with closing(kind(address.host, address.port, timeout=seconds)) as connection:
            connection.connect()
            _check_peer(address, connection.sock)
            with _hung_up(connection.sock, end):
                connection.request(method, place, body, _headers())
                response = connection.getresponse()
                content = response.read(_MOST + 1)
                whole = not response.length
    except TimeoutError:
        raise NotApplicable(_LATE) from None
    except (OSError, HTTPException) as error:
        raise NotApplicable(f"The server did not answer ({type(error).__name__}).") from None
    if response.status != _OK:
        raise NotApplicable(f"The server answered with the status {response.status}.")
    if len(content) > _MOST:
        raise NotApplicable(f"The server's answer is longer than {_MOST} bytes.")
    if not whole:
        raise NotApplicable("The server's answer broke off.")
    return _parsed(content)


def _headers() -> dict[str, str]:
    key = os.environ.get(KEY, "")
    allowed = {"Authorization": f"Bearer {key}"} if key else {}
    return {"Content-Type": "application/json", **allowed}


def _check_peer(address: Address, connected: socket.socket) -> None:
    """Refuse, before a word is said, another machine that calls itself this one."""
    if not address.remote and not is_loopback(connected.getpeername()[0]):
        raise NotApplicable(f"The name '{address.host}' leads to another machine.")


@contextmanager
def _hung_up(connected: socket.socket, end: float) -> Iterator[None]:
    """End the connection at a time, as a limit for each read would let a server drip on for ever.

    Raises TimeoutError where the time was up before the block was.
    """
    over = Event()

    def hang_up() -> None:
        over.set()
        with suppress(OSError):
            # Not an SSL socket's own, which takes away what the read in the other thread needs.
            socket.socket.shutdown(connected, socket.SHUT_RDWR)

    timer = Timer(max(end - time.monotonic(), 0), hang_up)
    timer.daemon = True
    timer.start()
    try:
        yield
    except (OSError, HTTPException):
        if not over.is_set():
            raise
    finally:
        timer.cancel()
    if over.is_set():
        raise TimeoutError


def _parsed(content: bytes) -> Any:
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise NotApplicable("The server's answer is no JSON object.")
    return found
