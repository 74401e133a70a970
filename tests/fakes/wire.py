"""HTTP by hand: a client that may send anything and looks at every byte that comes back."""

from __future__ import annotations

import json
import socket
from dataclasses import dataclass
from typing import Any, Self

MODEL = "gemini-3.8-flash"
CHAT = "/v1/chat/completions"
#: Seconds. Generous: a loaded machine may take its time to start an interpreter.
PATIENCE = 60.0


@dataclass(frozen=True)
class Answer:
    """One whole answer; names of headers in lower case, ``head`` as it came."""

    status: int
    head: bytes
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        """What stands in the envelope, which must hold these four keys and no more."""
        assert self.headers["content-type"] == "application/json"
        assert list(self.json) == ["error"]
        error = self.json["error"]
        assert set(error) == {"message", "type", "param", "code"}
        assert error["message"]
        return error


class Wire:
    """One connection to a daemon; ``tls`` is the context of a client that wants TLS.

    ``source`` is the client's address, ``place`` another one of the daemon's than its first.
    """

    def __init__(
        self, daemon: Any, tls: Any = None, *, source: str | None = None, place: str | None = None
    ) -> None:
        plain = _connect(place or f"{daemon.host}:{daemon.port}", source)
        self.socket = tls.wrap_socket(plain, server_hostname="localhost") if tls else plain
        self._buffer = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | dict[str, Any] | None = None,
        *,
        version: str = "HTTP/1.1",
        **headers: str,
    ) -> Answer:
        """Send a request and receive its answer."""
        self.send(request(method, path, body, version=version, **headers))
        return self.receive(bodiless=method == "HEAD")

    def receive(self, *, bodiless: bool = False) -> Answer:
        """The next answer on this connection."""
        head = self._until(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        headers = {}
        for line in lines[1:]:
            name, separator, value = line.partition(":")
            if separator:
                headers[name.lower()] = value.strip()
        status = int(lines[0].split(" ")[1])
        body = b"" if bodiless or status == 100 else self._body(headers)
        return Answer(status, head, headers, body)

    def rest(self) -> bytes:
        """All that comes until the other side closes."""
        while self._more():
            pass
        rest, self._buffer = self._buffer, b""
        return rest

    def until(self, mark: bytes) -> bytes:
        """All that comes before ``mark``, which is taken as well."""
        return self._until(mark)

    def _body(self, headers: dict[str, str]) -> bytes:
        if "content-length" in headers:
            return self._exactly(int(headers["content-length"]))
        if headers.get("transfer-encoding") != "chunked":
            return self.rest()
        body = b""
        while size := int(self._until(b"\r\n"), 16):
            body += self._exactly(size)
            assert self._exactly(2) == b"\r\n"
        assert self._exactly(2) == b"\r\n"
        return body

    def _until(self, mark: bytes) -> bytes:
        while mark not in self._buffer:
            assert self._more(), f"closed after {self._buffer!r}"
        taken, _, self._buffer = self._buffer.partition(mark)
        return taken

    def _exactly(self, size: int) -> bytes:
        while len(self._buffer) < size:
            assert self._more(), f"closed after {self._buffer!r}"
        taken, self._buffer = self._buffer[:size], self._buffer[size:]
        return taken

    def _more(self) -> bool:
        data = self.socket.recv(65536)
        self._buffer += data
        return bool(data)


def _connect(place: str, source: str | None) -> socket.socket:
    if place.startswith("unix:"):
        local = socket.socket(socket.AF_UNIX)
        local.settimeout(PATIENCE)
        local.connect(place.removeprefix("unix:"))
        return local
    host, _, port = place.rpartition(":")
    return socket.create_connection((host, int(port)), PATIENCE, source and (source, 0))


def request(
    method: str,
    path: str,
    body: bytes | dict[str, Any] | None = None,
    *,
    version: str = "HTTP/1.1",
    **headers: str,
) -> bytes:
    """The bytes of a request; ``x_request_id="a"`` is the header ``x-request-id: a``."""
    if isinstance(body, dict):
        body = json.dumps(body).encode()
    given = {"host": "localhost", **{name.replace("_", "-"): v for name, v in headers.items()}}
    if body is not None:
        given.setdefault("content-type", "application/json")
        given.setdefault("content-length", str(len(body)))
    lines = [f"{method} {path} {version}", *[f"{name}: {value}" for name, value in given.items()]]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + (body or b"")


def said(prompt: str, model: str = MODEL, **more: Any) -> dict[str, Any]:
    """A chat completion's request whose only message is ``prompt``."""
    return {"model": model, "messages": [{"role": "user", "content": prompt}], **more}


def ask(daemon: Any, method: str, path: str, body: Any = None, **headers: str) -> Answer:
    """One request on a connection of its own."""
    with Wire(daemon) as wire:
        return wire.ask(method, path, body, **headers)


def chat(daemon: Any, prompt: str = "Hello!", **headers: str) -> Answer:
    """One unary completion on a connection of its own."""
    return ask(daemon, "POST", CHAT, said(prompt), **headers)
