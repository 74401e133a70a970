"""The pool as Twisted's ``IAgent``, for treq and for any other caller.

It behaves as ``twisted.web.client.Agent`` does, with three differences: it knows one origin only,
it takes nothing for HTTP that can be read in two ways, and it does not use a connection again that
an answer left unclean.
"""

from __future__ import annotations

import re
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, fail, maybeDeferred
from twisted.internet.interfaces import IProtocol, IPushProducer
from twisted.python.components import proxyForInterface
from twisted.python.failure import Failure
from twisted.web._newclient import (
    HTTPParser,
    Request,
    RequestGenerationFailed,
    RequestTransmissionFailed,
    ResponseDone,
    ResponseFailed,
    ResponseNeverReceived,
)
from twisted.web.client import URI
from twisted.web.error import SchemeNotSupported
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers
from twisted.web.iweb import (
    UNKNOWN_LENGTH,
    IAgent,
    IBodyProducer,
    IClientRequest,
    IResponse,
)
from zope.interface import implementer

from gemproxy.upstream.answer import Answer
from gemproxy.upstream.connection import UpstreamConnection
from gemproxy.upstream.exchange import UpstreamExchange
from gemproxy.upstream.pool import ConnectionPool

_METHOD = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_ClientRequest = proxyForInterface(IClientRequest)


@implementer(IAgent)
class UpstreamAgent:
    """Sends requests to the one origin of ``base_url`` over the connections of ``pool``."""

    def __init__(self, pool: ConnectionPool, base_url: str) -> None:
        self.pool = pool
        self._origin = URI.fromBytes(base_url.encode("ascii"))

    def request(
        self,
        method: bytes,
        uri: bytes,
        headers: Headers | None = None,
        bodyProducer: IBodyProducer | None = None,
    ) -> Deferred[IResponse]:
        """See :class:`IAgent`. Nothing is sent to any other origin, so that no key goes there.

        Fails with :class:`SchemeNotSupported` for one, with ``ValueError`` for what cannot stand
        in a request line; else as Twisted's own agent does.
        """
        try:
            request = self._request(method, uri, headers, bodyProducer)
        except (SchemeNotSupported, ValueError):
            return fail()
        return _AgentExchange(self.pool, request).send()

    def _request(
        self, method: bytes, uri: bytes, headers: Headers | None, body: IBodyProducer | None
    ) -> Request:
        target = URI.fromBytes(uri)
        if not _METHOD.fullmatch(method):
            raise ValueError(f"Invalid method {method!r}")
        ours = self._origin
        if (target.scheme, target.host, target.port) != (ours.scheme, ours.host, ours.port):
            raise SchemeNotSupported("only the upstream's own origin is served")
        headers = Headers() if headers is None else headers.copy()
        if not headers.hasHeader(b"host"):
            headers.addRawHeader(b"host", ours.netloc)
        request: Request = Request._construct(
            method, target.originForm, headers, body, persistent=True, parsedURI=target
        )
        return request


class _AgentExchange(UpstreamExchange):
    """One request of a caller of the agent; the answer becomes an :class:`AgentResponse`."""

    __slots__ = ("_answered", "_request", "response")

    def __init__(self, pool: ConnectionPool, request: Request) -> None:
        super().__init__(pool, Answer(to_head=request.method == b"HEAD"))
        self._request = request
        self._answered: Deferred[IResponse] | None = None
        self.response: AgentResponse | None = None

    def send(self) -> Deferred[IResponse]:
        answered: Deferred[IResponse] = Deferred(self._leave)
        self._answered = answered
        self.begin()
        return answered

    @property
    def repeatable(self) -> bool:
        return self._request.bodyProducer is None

    def write_to(self, connection: UpstreamConnection) -> None:
        def written(_: None) -> None:
            self.sent = True

        def not_written(failure: Failure) -> None:
            if not self.answer.complete:
                self.abandon()
                self._end(Failure(RequestGenerationFailed([failure])))

        # Where the connection closes before, the transport stops the body's producer.
        writing: Deferred[None] = maybeDeferred(self._request.writeTo, connection.transport)
        writing.addCallbacks(written, not_written)

    def advance(self) -> None:
        answer, answered = self.answer, self._answered
        if answered is not None and answer.status:
            self._answered = None
            self.response = AgentResponse(answer, self, self._request)
            self.flow()
            answered.callback(self.response)
        elif self.response is not None:
            self.response.advance()

    def fail(self, failure: Failure) -> None:
        if self.answer.begun:
            self._end(Failure(ResponseFailed([failure], self.response)))
        elif self.connection is None:
            self._end(failure)
        elif self.sent:
            self._end(Failure(ResponseNeverReceived([failure])))
        else:
            self._end(Failure(RequestTransmissionFailed([failure])))

    def flow(self) -> None:
        """Read no more than the head until somebody takes the body."""
        response, connection = self.response, self.connection
        if response is None or connection is None or self.answer.complete:
            return
        if response.delivering:
            connection.resume()
        else:
            connection.pause()

    def _end(self, failure: Failure) -> None:
        answered, self._answered = self._answered, None
        if answered is not None:
            answered.errback(failure)
        elif self.response is not None:
            self.response.end(failure)

    def _leave(self, answered: Deferred[IResponse]) -> None:
        self._answered = None
        reached = self.connection is not None
        self.abandon()
        if reached:
            wrapper = ResponseFailed if self.answer.begun else ResponseNeverReceived
            answered.errback(Failure(wrapper([Failure(CancelledError())])))


