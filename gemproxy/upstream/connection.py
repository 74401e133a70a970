"""One connection to the upstream: it carries one request at a time, and is used again if clean.

Clean means: the whole request was sent, the whole answer came, nothing came after it, and both
sides want to go on. Everything else costs the connection.
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

from gemproxy.batched_writes import ErrorReportingClient, is_waiting
from gemproxy.tcp_keepalive import notice_silence
from gemproxy.upstream.answer import Answer, NotHttp
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
    def answer(self) -> Answer:
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
    #: When its last answer was complete, which is when the other side was last known to be there.
    idle_since = 0.0

    def __init__(self, pool: Owner) -> None:
        self._pool = pool
        #: When it takes no more requests; pool's seconds.
        self.retires_at = pool.retirement()
        self.generation = pool.generation
        #: The exchange that it serves, which then writes its request to the transport.
        self.exchange: Exchange | None = None
        self._held = False
        self._secured: Deferred[Any] | None = None

    def connectionMade(self) -> None:
        if ITCPTransport.providedBy(self.transport):
            self.transport.setTcpNoDelay(True)
            notice_silence(self.transport, self._pool.keepalive)
        if type(self.transport) is ErrorReportingClient:
            # Past the endpoint's wrapper, whose work is done.
            self.transport.protocol = self

    def when_secured(self) -> Deferred[Any]:
        """Fires with the connection when the TLS handshake is done, and fails if it cannot be."""
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
            # Nobody asked: whatever it is, it must not become the next request's answer.
            self.abort()
            return
        if is_waiting(self.transport):
            # Nor did anybody yet: the request has not left.
            self.abort()
            exchange.lost(Failure(ConnectionAborted()))
            return
        answer = exchange.answer
        try:
            answer.feed(data)
        except NotHttp:
            failure = Failure()
            self.abort()
            exchange.advance()
            exchange.fail(failure)
            return
        if answer.complete:
            self._release(exchange)
        exchange.advance()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._secured is not None:
            self._settle(tls_fault(self.transport, reason))
        self._pool.forget(self)
        exchange, self.exchange = self.exchange, None
        if exchange is None:
            return
        if exchange.answer.ends_with_connection and reason.check(ConnectionDone):
            exchange.answer.end()
            exchange.advance()
        else:
            exchange.lost(reason)

    def _release(self, exchange: Exchange) -> None:
        """Be there for the next request, if that is safe."""
        self.exchange = None
        if not exchange.sent:
            # The answer came early; the rest of the request would be taken for another one.
            self.abort()
        elif not exchange.answer.keep_alive or not self._pool.give_back(self):
            self.transport.loseConnection()
        elif self._held:
            self.resume()

    # -- for the exchange --------------------------------------------------------------------------

    def abort(self) -> None:
        """Close now: the upstream stops generating. Whom it carries hears nothing more of it."""
        self.exchange = None
        self._pool.forget(self)
        self.transport.abortConnection()

    def distrust(self, exchange: Exchange) -> None:
        """Close, unless it serves another than ``exchange`` by now."""
        if self.exchange is None or self.exchange is exchange:
            self.abort()

    def pause(self) -> None:
        """Stop reading from the socket."""
        if self.exchange is not None and not self._held:
            self._held = True
            self.transport.pauseProducing()

    def resume(self) -> None:
        """Go on reading."""
        if self._held:
            self._held = False
            self.transport.resumeProducing()
