"""A way through an HTTP proxy: CONNECT (RFC 9110 section 9.3.6), then the bytes as they are."""

from __future__ import annotations

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

#: A proxy's answer to CONNECT is a few lines.
_MAX_ANSWER_BYTES = 16 * 1024


class TunnelRefused(ConnectError):
    """The proxy did not open the tunnel; the text is its status line."""


class _Tunnel(Protocol):
    """Asks for the tunnel, then steps aside for the protocol that uses it."""

    transport: ITCPTransport

    def __init__(self, target: str, factory: IProtocolFactory) -> None:
        self._target = target
        self._factory = factory
        self._answer = b""
        self._inner: IProtocol | None = None
        self.opened: Deferred[IProtocol] = Deferred(self._abort)

    def connectionMade(self) -> None:
        self.transport.write(
            f"CONNECT {self._target} HTTP/1.1\r\nHost: {self._target}\r\n\r\n".encode("ascii")
        )

    def dataReceived(self, data: bytes) -> None:
        if self._inner is not None:
            self._inner.dataReceived(data)
            return
        self._answer += data
        head, end, rest = self._answer.partition(b"\r\n\r\n")
        if end:
            self._judge(head.split(b"\r\n", 1)[0].decode("latin-1"), rest)
        elif len(self._answer) > _MAX_ANSWER_BYTES:
            self._refuse("an endless answer")

    def connectionLost(self, reason: Failure = Failure(ConnectError())) -> None:  # noqa: B008
        if self._inner is not None:
            self._inner.connectionLost(reason)
        elif not self.opened.called:
            self.opened.errback(reason)

    def _judge(self, status_line: str, rest: bytes) -> None:
        parts = status_line.split(" ", 2)
        if len(parts) < 2 or not parts[1].startswith("2"):
            self._refuse(status_line)
            return
        inner = self._factory.buildProtocol(self.transport.getPeer())
        if inner is None:
            self._refuse("nobody wants the connection any more")
            return
        self._inner = inner
        inner.makeConnection(self.transport)
        self.opened.callback(inner)
        if rest:
            inner.dataReceived(rest)

    def _refuse(self, why: str) -> None:
        self.opened.errback(TunnelRefused(string=f"the HTTP proxy answered: {why[:100]}"))
        self.transport.abortConnection()

    def _abort(self, _: Deferred[IProtocol]) -> None:
        self.transport.abortConnection()


@implementer(IStreamClientEndpoint)
class TunnelEndpoint:
    """Connects to ``target`` (``host:port``) through the HTTP proxy at ``proxy``.

    The tunnel has ``timeout`` seconds to open, once the proxy is reached.
    """

    def __init__(
        self, reactor: Any, proxy: IStreamClientEndpoint, target: str, timeout: float
    ) -> None:
        self._reactor = reactor
        self._proxy = proxy
        self._target = target
        self._timeout = timeout

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """A connected protocol of the factory. Fails with :class:`TunnelRefused`."""
        tunnels = Factory.forProtocol(lambda: _Tunnel(self._target, protocolFactory))
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
