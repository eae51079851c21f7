"""Servers are asked by the standard library alone, and nothing they do costs more than its time."""

from __future__ import annotations

import socket
import time
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest
from stub_server import Play, Stub, say, saying, send, serving

from reportgen.config import Config
from reportgen.errors import NotApplicable, UsageError
from reportgen.narrators import find_narrator
from reportgen.narrators.addresses import KEY, read_address
from reportgen.narrators.base import Question

QUESTION = Question("rules", "1. A sentence.", seed=7, tokens=40, seconds=0.5)


def ask(stub: Stub, question: Question = QUESTION) -> str:
    narrator = find_narrator(Config(narrator=stub.narrator))
    assert narrator is not None
    with narrator.opened() as ready:
        return ready.ask(question)


def test_the_answer_is_the_models_and_the_request_is_greedy() -> None:
    with serving(saying(str.upper)) as stub:
        assert ask(stub) == "1. A SENTENCE."
    assert stub.paths == ["/v1/chat/completions"]
    assert stub.bodies == [
        {
            "model": "toy",
            "messages": [
                {"role": "system", "content": "rules"},
                {"role": "user", "content": "1. A sentence."},
            ],
            "temperature": 0,
            "seed": 7,
            "max_tokens": 40,
            "stream": False,
        }
    ]
    assert "Authorization" not in stub.headers[0]


def test_a_key_is_sent_and_never_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY, "s3cret")
    with serving(saying(str.upper)) as stub:
        ask(stub)
        assert stub.headers[0]["Authorization"] == "Bearer s3cret"
        monkeypatch.setenv(KEY, "s3cret\nX-Other: 1")
        with pytest.raises(Exception) as caught:
            ask(stub)
    assert len(stub.paths) == 1
    assert not isinstance(caught.value, NotApplicable)  # its message is never shown


def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with serving(saying(str.upper)) as stub:
        assert ask(stub) == "1. A SENTENCE."