@implementer(IResponse)
class AgentResponse:
    """The answer to a request of an agent's caller."""

    def __init__(self, answer: Answer, exchange: _AgentExchange, request: Request) -> None:
        major, minor = answer.head.version.split(".")
        self.version = (b"HTTP", int(major), int(minor))
        self.code = answer.status
        self.phrase = answer.head.phrase
        self.headers = _headers(answer, request.method)
        self.length = UNKNOWN_LENGTH if answer.length is None else answer.length
        self.request = _ClientRequest(request)
        self.previousResponse: IResponse | None = None
        self._answer = answer
        self._exchange = exchange
        self._failure: Failure | None = None
        self._protocol: IProtocol | None = None
        self._transport = _BodyTransport(exchange)

    @property
    def delivering(self) -> bool:
        """Whether somebody takes the body."""
        return self._protocol is not None

    def setPreviousResponse(self, response: IResponse) -> None:
        self.previousResponse = response

    def deliverBody(self, protocol: IProtocol) -> None:
        if self._protocol is not None:
            raise RuntimeError("the body is delivered once")
        transport: Any = self._transport
        protocol.makeConnection(transport)
        self._protocol = protocol
        self.advance()
        self._exchange.flow()

    def advance(self) -> None:
        """Hand on what has come; and the end, once."""
        protocol = self._protocol
        if protocol is None:
            return
        data = self._answer.take()
        if data:
            protocol.dataReceived(data)
        if self._failure is not None:
            self._finish(protocol, self._failure)
        elif self._answer.complete:
            unsure = self._answer.ends_with_connection
            self._finish(protocol, Failure(PotentialDataLoss() if unsure else ResponseDone()))

    def end(self, failure: Failure) -> None:
        """The answer breaks off."""
        self._failure = failure
        self.advance()

    def _finish(self, protocol: IProtocol, reason: Failure) -> None:
        if not self._transport.over:
            self._transport.over = True
            protocol.connectionLost(reason)


def _headers(answer: Answer, method: bytes) -> Headers:
    """As Twisted's: without those that are about the connection."""
    hidden = HTTPParser.CONNECTION_CONTROL_HEADERS
    if method == b"HEAD":
        hidden = hidden - {b"content-length"}
    headers = Headers()
    for name, value in answer.headers:
        if name.lower() not in hidden:
            headers.addRawHeader(name, value)
    return headers


@implementer(IPushProducer)
class _BodyTransport:
    """What a body's receiver may do with the connection, as long as the body lasts."""

    #: For receivers that are line receivers.
    disconnecting = False

    def __init__(self, exchange: _AgentExchange) -> None:
        self._exchange = exchange
        self.over = False

    def _connection(self) -> Any:
        return None if self.over or self._exchange.answer.complete else self._exchange.connection

    def pauseProducing(self) -> None:
        if (connection := self._connection()) is not None:
            connection.pause()

    def resumeProducing(self) -> None:
        if (connection := self._connection()) is not None:
            connection.resume()

    def stopProducing(self) -> None:
        self.loseConnection()

    def loseConnection(self) -> None:
        if (connection := self._connection()) is not None:
            connection.transport.loseConnection()

    def abortConnection(self) -> None:
        if (connection := self._connection()) is not None:
            connection.transport.abortConnection()
