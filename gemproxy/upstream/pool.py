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
#: Connections that began together do not retire together: the last fifth of their time is spread.
_SPREAD = 0.2
_GOLDEN = 0.618
_FOREVER = float("inf")


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

    A connection takes no more requests once it is ``max_age`` seconds old, so that a changed answer
    of the name servers is followed. ``keepalive`` is the silence in seconds after which TCP asks
    whether the other side is there.
    """

    def __init__(
        self,
        reactor: IReactorTime,
        endpoint: IStreamClientEndpoint,
        keep: int,
        *,
        max_age: float = _FOREVER,
        keepalive: float = 20.0,
    ) -> None:
        self._seconds = reactor.seconds
        self.call_later = reactor.callLater
        self.keepalive = keepalive
        self._endpoint = endpoint
        self._keep = keep
        self._max_age = max_age
        self._born = 0
        self._factory = _ConnectionFactory(self)
        #: Connections that were used and wait for another request. The one used last is the last.
        self.idle: list[UpstreamConnection] = []
        #: Connections of generations before this one are not used again.
        self.generation = 0
        self._sweeper = LoopingCall(self._sweep)
        self._sweeper.clock = reactor

    def start(self) -> None:
        """Begin to close connections that idle too long, or are too old."""
        self._sweeper.start(min(_SWEEP_SECONDS, max(0.1, self._max_age / 4)), now=False)

    def retirement(self) -> float:
        """When a connection that begins now takes no more requests."""
        self._born += 1
        return self._seconds() + self._max_age * (1.0 - _SPREAD * (self._born * _GOLDEN % 1.0))

    def retire(self) -> None:
        """Use none of the present connections again: idle ones close now, others as they end."""
        self.generation += 1
        self._close(self.idle)
        self.idle = []

    def doubt(self, connection: UpstreamConnection) -> None:
        """``connection`` was found dead, though it had served before.

        What killed it without a word (a firewall's memory, a lost way) has killed those as well of
        which nothing was heard for as long: they are not tried one after the other.
        """
        last_heard = connection.idle_since
        doubtful = [each for each in self.idle if each.idle_since <= last_heard]
        self.idle = [each for each in self.idle if each.idle_since > last_heard]
        for each in doubtful:
            each.abort()

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
        now = self._seconds()
        if (
            not self._keep
            or now >= connection.retires_at
            or connection.generation != self.generation
        ):
            return False
        connection.idle_since = now
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
            young = now - each.idle_since <= patience and now < each.retires_at
            (kept if young else stale).append(each)
        self.idle = kept
        self._close(stale)

    def _close(self, connections: list[UpstreamConnection]) -> None:
        for connection in connections:
            connection.transport.loseConnection()