@pytest.mark.parametrize(
    ("tags", "fingerprint", "digest"),
    [
        ({"models": [{"name": "other"}, {"name": "toy:latest", "digest": "ab12"}]}, "fp", "ab12"),
        ({"models": [{"name": "other", "digest": "cd"}]}, "fp_0-1", "fp_0-1"),
        (["nonsense"], "<b>hostile</b>", ""),
        ({"models": 5}, "fp", "fp"),
        (None, None, ""),
    ],
)
def test_the_digest_is_what_the_server_states(
    tags: object, fingerprint: object, digest: str
) -> None:
    def play(handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
        say(handler, "1. A.", system_fingerprint=fingerprint)

    with serving(play, tags) as stub:
        narrator = find_narrator(Config(narrator=stub.narrator))
        assert narrator is not None
        with narrator.opened() as ready:
            assert ready.digest() == ""
            assert stub.paths == []  # nothing has answered, so nothing is asked of it
            ready.ask(QUESTION)
            assert ready.digest() == digest
    assert stub.paths[-1] == "/api/tags"


def hang(handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
    handler.rfile.read(1)


def drip(handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
    handler.send_response(200)
    handler.end_headers()
    while True:
        handler.wfile.write(b" ")
        handler.wfile.flush()
        time.sleep(0.05)


def drip_headers(handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
    handler.wfile.write(b"HTTP/1.0 200 OK\r\nX: ")
    while True:
        handler.wfile.write(b"x")
        handler.wfile.flush()
        time.sleep(0.05)


def crash(handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"choices": [')


def vanish(handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
    handler.close_connection = True


def redirect(handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
    send(handler, b"", 307, Location="http://198.51.100.7/v1/chat/completions")


def sends(content: bytes, status: int = 200) -> Play:
    return lambda handler, body: send(handler, content, status)


@pytest.mark.parametrize(
    ("play", "sentence"),
    [
        (hang, "gave no answer within"),
        (drip, "gave no answer within"),
        (drip_headers, "gave no answer within"),
        (crash, "broke off"),
        (vanish, r"did not answer \(RemoteDisconnected\)"),
        (redirect, "the status 307"),
        (sends(b"broken", 500), "the status 500"),
        (sends(b"<html>hello</html>"), "is no JSON object"),
        (sends(b"[" * 100_000), "is no JSON object"),
        (sends(b"\xff\xfe"), "is no JSON object"),
        (sends(b"[]"), "is no JSON object"),
        (sends(b'{"choices": []}'), "not the form of an OpenAI-style interface"),
        (sends(b'{"choices": [{"message": {"content": 1}}]}'), "not the form"),
        (sends(b'{"choices": "' + b"x" * (1 << 21) + b'"}'), "longer than 1048576 bytes"),
    ],
)
def test_what_a_server_does_wrong_is_one_sentence_in_time(play: Play, sentence: str) -> None:
    with serving(play) as stub, pytest.raises(NotApplicable, match=sentence):
        ask(stub)
    assert len(stub.paths) == 1


def test_a_server_that_is_not_there_is_a_sentence() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        stub = Stub(taken.getsockname()[1])
        with pytest.raises(NotApplicable, match="ConnectionRefusedError"):
            ask(stub)


def no_network(*_: object, **__: object) -> None:
    raise AssertionError("the network was touched")


@pytest.mark.parametrize(
    "place",
    [
        "http://192.0.2.1/v1#m",
        "http://example.org/v1#m",
        "https://api.example.org/v1#m",
        "http://0.0.0.0:11434/v1#m",
        "http://localhost.example.org/v1#m",
        "http://127.0.0.1.example.org/v1#m",
        "http://2130706433/v1#m",
        "http://[::ffff:192.0.2.1]/v1#m",
        "http://[::2]/v1#m",
    ],
)
def test_other_machines_need_leave_and_nothing_is_sent_without(
    place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    monkeypatch.setattr(socket, "create_connection", no_network)
    with pytest.raises(UsageError, match="give --allow-remote to let the report's facts leave it"):
        find_narrator(Config(narrator=f"openai:{place}"))
    allowed = find_narrator(Config(narrator=f"openai:{place}", allow_remote=True))
    assert allowed is not None
    assert allowed.remote


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.8.7", "[::1]"])
def test_loopback_needs_no_leave(host: str) -> None:
    found = find_narrator(Config(narrator=f"openai:http://{host}:1/v1/#a/b:1b"))
    assert found is not None
    assert not found.remote
    assert found.model == "a/b:1b"
    assert found.address == f"http://{host}:1/v1"


@pytest.mark.parametrize(
    ("found", "remote"),
    [(["127.0.0.1", "::1"], False), (["127.0.0.1", "192.0.2.1"], True)],
)
def test_localhost_is_what_it_resolves_to(
    found: list[str], remote: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = [(0, 0, 0, "", (address, 0)) for address in found]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: entries)
    assert read_address("http://localhost/v1#m").remote is remote


def test_a_name_that_leads_elsewhere_later_is_told_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with serving(saying(str.upper)) as stub:
        monkeypatch.setattr("reportgen.narrators.server.is_loopback", lambda peer: False)
        with pytest.raises(NotApplicable, match="leads to another machine"):
            ask(stub)
    assert stub.paths == []


@pytest.mark.parametrize(
    ("narrator", "sentence"),
    [
        ("gpt", "The narrator 'gpt' cannot be used; expected llm:PATH_OR_ID"),
        ("llm:", "The narrator 'llm:' cannot be used"),
        ("openai:", "The narrator 'openai:' cannot be used"),
        ("https://u:s3cret@h/v1#m", "The narrator 'https:' cannot be used"),
        ("openai:http://127.0.0.1/v1", "does not say which model of the server is meant"),
        ("openai:http://127.0.0.1/v1#", "does not say which model of the server is meant"),
        ("openai:ftp://127.0.0.1/v1#m", "expected http:// or https:// and a host"),
        ("openai:file:///etc/passwd#m", "expected http:// or https:// and a host"),
        ("openai:127.0.0.1:80/v1#m", "expected http:// or https:// and a host"),
        ("openai:http://:80/v1#m", "expected http:// or https:// and a host"),
        ("openai:http://127.0.0.1:x/v1#m", "cannot be read"),
        ("openai:http://[::1/v1#m", "cannot be read"),
        ("openai:http://u:s3cret@127.0.0.1/v1#m", "holds a user name, a password or a query"),
        ("openai:http://127.0.0.1/v1?key=s3cret#m", "holds a user name, a password or a query"),
        ("openai:http://127.0.0.1/v1\r\nX: s3cret#m", "holds signs that no address has"),
        ("openai:http://127.0.0.1/v1 s3cret#m", "holds signs that no address has"),
    ],
)
def test_other_forms_are_refused_in_one_sentence(narrator: str, sentence: str) -> None:
    with pytest.raises(UsageError) as caught:
        find_narrator(Config(narrator=narrator))
    assert sentence in str(caught.value)
    assert "s3cret" not in str(caught.value)
