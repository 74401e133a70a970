"""The server's side of HTTP/1.1: the factory of connections, and who looks after their deadlines.

A connection is a :class:`~gemproxy.http.connection.ClientConnection`, what comes over it a
:class:`~gemproxy.http.request.ProxyRequest`. Routes without parameters are found by one look in a
dict; every other path is Klein's.
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
from twisted.web.resource import IResource, Resource
from zope.interface import implementer

from gemproxy.clock import wall_clock
from gemproxy.core.errors import InvalidRequest
from gemproxy.core.interfaces import ErrorEncoder
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

#: nginx's word for a client that closed before its answer was there.
CLIENT_CLOSED_REQUEST = 499
#: How often deadlines are looked at. One timer for all connections: to set one for each request,
#: and again for each piece of it, would cost as much as to read the request.
SWEEP_SECONDS = 1.0
#: How often it is looked at what a client takes of its answer, or more often where the patience
#: with slow readers is short.
LOOK_SECONDS = 5.0
_MALFORMED = "The request is not valid HTTP/1.1, or its headers are too large."


@implementer(IProtocolNegotiationFactory)
class ProxySite(Factory):
    """The factory of connections.

    ``fast_routes`` are exact: (method, path) to what serves the request. Every request comes
    through the ``gate`` first, and before that past the ``guard``. ``limits`` hold for its
    connections. ``errors`` encodes the answer to what is not HTTP.
    """

    noisy = False
    #: Asked by twisted.web's requests; clients are not to see our insides.
    displayTracebacks = False

    def __init__(
        self,
        resource: Resource,
        reactor: IReactorTime,
        gate: RequestGate,
        errors: ErrorEncoder,
        guard: OriginGuard | None = None,
        limits: ConnectionLimits | None = None,
    ) -> None:
        self._resource = resource
        self.gate = gate
        self.guard = guard
        self.malformed_body = errors.answer(InvalidRequest(_MALFORMED)).body
        self.now = reactor.seconds
        self.server_headers: Callable[[float], bytes] = DateHeader(wall_clock(reactor)).line
        #: Told of each request that was not HTTP.
        self.malformed: Callable[[], object] = _nothing
        self.fast_routes: FastRoutes = {}
        self.connections = OpenConnections(limits or ConnectionLimits())
        #: The connections that are open.
        self.channels = self.connections.channels
        self.call_later: Callable[..., IDelayedCall] = reactor.callLater
        self._unread: set[ClientConnection] = set()
        self._sweeping: IDelayedCall | None = None
        self._closed: Deferred[None] | None = None

    @property
    def limits(self) -> ConnectionLimits:
        """What holds for the connections now."""
        return self.connections.limits

    def buildProtocol(self, peer: IAddress | None) -> ClientConnection | RefusedConnection:
        if self.connections.refusal(peer, self.now()) is not None:
            return RefusedConnection()
        return ClientConnection(self)

    def acceptableProtocols(self) -> list[bytes]:
        """For TLS, which may ask what comes after it."""
        return [b"http/1.1"]

    def getResourceFor(self, _: ProxyRequest) -> IResource:
        """Klein's resource, which looks further itself."""
        return self._resource

    def close(self) -> Deferred[None]:
        """Close every connection, each as soon as what was written to it is sent.

        Fires when none is left, after ``LINGER_SECONDS`` at the latest.
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
        self._check_closed()

    def watch_for_disconnect(self, channel: ClientConnection, *, wanted: bool) -> None:
        """Whether to look now and then if a client that nothing is read from has left."""
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
    """Nobody counts."""
