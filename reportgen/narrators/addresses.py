"""Where a server is: the parts of its address, and whether it is this machine."""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass
from urllib.parse import urlsplit

from reportgen.errors import UsageError

KEY = "REPORTGEN_NARRATOR_KEY"
"""The environment variable that holds a key for the server; it is never written anywhere."""

_PORTS = {"http": 80, "https": 443}
_LOCAL = "localhost"


@dataclass(frozen=True)
class Address:
    """A server's address, and the model that is meant; ``path`` does not end in a slash."""

    scheme: str
    host: str
    port: int
    path: str
    model: str
    remote: bool

    @property
    def text(self) -> str:
        """The address as the report states it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}{self.path}"


def read_address(place: str) -> Address:
    """Return the parts of ``URL#MODEL``; only ``localhost`` is looked up, which asks no network.

    Raises UsageError for another form, another scheme, and an address with a password or a query.
    """
    url, _, model = place.partition("#")
    if not url.isascii() or not place.isprintable() or any(sign.isspace() for sign in url):
        raise UsageError("The narrator's address holds signs that no address has; correct it.")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise UsageError(f"The narrator's address cannot be read: {error}.") from None
    if parts.username is not None or parts.password is not None or parts.query:
        raise UsageError(
            "The narrator's address holds a user name, a password or a query, which the report "
            f"would show; leave them out, and put a key into the environment variable {KEY}."
        )
    if parts.scheme not in _PORTS or not host:
        raise UsageError(
            f"The narrator's address '{url}' cannot be used; expected http:// or https:// and a "
            "host, such as openai:http://127.0.0.1:11434/v1#llama3.2."
        )
    if not model:
        raise UsageError(
            f"The narrator 'openai:{url}' does not say which model of the server is meant; add "
            "its name, as in openai:http://127.0.0.1:11434/v1#llama3.2."
        )
    return Address(
        scheme=parts.scheme,
        host=host,
        port=port or _PORTS[parts.scheme],
        path=parts.path.rstrip("/"),
        model=model,
        remote=not _is_this_machine(host),
    )


def is_loopback(address: str) -> bool:
    """Return whether a numeric address is one of this machine: 127.0.0.0/8 or ::1."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def _is_this_machine(host: str) -> bool:
    """Return whether a host is a loopback address, or ``localhost`` with none but such."""
    if host != _LOCAL:
        return is_loopback(host)
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        return False
    return all(is_loopback(str(entry[4][0])) for entry in found)
