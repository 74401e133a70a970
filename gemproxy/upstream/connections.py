"""Connections to the upstream: kept alive, and swept when they have idled too long.

twisted.web's own pool arms a timer for each idle connection and hands out the one that has idled
longest; this one looks at all of them once in a while, and hands out the one used last. How many
are open is bounded by the requests in flight, each of which uses one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import TimeoutError  # noqa: A004
from twisted.internet.interfaces import (
    IHandshakeListener,
    IProtocol,
    IProtocolFactory,
    IReactorTime,
    IStreamClientEndpoint,
    ITCPTransport,
)
from twisted.internet.protocol import Factory, connectionDone
from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure
from twisted.web._newclient import HTTP11ClientProtocol
from zope.interface import implementer

#: Below the upstream's own limit (Google closes after 240 s), so that we are the one who closes.
IDLE_SECONDS = 200.0
_SWEEP_SECONDS = 10.0


@implementer(IHandshakeListener)
class UpstreamConnection(HTTP11ClientProtocol):
    """One HTTP/1.1 connection.

    ``flush`` is called after each read of the socket, so that the pieces of a chunked body that
    came together also go on together.
    """

    transport: ITCPTransport
    idle_since = 0.0
    #: Whether a request was served on it before: then the upstream may have closed it meanwhile.
    used = False

    def __init__(self, quiescent: Callable[[UpstreamConnection], None]) -> None:
        super().__init__(quiescent)
        self.flush: Callable[[], None] | None = None
        self._secured: Deferred[Any] | None = None

    def when_secured(self) -> Deferred[Any]:
        """Fires with the connection when the TLS handshake is done, and fails if it cannot be."""
        secured = self._secured = Deferred(lambda _: self.transport.abortConnection())
        return secured

    def handshakeCompleted(self) -> None:
        self._settle(self)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        super().connectionLost(reason)
        self._settle(reason)

    def _settle(self, result: UpstreamConnection | Failure) -> None:
        secured, self._secured = self._secured, None
        if secured is not None and not secured.called:
            secured.callback(result)

    def dataReceived(self, data: bytes) -> None:
        super().dataReceived(data)
        if self.flush is not None:
            self.flush()

    @property
    def ready(self) -> bool:
        """Whether it can take a request now."""
        return bool(self.state == "QUIESCENT")


@implementer(IStreamClientEndpoint)
class HandshakeEndpoint:
    """Connects to ``endpoint``, which speaks TLS, and waits ``timeout`` seconds for its handshake.

    Twisted's connects as soon as TCP does, and a peer that is silent then would keep a request
    until its first-byte timeout.
    """

    def __init__(
        self, reactor: IReactorTime, endpoint: IStreamClientEndpoint, timeout: float
    ) -> None:
        self._reactor = reactor
        self._endpoint = endpoint
        self._timeout = timeout

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """A connection that is secured. Fails with ``TimeoutError`` or what TLS says."""
        connecting: Deferred[Any] = self._endpoint.connect(protocolFactory)
        return connecting.addCallback(self._secured)

    def _secured(self, connection: UpstreamConnection) -> Deferred[IProtocol]:
        def expired(_failure: object, seconds: float) -> Failure:
            return Failure(TimeoutError(string=f"no TLS handshake in {seconds} s"))

        return connection.when_secured().addTimeout(self._timeout, self._reactor, expired)


class _ConnectionFactory(Factory):
    noisy = False

    def __init__(self, quiescent: Callable[[UpstreamConnection], None]) -> None:
        self._quiescent = quiescent

    def buildProtocol(self, addr: object) -> UpstreamConnection:  # noqa: ARG002
        return UpstreamConnection(self._quiescent)


class ConnectionPool:
    """Connections to one host: ``endpoint`` makes them, at most ``keep`` idle ones are kept."""

    def __init__(self, reactor: IReactorTime, endpoint: IStreamClientEndpoint, keep: int) -> None:
        self._reactor = reactor
        self._endpoint = endpoint
        self._keep = keep
        self._factory = _ConnectionFactory(self._give_back)
        self._idle: list[UpstreamConnection] = []
        self._sweeper = LoopingCall(self._sweep)
        self._sweeper.clock = reactor

    def start(self) -> None:
        """Begin to close connections that idle too long."""
        self._sweeper.start(_SWEEP_SECONDS, now=False)

    def stop(self) -> None:
        """Close the idle connections; those in use close as their requests end."""
        if self._sweeper.running:
            self._sweeper.stop()
        self._keep = 0
        for connection in self._idle:
            connection.transport.loseConnection()
        self._idle.clear()

    def acquire(self, *, fresh: bool = False) -> Deferred[UpstreamConnection]:
        """A connection to use for one request; a new one where ``fresh``."""
        while self._idle and not fresh:
            connection = self._idle.pop()
            if connection.ready:
                return succeed(connection)
        connecting: Deferred[Any] = self._endpoint.connect(self._factory)
        return connecting

    def _give_back(self, connection: UpstreamConnection) -> None:
        connection.flush = None
        connection.idle_since = self._reactor.seconds()
        if len(self._idle) < self._keep:
            self._idle.append(connection)
        else:
            connection.transport.loseConnection()

    def _sweep(self) -> None:
        oldest = self._reactor.seconds() - IDLE_SECONDS
        kept = []
        for connection in self._idle:
            if not connection.ready:
                continue
            if connection.idle_since >= oldest:
                kept.append(connection)
            else:
                connection.transport.loseConnection()
        self._idle = kept
