"""The server's side of HTTP/1.1: the factory of connections, and who looks after their deadlines.

A connection is a :class:`~gemproxy.http.connection.ProxyChannel`, what comes over it a
:class:`~gemproxy.http.request.ProxyRequest`. Routes without parameters are found by one look in a
dict; every other path is Klein's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

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
from gemproxy.core.errors import ProxyError
from gemproxy.http.connection import LINGER_SECONDS, ProxyChannel, RefusedConnection
from gemproxy.http.connection_limits import ConnectionLimits, Crowd
from gemproxy.http.origins import HeadGuard
from gemproxy.http.request import ProxyRequest, new_request_id, request_id_of
from gemproxy.http.response_writer import Clockface

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


class Door(Protocol):
    """Decides from a request's head whether its body may come, and answers where it may not."""

    def check_head(self, request: ProxyRequest) -> None:
        """Admit ``request``, of which only the head has been read, and note how on it.

        Takes of the limits that all requests share. Raises
        :class:`~gemproxy.core.errors.ProxyError` for a request that is turned away, of which no
        byte of the body is then read; it has taken nothing.
        """

    def check_growth(self, request: ProxyRequest, size: int) -> None:
        """``size`` bytes of a body that comes in chunks are there. Raises as ``check_head``."""

    def release(self, request: ProxyRequest) -> None:
        """The connection has done with ``request``: give back what it took, unless it works yet.

        May be called more than once.
        """

    def turn_away(self, request: ProxyRequest, error: ProxyError) -> None:
        """Answer a request that ended before its work began."""


@implementer(IProtocolNegotiationFactory)
class ProxySite(Factory):
    """The factory of connections.

    ``routes`` are the short ways: (method, path) to what serves the request. Every request comes
    through the ``door`` first, and before that past the ``guard``. ``limits`` hold for its
    connections.
    """

    noisy = False
    #: Asked by twisted.web's requests; clients are not to see our insides.
    displayTracebacks = False

    def __init__(
        self,
        resource: Resource,
        reactor: IReactorTime,
        door: Door,
        guard: HeadGuard | None = None,
        limits: ConnectionLimits | None = None,
    ) -> None:
        self._resource = resource
        self.door = door
        self.guard = guard
        self.now = reactor.seconds
        self.clockface = Clockface(wall_clock(reactor))
        #: Told of each request that was not HTTP.
        self.malformed: Callable[[], object] = _nothing
        self.routes: dict[tuple[bytes, bytes], Callable[[ProxyRequest], object]] = {}
        self.crowd = Crowd(limits or ConnectionLimits())
        #: The connections that are open.
        self.channels = self.crowd.channels
        self.call_later = reactor.callLater
        self._unread: set[ProxyChannel] = set()
        self._sweeping: IDelayedCall | None = None
        self._closed: Deferred[None] | None = None

    @property
    def limits(self) -> ConnectionLimits:
        """What holds for the connections now."""
        return self.crowd.limits

    def buildProtocol(self, peer: IAddress | None) -> ProxyChannel | RefusedConnection:
        if self.crowd.refusal(peer, self.now()) is not None:
            return RefusedConnection()
        return ProxyChannel(self)

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
        self._tell_if_closed()
        return closed

    def remember(self, channel: ProxyChannel) -> None:
        """``channel`` is open."""
        self.crowd.add(channel)
        if self._sweeping is None:
            self._sweeping = self.call_later(SWEEP_SECONDS, self._sweep)

    def forget(self, channel: ProxyChannel) -> None:
        """``channel`` is closed."""
        self.crowd.remove(channel)
        self._unread.discard(channel)
        if self._sweeping is not None and not self.channels:
            self._sweeping.cancel()
            self._sweeping = None
        self._tell_if_closed()

    def listen_for_leave(self, channel: ProxyChannel, *, wanted: bool) -> None:
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
        for channel in [each for each in self.channels if each.is_serving or each.unread]:
            if now < channel.look_at:
                continue
            channel.look_at = again
            channel.judge_reader(now)
        for channel in list(self._unread):
            channel.look_for_leave()

    def _tell_if_closed(self) -> None:
        if self._closed is not None and not self._closed.called and not self.channels:
            self._closed.callback(None)

    def _abort(self) -> None:
        for channel in list(self.channels):
            channel.transport.abortConnection()


def _nothing() -> None:
    """Nobody counts."""
