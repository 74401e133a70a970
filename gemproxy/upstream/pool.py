"""The pool of kept-alive connections to the upstream.

An exchange takes the idle connection that was used last, or has a new one made; a clean connection
comes back at the end of its response. One sweep every ten seconds closes connections that have been
idle for too long or are too old.

twisted.web's own pool sets a timer for each idle connection and gives out the one that has been
idle for longest, which is the most likely to be dead. The number of open connections is bounded by
the number of requests in flight, each of which uses one.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.internet.task import LoopingCall

from gemproxy.upstream.connection import UpstreamConnection

#: Less than the upstream's own limit (Google closes after 240 s), so that this side closes first.
IDLE_SECONDS = 200.0
#: For idle connections beyond the number that is kept.
SURPLUS_SECONDS = 5.0
_SWEEP_SECONDS = 10.0
#: The ages at which connections retire are spread over the last fifth of the maximum age, so that
#: connections that were made together do not retire together.
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
    """Connections to one host, made by ``endpoint``; at most ``keep`` idle ones are kept.

    Further ones are closed after some seconds only: responses and requests come in bursts, so that
    many connections may be idle for a moment and be needed in the next.

    A connection takes no more requests after ``max_age`` seconds, so that changes in the DNS take
    effect. ``keepalive`` is the number of seconds of silence after which TCP probes the peer.
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
        #: Idle connections; the one used last is the last.
        self.idle: list[UpstreamConnection] = []
        #: Connections of earlier generations are not reused.
        self.generation = 0
        self._sweeper = LoopingCall(self._sweep)
        self._sweeper.clock = reactor

    def start(self) -> None:
        """Start to close connections that are idle for too long or too old."""
        self._sweeper.start(min(_SWEEP_SECONDS, max(0.1, self._max_age / 4)), now=False)

    def retirement(self) -> float:
        """Return when a connection that is made now takes no more requests."""
        self._born += 1
        return self._seconds() + self._max_age * (1.0 - _SPREAD * (self._born * _GOLDEN % 1.0))

    def retire(self) -> None:
        """Reuse no present connection: idle ones close now, others after their requests."""
        self.generation += 1
        self._close(self.idle)
        self.idle = []

    def suspect(self, connection: UpstreamConnection) -> None:
        """Close idle connections that are likely to be dead, since ``connection`` was found dead.

        What ended it without a packet (a firewall that forgot it, a lost route) has probably ended
        those that have been silent for at least as long. They are not tried one by one.
        """
        last_heard = connection.idle_since
        doubtful = [each for each in self.idle if each.idle_since <= last_heard]
        self.idle = [each for each in self.idle if each.idle_since > last_heard]
        for each in doubtful:
            each.abort()

    def stop(self) -> None:
        """Close the idle connections; those in use close after their requests."""
        if self._sweeper.running:
            self._sweeper.stop()
        self._keep = 0
        self._close(self.idle)
        self.idle = []

    def connect(self) -> Deferred[UpstreamConnection]:
        """Return a new connection for a request of the caller."""
        connecting: Deferred[Any] = self._endpoint.connect(self._factory)
        return connecting

    def give_back(self, connection: UpstreamConnection) -> bool:
        """Keep ``connection`` for another request, unless it is too old or the pool has stopped."""
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
        """Drop ``connection``, which takes no more requests."""
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
