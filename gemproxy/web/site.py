"""The server's side of HTTP/1.1: limits that hold before a body is in memory, and short ways.

twisted.web parses; what is added here are the bounds that a daemon on a public port needs (size of
a body before and while it comes, headers and bodies that drip) and what makes a request cheap:
bodies stay in memory, routes without parameters are found by one look in a dict, and a whole answer
is one write.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from io import BytesIO
from typing import Any
from urllib.parse import unquote_to_bytes

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime, ITCPTransport
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel, _GenericHTTPChannelProtocol
from twisted.web.resource import Resource
from twisted.web.server import Request, Site

from gemproxy.errors import InvalidRequest, ProxyError, RequestTooLarge

#: A kept-alive connection may be silent for so long between two requests, and an upload within one.
IDLE_SECONDS = 60.0
#: Headers must be complete so long after their first byte, however they drip.
HEADER_SECONDS = 30.0
#: A body must bring at least this much in each ``IDLE_SECONDS``; less is a client that holds on.
MIN_BODY_BYTES = 1024
#: After an early refusal so much more is read and dropped, so that a client that is still sending
#: gets to read the answer instead of a reset connection.
LINGER_BYTES = 64 * 1024 * 1024
LINGER_SECONDS = 5.0
#: nginx's word for a client that closed before its answer was there.
CLIENT_CLOSED_REQUEST = 499
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}\Z")

_BAD_REQUEST_BODY = (
    b'{"error":{"message":"The request is not valid HTTP/1.1, or its headers are too large.",'
    b'"type":"invalid_request_error","param":null,"code":null}}'
)
_BAD_REQUEST = (
    b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Type: application/json\r\n"
    b"x-request-id: %b\r\nopenai-processing-ms: 0\r\nx-gemproxy-attempts: 0\r\n"
    b"Content-Length: %d\r\n\r\n%b"
)


def request_id_of(request: Request, fresh: Callable[[], str]) -> str:
    """The id that the client gave, where it is one that may be repeated; else ``fresh()``."""
    given = request.requestHeaders.getRawHeaders(b"x-request-id")
    return given[-1].decode("ascii") if given and _REQUEST_ID.match(given[-1]) else fresh()


def new_request_id() -> str:
    """As OpenAI's: ``req_`` and 32 hex digits."""
    return f"req_{secrets.token_hex(16)}"


class ProxyRequest(Request):
    """A request whose body is bounded and stays in memory."""

    channel: ProxyChannel
    site: ProxySite
    #: Set when the request was answered before its body was complete.
    refused = False

    def gotLength(self, length: int | None) -> None:
        """Headers are complete; ``length`` is the body's, ``None`` for chunked."""
        self.site = self.channel.site
        self._chunks: list[bytes] = []
        self._size = 0
        self.content = BytesIO()
        if length is not None and length > self.site.max_body_bytes:
            self._refuse()

    def handleContentChunk(self, data: bytes) -> None:
        if self.refused:
            return
        self._size += len(data)
        if self._size > self.site.max_body_bytes:
            self._refuse()
        else:
            self._chunks.append(data)

    def body(self) -> bytes:
        """The whole body. May be taken once; the request does not hold it any longer."""
        chunks, self._chunks = self._chunks, []
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        """The request is complete."""
        if self.refused:
            return
        self.content = BytesIO()
        super().requestReceived(command, path, version)

    def process(self) -> None:
        """Serve by the site's short way if there is one for this path, else by its resource."""
        act = self.site.routes.get((self.method, self.path))
        if act is None:
            self._look_up()
            return
        try:
            act(self)
        except Exception:  # noqa: BLE001 - the last guard of the site
            self.processingFailed(Failure())

    def _look_up(self) -> None:
        """Find what serves the path. Klein would answer one that is no text in its own words."""
        try:
            unquote_to_bytes(self.path).decode()
        except UnicodeDecodeError:
            self.site.refuse(self, InvalidRequest("The request's path is not valid UTF-8."))
        else:
            super().process()

    def _refuse(self) -> None:
        """Answer now, with the body still on its way."""
        self.refused = True
        channel = self.channel
        channel.persistent = False
        self.method, self.uri, self.clientproto = channel._command, channel._path, channel._version
        self.path = self.uri.split(b"?", 1)[0]
        limit = self.site.max_body_bytes
        self._chunks.clear()
        self.site.refuse(
            self, RequestTooLarge(f"The request body is larger than the limit of {limit} bytes.")
        )


