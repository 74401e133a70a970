"""The factory of client connections, which also watches their deadlines.

One timer sweeps all connections once a second: setting and cancelling one for each request would
cost as much as parsing it.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IProtocolNegotiationFactory,
    IReactorTime,
)
from twisted.internet.protocol import Factory
from twisted.web.resource import IResource
from zope.interface import implementer

from gemproxy.api.dialects import DialectChoice
from gemproxy.clock import wall_clock
from gemproxy.deadlines import Deadlines
from gemproxy.http.connection import LINGER_SECONDS, ClientConnection, FastRoutes
from gemproxy.http.connection_limits import ConnectionLimits
from gemproxy.http.gate import RequestGate
from gemproxy.http.open_connections import OpenConnections, RefusedConnection
from gemproxy.http.origins import OriginGuard
from gemproxy.http.request import ProxyRequest, new_request_id, request_id_of
from gemproxy.http.response_writer import DateHeader

__all__ = [
    "CLIENT_CLOSED_REQUEST",
    "ProxyRequest",
    "ProxySite",
    "new_request_id",
    "request_id_of",
]

#: nginx's status for a client that disconnected before its answer.
CLIENT_CLOSED_REQUEST = 499
#: Seconds between two sweeps over all deadlines.
SWEEP_SECONDS = 1.0
#: Seconds between two checks of what a client receives of its answer; less if slow readers are
#: given little time.
LOOK_SECONDS = 5.0
#: Seconds by which a heartbeat may be late: the timeouts that it prevents are minutes long.
SLACK_SECONDS = 0.25


@implementer(IProtocolNegotiationFactory)
class ProxySite(Factory):
    """The factory of connections.

    ``fast_routes`` maps exact (method, path) pairs to the functions that serve them. The ``guard``
    checks every request first, and then the ``gate``. ``limits`` apply to the connections.
    ``dialects`` chooses the dialect of the answer to bytes that are not HTTP.
    """

    noisy = False
    #: Read by twisted.web's requests: clients must not see tracebacks.
    displayTracebacks = False

    def __init__(
        self,
        resource: IResource,
        reactor: IReactorTime,
        gate: RequestGate,
        dialects: DialectChoice,
        guard: OriginGuard | None = None,
        limits: ConnectionLimits | None = None,
    ) -> None:
        self._resource = resource
        self.gate = gate
        self.guard = guard
        self.dialects = dialects
        self.now = reactor.seconds
        self.server_headers: Callable[[float], bytes] = DateHeader(wall_clock(reactor)).line
        #: Called for each request that is not HTTP.
        self.malformed: Callable[[], object] = _nothing
        self.fast_routes: FastRoutes = {}
        self.connections = OpenConnections(limits or ConnectionLimits())
        #: The open connections.
        self.channels = self.connections.channels
        self.call_later: Callable[..., IDelayedCall] = reactor.callLater
        #: The deadlines of silent streams.
        self.deadlines = Deadlines(reactor, SLACK_SECONDS)
        self._unread: set[ClientConnection] = set()
        self._sweeping: IDelayedCall | None = None
        self._closed: Deferred[None] | None = None

    @property
    def limits(self) -> ConnectionLimits:
        """The limits in force."""
        return self.connections.limits

    def buildProtocol(self, peer: IAddress | None) -> ClientConnection | RefusedConnection:
        if self.connections.refusal(peer, self.now()) is not None:
            return RefusedConnection()
        return ClientConnection(self)

    def acceptableProtocols(self) -> list[bytes]:
        """For TLS: the protocols that ALPN may choose from."""
        return [b"http/1.1"]

    def getResourceFor(self, _: ProxyRequest) -> IResource:
        """Return Klein's resource, which finds the route itself."""
        return self._resource

    def close(self) -> Deferred[None]:
        """Close every connection as soon as what was written to it is sent.

        The Deferred fires when none is left, after ``LINGER_SECONDS`` at the latest.
        """
        closed = self._closed = Deferred()
        for channel in list(self.channels):
            channel.loseConnection()
        deadline = self.call_later(LINGER_SECONDS, self._abort)
        closed.addCallback(lambda _: deadline.cancel() if deadline.active() else None)
        self._check_closed()
        return closed

    def register(self, channel: ClientConnection) -> None:
        """``channel`` is open."""
        self.connections.add(channel)
        if self._sweeping is None:
            self._sweeping = self.call_later(SWEEP_SECONDS, self._sweep)

    def unregister(self, channel: ClientConnection) -> None:
        """``channel`` is closed."""
        self.connections.remove(channel)
        self._unread.discard(channel)
        if self._sweeping is not None and not self.channels:
            self._sweeping.cancel()
            self._sweeping = None
            self.deadlines.stop()
        self._check_closed()

    def watch_for_disconnect(self, channel: ClientConnection, *, wanted: bool) -> None:
        """Check at each sweep whether ``channel``, which is paused, was closed; or stop that."""
        if wanted:
            self._unread.add(channel)
        else:
            self._unread.discard(channel)

    def _sweep(self) -> None:
        self._sweeping = self.call_later(SWEEP_SECONDS, self._sweep)
        now = self.now()
        for channel in [channel for channel in self.channels if now > channel.deadline]:
            channel.expire(now)
        again = now + min(LOOK_SECONDS, self.limits.slow_reader_seconds / 4)
        for channel in [each for each in self.channels if each.has_reader and now >= each.look_at]:
            channel.look_at = again
            channel.check_reader(now)
        for channel in list(self._unread):
            channel.check_disconnect()

    def _check_closed(self) -> None:
        if self._closed is not None and not self._closed.called and not self.channels:
            self._closed.callback(None)

    def _abort(self) -> None:
        for channel in list(self.channels):
            channel.transport.abortConnection()


def _nothing() -> None:
    """The default listener, which does nothing."""
