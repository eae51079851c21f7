"""A server on loopback that plays its part: what it does with a request is a function."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any

Play = Callable[[BaseHTTPRequestHandler, dict[str, Any]], None]


@dataclass
class Stub:
    """A server that runs, and the requests it had: their paths, headers and bodies."""

    port: int
    over: Event = field(default_factory=Event)
    paths: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    bodies: list[dict[str, Any]] = field(default_factory=list)

    @property
    def narrator(self) -> str:
        """The option that names it."""
        return f"openai:http://127.0.0.1:{self.port}/v1#toy"


@contextmanager
def serving(play: Play, tags: object = None) -> Iterator[Stub]:
    """Run a server that answers a POST as ``play`` does, and lists Ollama's models as ``tags``."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self._note(body)
            play(self, body)

        def do_GET(self) -> None:
            self._note({})
            send(self, json.dumps(tags).encode() if tags else b"", 200 if tags else 404)

        def _note(self, body: dict[str, Any]) -> None:
            stub.paths.append(self.path)
            stub.headers.append(dict(self.headers))
            stub.bodies.append(body)

        def log_message(self, format: str, *args: object) -> None:
            """Print nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads, server.block_on_close = True, False
    server.handle_error = lambda request, address: None  # type: ignore[method-assign]
    stub = Stub(server.server_address[1])
    thread = Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield stub
    finally:
        stub.over.set()
        server.shutdown()
        thread.join()
        server.server_close()


def send(handler: BaseHTTPRequestHandler, content: bytes, status: int = 200, **more: str) -> None:
    """Send an answer with a body, whatever that is."""
    handler.send_response(status)
    for name, value in more.items():
        handler.send_header(name, value)
    handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    handler.wfile.write(content)


def say(handler: BaseHTTPRequestHandler, text: str, **more: object) -> None:
    """Send ``text`` as a model's answer."""
    found = {"choices": [{"message": {"role": "assistant", "content": text}}], **more}
    send(handler, json.dumps(found).encode())


def saying(write: Callable[[str], str]) -> Play:
    """Return the part of a model that makes its answer of what it is asked."""
    return lambda handler, body: say(handler, write(body["messages"][1]["content"]))
