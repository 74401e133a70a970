"""One connection to the upstream: it carries one request at a time, and is reused if clean.

A connection is clean if the whole request was sent, the whole response was received, no bytes
followed it, and both sides want to keep the connection. Else it is closed.

The pool creates connections and keeps the idle ones. An exchange takes one, sets itself as
``exchange``, and writes its request to the transport. The connection feeds what it reads into the
exchange's parser and calls the exchange; at the end of the response it drops the exchange and goes
back to the pool. So the state is one field: ``exchange`` is ``None`` while the connection is idle
or closed.
"""

from __future__ import annotations

from typing import Any
from typing import Protocol as Interface

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.interfaces import IHandshakeListener, ITCPTransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from gemproxy.batched_writes import ErrorReportingClient, is_waiting, prepare
from gemproxy.tcp_keepalive import notice_silence
from gemproxy.upstream.response_parser import NotHttp, ResponseParser
from gemproxy.upstream.tls_faults import tls_fault


class Owner(Interface):
    """What a connection needs of the pool that keeps it."""

    keepalive: float
    generation: int

    def retirement(self) -> float:
        """Return when a new connection takes no more requests."""

    def give_back(self, connection: UpstreamConnection) -> bool:
        """Keep ``connection`` for another request; return whether it is kept."""

    def forget(self, connection: UpstreamConnection) -> None:
        """Drop ``connection``, which takes no more requests."""


class Exchange(Interface):
    """What a connection needs of the request that it carries."""

    @property
    def parser(self) -> ResponseParser:
        """The parser of the response."""

    @property
    def sent(self) -> bool:
        """Whether the whole request was sent."""

    def advance(self) -> None:
        """Handle more of the response, perhaps its end."""

    def fail(self, failure: Failure) -> None:
        """Handle a response that cannot be read further."""

    def lost(self, reason: Failure) -> None:
        """Handle the end of the connection before that of the response."""


@implementer(IHandshakeListener)
class UpstreamConnection(Protocol):
    """One HTTP/1.1 connection of ``pool``."""

    transport: Any
    #: Time of the end of the last response, when the peer was last known to be alive.
    idle_since = 0.0

    def __init__(self, pool: Owner) -> None:
        self._pool = pool
        #: Time from which it takes no more requests, in the pool's seconds.
        self.retires_at = pool.retirement()
        self.generation = pool.generation
        #: The exchange in progress.
        self.exchange: Exchange | None = None
        self._held = False
        self._secured: Deferred[Any] | None = None

    def connectionMade(self) -> None:
        prepare(self.transport)
        if ITCPTransport.providedBy(self.transport):
            self.transport.setTcpNoDelay(True)
            notice_silence(self.transport, self._pool.keepalive)
        if type(self.transport) is ErrorReportingClient:
            # Bypass the endpoint's wrapper protocol, which is no longer needed.
            self.transport.protocol = self

    def when_secured(self) -> Deferred[Any]:
        """Fires with the connection after the TLS handshake; fails if the handshake does."""
        secured = self._secured = Deferred(lambda _: self.transport.abortConnection())
        return secured

    def handshakeCompleted(self) -> None:
        self._settle(self)

    def _settle(self, result: UpstreamConnection | Failure) -> None:
        secured, self._secured = self._secured, None
        if secured is not None and not secured.called:
            secured.callback(result)

    # -- one exchange ------------------------------------------------------------------------------

    def dataReceived(self, data: bytes) -> None:
        exchange = self.exchange
        if exchange is None:
            # Bytes without a request: they must not become the next request's response.
            self.abort()
            return
        if is_waiting(self.transport):
            # The request is still in our buffer, so these bytes cannot be its response.
            self.abort()
            exchange.lost(Failure(ConnectionAborted()))
            return
        parser = exchange.parser
        try:
            parser.feed(data)
        except NotHttp:
            failure = Failure()
            self.abort()
            exchange.advance()
            exchange.fail(failure)
            return
        if parser.complete:
            self._release(exchange)
        exchange.advance()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._secured is not None:
            self._settle(tls_fault(self.transport, reason))
        self._pool.forget(self)
        exchange, self.exchange = self.exchange, None
        if exchange is None:
            return
        if exchange.parser.ends_with_connection and reason.check(ConnectionDone):
            exchange.parser.end()
            exchange.advance()
        else:
            exchange.lost(reason)

    def _release(self, exchange: Exchange) -> None:
        """Return to the pool if the connection is clean, else close it."""
        self.exchange = None
        if not exchange.sent:
            # The response came early; the rest of the request would be read as another request.
            self.abort()
        elif not exchange.parser.keep_alive or not self._pool.give_back(self):
            self.transport.loseConnection()
        elif self._held:
            self.resume()

    # -- for the exchange --------------------------------------------------------------------------

    def abort(self) -> None:
        """Close now: the upstream stops generating. The exchange gets no further callbacks."""
        self.exchange = None
        self._pool.forget(self)
        self.transport.abortConnection()

    def close_unless_reused(self, exchange: Exchange) -> None:
        """Close, unless the connection serves another exchange than ``exchange`` by now."""
        if self.exchange is None or self.exchange is exchange:
            self.abort()

    def pause(self) -> None:
        """Stop reading from the socket."""
        if self.exchange is not None and not self._held:
            self._held = True
            self.transport.pauseProducing()

    def resume(self) -> None:
        """Continue to read from the socket."""
        if self._held:
            self._held = False
            self.transport.resumeProducing()