class ProxyChannel(HTTPChannel):
    """One client's connection, with deadlines that dripping bytes do not push away."""

    site: ProxySite
    transport: ITCPTransport
    _began: float | None = None
    _window_began = 0.0
    _window_bytes = 0
    _lingering = False
    _linger_bytes = LINGER_BYTES

    def connectionMade(self) -> None:
        super().connectionMade()
        self.site.channels.add(self)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        super().connectionLost(reason)
        self.site.forget(self)

    def lineReceived(self, line: bytes) -> None:
        # What stands behind a bad line in the same read is not looked at any more.
        if not self._lingering:
            super().lineReceived(line)

    def lineLengthExceeded(self, line: bytes) -> None:  # noqa: ARG002 - it is not of interest
        self._respondToBadRequestAndDisconnect()

    def dataReceived(self, data: bytes) -> None:
        if self._lingering:
            self._drop(len(data))
            return
        if not self._handlingRequest and self._drips(len(data)):
            self._log.info("closing a client that sends too slowly")
            self.transport.abortConnection()
            return
        super().dataReceived(data)

    def allHeadersReceived(self) -> None:
        self._began = None
        self._window_began, self._window_bytes = self.site.now(), 0
        super().allHeadersReceived()

    def allContentReceived(self) -> None:
        self._window_began = 0.0
        super().allContentReceived()

    def _send100Continue(self) -> None:
        if not self.requests or not self.requests[-1].refused:
            super()._send100Continue()

    def _respondToBadRequestAndDisconnect(self) -> None:
        """What came is not HTTP/1.1 (or smuggles: two lengths, a length and chunks)."""
        if not self._lingering:
            request_id = new_request_id()
            self._log.info("request is not valid HTTP", request_id=request_id, status=400)
            self.transport.write(
                _BAD_REQUEST
                % (request_id.encode("ascii"), len(_BAD_REQUEST_BODY), _BAD_REQUEST_BODY)
            )
            self.linger()

    def linger(self) -> None:
        """Close after an early answer, in a way that lets the client read it.

        Closing with unread bytes in the socket sends a reset, which takes the answer with it
        (RFC 9112 section 9.6).
        """
        self._lingering = True
        self.setTimeout(None)
        # TLS has no half of a connection to close, and below it is not ours to close.
        if not self.isSecure():
            self.transport.loseWriteConnection()
        self._networkProducer.resumeProducing()
        self._abortingCall = self.callLater(LINGER_SECONDS, self.forceAbortClient)

    def _drop(self, size: int) -> None:
        self._linger_bytes -= size
        if self._linger_bytes < 0:
            self.transport.abortConnection()

    def _drips(self, size: int) -> bool:
        """Whether this request comes so slowly that it only holds the connection."""
        now = self.site.now()
        if self._window_began:
            self._window_bytes += size
            if now - self._window_began < IDLE_SECONDS:
                return False
            dripped = self._window_bytes < MIN_BODY_BYTES
            self._window_began, self._window_bytes = now, 0
            return dripped
        if self._began is None:
            self._began = now
        return now - self._began > HEADER_SECONDS


def _channel() -> _GenericHTTPChannelProtocol:
    return _GenericHTTPChannelProtocol(ProxyChannel())


class ProxySite(Site):
    """The factory of connections.

    ``routes`` are the short ways: (method, path) to what serves the request. ``refuse`` answers a
    request that is turned away before its body is complete.
    """

    noisy = False

    def __init__(
        self,
        resource: Resource,
        reactor: IReactorTime,
        *,
        max_body_bytes: int,
        refuse: Callable[[ProxyRequest, ProxyError], None],
    ) -> None:
        super().__init__(
            resource,
            requestFactory=ProxyRequest,
            parsePOSTFormSubmission=False,
            timeout=IDLE_SECONDS,
            reactor=reactor,
        )
        self.protocol = _channel  # type: ignore[method-assign]
        self.displayTracebacks = False
        self.max_body_bytes = max_body_bytes
        self.refuse = refuse
        self.now = reactor.seconds
        self.routes: dict[tuple[bytes, bytes], Callable[[ProxyRequest], Deferred[None] | None]] = {}
        #: The connections that are open.
        self.channels: set[ProxyChannel] = set()
        self._call_later = reactor.callLater
        self._closed: Deferred[None] | None = None

    def close(self) -> Deferred[None]:
        """Close every connection, each as soon as what was written to it is sent.

        Fires when none is left, after ``LINGER_SECONDS`` at the latest.
        """
        closed = self._closed = Deferred()
        for channel in list(self.channels):
            channel.loseConnection()
        deadline = self._call_later(LINGER_SECONDS, self._abort)
        closed.addCallback(lambda _: deadline.cancel() if deadline.active() else None)
        self._tell_if_closed()
        return closed

    def forget(self, channel: ProxyChannel) -> None:
        """``channel`` is closed."""
        self.channels.discard(channel)
        self._tell_if_closed()

    def _tell_if_closed(self) -> None:
        if self._closed is not None and not self._closed.called and not self.channels:
            self._closed.callback(None)

    def _abort(self) -> None:
        for channel in list(self.channels):
            channel.transport.abortConnection()

    def log(self, request: Any) -> None:
        """Requests are logged by what serves them, with more to say than an access line has."""
