"""Connections to the upstream: kept alive, and swept when they have idled too long.

twisted.web's own pool arms a timer for each idle connection and hands out the one that has idled
longest; this one looks at all of them once in a while, and hands out the one used last. How many
are open is bounded by the requests in flight, each of which uses one.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.internet.task import LoopingCall

from gemproxy.upstream.connection import UpstreamConnection

#: Below the upstream's own limit (Google closes after 240 s), so that we are the one who closes.
IDLE_SECONDS = 200.0
#: For those beyond the number that is kept.
SURPLUS_SECONDS = 5.0
_SWEEP_SECONDS = 10.0


class _ConnectionFactory(Factory):
    noisy = False

    def __init__(self, pool: ConnectionPool) -> None:
        self._pool = pool

    def buildProtocol(self, addr: object) -> UpstreamConnection:  # noqa: ARG002
        return UpstreamConnection(self._pool)


class ConnectionPool:
    """Connections to one host: ``endpoint`` makes them, at most ``keep`` idle ones are kept.

    More than these idle for some seconds at most: answers come in crowds and requests as well, and
    between the two a crowd of connections is idle for a moment that is needed again in the next.
    """

    def __init__(self, reactor: IReactorTime, endpoint: IStreamClientEndpoint, keep: int) -> None:
        self._seconds = reactor.seconds
        self._endpoint = endpoint
        self._keep = keep
        self._factory = _ConnectionFactory(self)
        #: Connections that were used and wait for another request. The one used last is the last.
        self.idle: list[UpstreamConnection] = []
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
        self._close(self.idle)
        self.idle = []

    def connect(self) -> Deferred[UpstreamConnection]:
        """A new connection, for one request of whoever called."""
        connecting: Deferred[Any] = self._endpoint.connect(self._factory)
        return connecting

    def give_back(self, connection: UpstreamConnection) -> bool:
        """Keep ``connection`` for another request, unless none is to be kept any more."""
        if not self._keep:
            return False
        connection.used = True
        connection.idle_since = self._seconds()
        self.idle.append(connection)
        return True

    def forget(self, connection: UpstreamConnection) -> None:
        """``connection`` takes no more requests."""
        if connection in self.idle:
            self.idle.remove(connection)

    def _sweep(self) -> None:
        now = self._seconds()
        surplus = len(self.idle) - self._keep
        stale: list[UpstreamConnection] = []
        kept: list[UpstreamConnection] = []
        for place, each in enumerate(self.idle):
            patience = SURPLUS_SECONDS if place < surplus else IDLE_SECONDS
            (kept if now - each.idle_since <= patience else stale).append(each)
        self.idle = kept
        self._close(stale)

    def _close(self, connections: list[UpstreamConnection]) -> None:
        for connection in connections:
            connection.transport.loseConnection()
