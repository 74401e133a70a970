"""An ``IAgent`` on the connection pool, through which treq sends.

treq wants an agent: something that sends one request and returns an ``IResponse``. This agent sends
with :class:`~gemproxy.upstream.pooled_response.PooledResponse`, as the prepared path does, so that
both have the same connections, deadlines, bounded content decoding and kinds of failure.

It differs from ``twisted.web.client.Agent`` in three ways. It serves one origin only, so that no
key goes elsewhere. It sends bodies of its own kind only, :class:`RequestBody`. It replaces the
``Accept-Encoding: gzip`` that treq adds, and decodes a coded body itself: treq's decoder puts no
bound on what one read of the socket may expand to.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IConsumer, IProtocol, IPushProducer
from twisted.python.failure import Failure
from twisted.web.client import URI, ResponseDone
from twisted.web.error import SchemeNotSupported
from twisted.web.http_headers import Headers
from twisted.web.iweb import UNKNOWN_LENGTH, IAgent, IBodyProducer, IClientRequest, IResponse
from zope.interface import implementer

from gemproxy.buffer_list import BufferList
from gemproxy.core.interfaces import BodySource
from gemproxy.upstream.pooled_response import PooledResponse

_TARGET = re.compile(rb"[\x21-\x7e]+")
_OURS = frozenset({b"host", b"accept-encoding", b"content-length"})
_METHODS = frozenset({b"GET", b"POST", b"PATCH", b"PUT", b"DELETE"})


@implementer(IBodyProducer)
class RequestBody:
    """A body in memory, or one that is still arriving. Only this module's agent can send it."""

    def __init__(self, body: bytes | BufferList | BodySource) -> None:
        self.body = body
        self.size = len(body) if isinstance(body, bytes | BufferList) else body.length
        self.length = UNKNOWN_LENGTH if self.size is None else self.size

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        """Not used: the exchange writes the body."""
        raise NotImplementedError

    def stopProducing(self) -> None:
        """Not used: the exchange stops."""

    pauseProducing = resumeProducing = stopProducing


@implementer(IAgent)
class UpstreamAgent:
    """Sends one call to ``origin``; ``make_exchange`` makes an exchange for a head and a body."""

    def __init__(
        self,
        origin: URI,
        make_exchange: Callable[[bytes, bytes | BufferList | BodySource], PooledResponse],
    ) -> None:
        self._origin = origin
        self._make_exchange = make_exchange
        #: Set when the call was sent.
        self.exchange: PooledResponse | None = None

    def request(
        self,
        method: bytes,
        uri: bytes,
        headers: Headers | None = None,
        bodyProducer: IBodyProducer | None = None,
    ) -> Deferred[IResponse]:
        """See :class:`IAgent`.

        Fails with :class:`SchemeNotSupported` for another origin, with ``ValueError`` for a request
        that cannot be sent, and with :class:`~gemproxy.core.errors.UpstreamFailed`.
        """
        try:
            head = self._head(method, uri, headers or Headers(), bodyProducer)
        except (SchemeNotSupported, ValueError):
            return fail()
        body = bodyProducer.body if isinstance(bodyProducer, RequestBody) else b""
        exchange = self.exchange = self._make_exchange(head, body)
        exchange.is_repeatable = isinstance(body, bytes | BufferList)
        return exchange.send().addCallback(AgentResponse)

    def abort(self) -> None:
        """Close the connection, whatever has come of the response."""
        if self.exchange is not None:
            self.exchange.abort()

    def _head(
        self, method: bytes, uri: bytes, headers: Headers, body: IBodyProducer | None
    ) -> bytes:
        if method not in _METHODS:
            raise ValueError(f"not a method: {method!r}")
        if not (body is None or isinstance(body, RequestBody)):
            raise ValueError("only bodies of the agent's own kind are supported")
        if not _TARGET.fullmatch(uri):
            raise ValueError(f"not a URI: {uri!r}")
        target, ours = URI.fromBytes(uri), self._origin
        if (target.scheme, target.host, target.port) != (ours.scheme, ours.host, ours.port):
            raise SchemeNotSupported("only the upstream's own origin is served")
        lines = [
            b"%b %b HTTP/1.1" % (method, target.originForm),
            b"Host: %b" % ours.netloc,
            b"Accept-Encoding: identity",
        ]
        for name, values in headers.getAllRawHeaders():
            if name.lower() not in _OURS:
                lines += [b"%b: %b" % (name, value) for value in values]
        if body is not None and body.size is not None:
            lines.append(b"Content-Length: %d" % body.size)
        elif body is not None:
            lines.append(b"Transfer-Encoding: chunked")
        return b"\r\n".join([*lines, b"", b""])


@implementer(IResponse, IPushProducer)
class AgentResponse:
    """The response of ``exchange`` as Twisted's interfaces want it, and the transport of its body.

    Its length is always unknown: the receiver has to take the body, which ends the exchange.
    """

    length = UNKNOWN_LENGTH
    previousResponse: IResponse | None = None
    request: IClientRequest | None = None
    #: For receivers that are line receivers.
    disconnecting = False

    def __init__(self, exchange: PooledResponse) -> None:
        head = exchange.parser.head
        major, minor = head.version.split(".")
        self.version = (b"HTTP", int(major), int(minor))
        self.code = exchange.status
        self.phrase = head.phrase
        self.headers = Headers()
        for name, value in head.headers:
            # The body is handed over decoded.
            if name.lower() != b"content-encoding":
                self.headers.addRawHeader(name, value)
        self._exchange = exchange

    def setPreviousResponse(self, response: IResponse) -> None:
        self.previousResponse = response

    def deliverBody(self, protocol: IProtocol) -> None:
        transport: Any = self
        protocol.makeConnection(transport)
        self._exchange.stream(protocol.dataReceived).addCallbacks(
            lambda _: protocol.connectionLost(Failure(ResponseDone())), protocol.connectionLost
        )

    def pauseProducing(self) -> None:
        self._exchange.pause()

    def resumeProducing(self) -> None:
        self._exchange.resume()

    def stopProducing(self) -> None:
        self._exchange.abort()

    loseConnection = abortConnection = stopProducing
