"""A tunnel through an HTTP proxy by CONNECT (RFC 9110 section 9.3.6)."""

from __future__ import annotations

import re
from base64 import b64encode
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectError, TimeoutError  # noqa: A004
from twisted.internet.interfaces import (
    IProtocol,
    IProtocolFactory,
    IStreamClientEndpoint,
    ITCPTransport,
)
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure
from zope.interface import implementer

#: The usual response to CONNECT has a few lines.
_MAX_ANSWER_BYTES = 16 * 1024


_LONGEST_QUOTE = 150
_STATUS = re.compile(r"HTTP/1\.[01] ([1-5]\d\d)(?: (.*))?")


class TunnelRefused(ConnectError):
    """The proxy did not open the tunnel; the text has its status line."""

    def __init__(self, text: str) -> None:
        super().__init__(string=text)


class TunnelLost(ConnectError):
    """The proxy closed the connection before it answered."""

    def __init__(self, reason: Failure) -> None:
        super().__init__(string="proxy closed the connection before it answered")
        self.reasons = [reason]


def basic(user: str, password: str) -> bytes:
    """The value of an Authorization header (RFC 7617)."""
    return b"Basic " + b64encode(f"{user}:{password}".encode())


def _schemes(lines: list[str]) -> str:
    """The authentication schemes that the proxy asks for, if it names any."""
    fields = [line.partition(":") for line in lines]
    offered = [
        word[0]
        for name, _, value in fields
        if name.strip().lower() == "proxy-authenticate" and (word := value.split())
    ]
    return f" (it asks for {', '.join(offered)})" if offered else ""


class _Tunnel(Protocol):
    """Requests the tunnel, then passes all bytes to the protocol that uses it."""

    transport: ITCPTransport

    def __init__(self, target: str, factory: IProtocolFactory, authorization: bytes) -> None:
        self._target = target
        self._authorization = authorization
        self._factory = factory
        self._answer = b""
        self._inner: IProtocol | None = None
        self.opened: Deferred[IProtocol] = Deferred(self._abort)

    def connectionMade(self) -> None:
        head = f"CONNECT {self._target} HTTP/1.1\r\nHost: {self._target}\r\n".encode("ascii")
        if self._authorization:
            head += b"Proxy-Authorization: %b\r\n" % self._authorization
        self.transport.write(head + b"\r\n")

    def dataReceived(self, data: bytes) -> None:
        if self._inner is not None:
            self._inner.dataReceived(data)
            return
        self._answer += data
        head, end, rest = self._answer.partition(b"\r\n\r\n")
        if end:
            self._judge(head, rest)
        elif len(self._answer) > _MAX_ANSWER_BYTES:
            self._refuse("what does not end")

    def connectionLost(self, reason: Failure = Failure(ConnectError())) -> None:  # noqa: B008
        if self._inner is not None:
            self._inner.connectionLost(reason)
        elif not self.opened.called:
            self.opened.errback(Failure(TunnelLost(reason)))

    def _judge(self, head: bytes, rest: bytes) -> None:
        status_line, *lines = head.decode("latin-1").split("\r\n")
        status = _STATUS.match(status_line)
        if status is None:
            self._refuse(f"what is not HTTP: {status_line}")
            return
        if not status[1].startswith("2"):
            offered = _schemes(lines) if status[1] == "407" else ""
            self._refuse(f"{status[1]} {status[2] or ''}".rstrip() + offered)
            return
        inner = self._factory.buildProtocol(self.transport.getPeer())
        if inner is None:
            self._refuse("too late: the connection is no longer wanted")
            return
        self._inner = inner
        inner.makeConnection(self.transport)
        self.opened.callback(inner)
        if rest:
            inner.dataReceived(rest)

    def _refuse(self, why: str) -> None:
        why = "".join(filter(str.isprintable, why))
        if self._authorization:
            # The proxy may echo the credentials in base64, which the scrubber does not know.
            why = why.replace(self._authorization.decode("ascii").removeprefix("Basic "), "…")
        self.opened.errback(TunnelRefused(f"proxy answered {why[:_LONGEST_QUOTE]}"))
        self.transport.abortConnection()

    def _abort(self, _: Deferred[IProtocol]) -> None:
        self.transport.abortConnection()


@implementer(IStreamClientEndpoint)
class TunnelEndpoint:
    """Connects to ``target`` (``host:port``) through the HTTP proxy at ``proxy``.

    ``timeout`` is the number of seconds for the tunnel to open once the proxy is reached.
    ``authorization`` is the value of ``Proxy-Authorization``; if it is empty, none is sent.
    """

    def __init__(
        self,
        reactor: Any,
        proxy: IStreamClientEndpoint,
        target: str,
        timeout: float,
        authorization: bytes = b"",
    ) -> None:
        self._reactor = reactor
        self._proxy = proxy
        self._target = target
        self._timeout = timeout
        self._authorization = authorization

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """Return a connected protocol of the factory. Fails with :class:`TunnelRefused`."""
        tunnels = Factory.forProtocol(
            lambda: _Tunnel(self._target, protocolFactory, self._authorization)
        )
        tunnels.noisy = False
        connecting: Deferred[Any] = self._proxy.connect(tunnels)
        return connecting.addCallback(self._open)

    def _open(self, tunnel: _Tunnel) -> Deferred[IProtocol]:
        opened = tunnel.opened
        opened.addTimeout(
            self._timeout,
            self._reactor,
            onTimeoutCancel=lambda _failure, seconds: Failure(
                TimeoutError(string=f"the HTTP proxy did not open a tunnel in {seconds} s")
            ),
        )
        return opened
