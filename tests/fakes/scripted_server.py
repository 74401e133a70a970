"""A server on loopback that answers by a script, for what a well-behaved server cannot show."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import Factory, Protocol


class ServedConnection(Protocol):
    """One connection; ``requests`` are the raw requests that came on it."""

    def __init__(self) -> None:
        self.requests: list[bytes] = []
        self.closed: Deferred[None] = Deferred()
        self._buffer = b""

    def connectionMade(self) -> None:
        self.factory.connections.append(self)

    def dataReceived(self, data: bytes) -> None:
        self._buffer += data
        while True:
            head, end, rest = self._buffer.partition(b"\r\n\r\n")
            if not end:
                return
            length = 0
            for line in head.split(b"\r\n")[1:]:
                name, _, value = line.partition(b":")
                if name.lower() == b"content-length":
                    length = int(value)
            if len(rest) < length:
                return
            self._buffer = rest[length:]
            self.requests.append(head + end + rest[:length])
            self.factory.answer(self, self.requests[-1])

    def connectionLost(self, reason: object) -> None:
        self.closed.callback(None)


class ScriptedServer(Factory):
    """``script`` gets the connection and each request, and writes what it likes."""

    protocol = ServedConnection
    noisy = False

    def __init__(self, script: Callable[[ServedConnection, bytes], None]) -> None:
        self.script = script
        self.connections: list[ServedConnection] = []
        self.port: IListeningPort | None = None

    def listen(self, reactor) -> str:
        """Start; gives the base URL."""
        self.port = reactor.listenTCP(0, self, interface="127.0.0.1")
        return f"http://127.0.0.1:{self.port.getHost().port}"

    def answer(self, connection: ServedConnection, request: bytes) -> None:
        self.script(connection, request)

    async def stop(self) -> None:
        for connection in self.connections:
            if connection.connected:
                connection.transport.abortConnection()
                await connection.closed
        stopped = self.port.stopListening()
        if stopped is not None:
            await stopped


def ok(body: bytes, *headers: bytes) -> bytes:
    """A whole answer with status 200."""
    extra = b"".join(header + b"\r\n" for header in headers)
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n%b\r\n%b" % (len(body), extra, body)


def chunked(*pieces: bytes, end: bool = True) -> bytes:
    """An answer in chunks, with or without its end."""
    body = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + body + (b"0\r\n\r\n" * end)
