"""One request: twisted.web's ``Request``, which Klein needs, made lazily.

twisted.web prepares headers, cookies, arguments and a content file for each request. The fast
routes use none of them, so each is made here when it is asked for.
"""

from __future__ import annotations

import codecs
import re
import secrets
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from io import BytesIO
from types import MappingProxyType
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote_to_bytes

from twisted.python.failure import Failure
from twisted.web.http import parse_qs
from twisted.web.http_headers import Headers
from twisted.web.server import Request

from gemproxy.core.errors import InternalError, InvalidRequest, ProxyError, UnknownURL
from gemproxy.http.credentials import without_credentials

if TYPE_CHECKING:
    from twisted.internet.interfaces import IAddress
    from twisted.internet.tcp import Connection

    from gemproxy.api.dialects import Dialect
    from gemproxy.core.audit import Actor
    from gemproxy.core.clients import Client
    from gemproxy.core.context import RequestContext
    from gemproxy.core.limits import Reservation
    from gemproxy.http.http1 import RequestHead
    from gemproxy.http.interfaces import Channel
    from gemproxy.http.streamed_body import StreamedBody

# Werkzeug uses this codec in the first request. Loading it takes milliseconds and free descriptors.
codecs.lookup("idna")

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}\Z")


def request_id_of(request: ProxyRequest, fresh: Callable[[], str]) -> str:
    """Return the client's id of the request if its form is safe to repeat, else ``fresh()``."""
    given = request.header(b"x-request-id")
    return given.decode("ascii") if given and _REQUEST_ID.match(given) else fresh()


def _request_ids() -> Iterator[str]:
    while True:
        digits = secrets.token_hex(4096)  # Random bytes for many ids, read with one system call.
        for begin in range(0, len(digits), 32):
            yield "req_" + digits[begin : begin + 32]


#: A fresh id, as OpenAI's: ``req_`` and 32 hex digits.
new_request_id: Final[Callable[[], str]] = _request_ids().__next__


def decoded_path(request: ProxyRequest) -> str:
    """Return the path, percent-decoded. Raises :class:`ProxyError` if no route can match it."""
    if request.path == b"*":
        raise UnknownURL("Unknown request URL: *.")
    try:
        path = unquote_to_bytes(request.path).decode()
    except UnicodeDecodeError:
        raise InvalidRequest("The request's path is not valid UTF-8.") from None
    if "\n" in path:  # No route of Klein's matches a newline, not even the one for all paths.
        raise InvalidRequest("The request's path holds a line feed.")
    return path


class ProxyRequest(Request):
    """A request whose body stays in memory; the connection and the gate bound it."""

    channel: Channel  # type: ignore[assignment]
    queued = False
    #: The parameters of the path by name, decoded.
    parameters: Mapping[str, str] = MappingProxyType({})
    #: Serves the request, if the site needs no router for it.
    serve: Callable[[ProxyRequest], object] | None = None
    stream: StreamedBody | None = None
    #: The operator of the admin API.
    actor: Actor | None = None
    #: The context, if the gate has created one.
    context: RequestContext | None = None
    #: The outcome to report if the connection closes before the answer is complete.
    disconnect_outcome = "client_gone"

    def __init__(self, channel: Channel, head: RequestHead) -> None:
        # Request's own __init__ is not called: its values are made lazily below. What every request
        # reads or sets is set here, not by the class or later: CPython reads it much faster then.
        self.channel = channel
        self.method = head.method
        self.uri = head.target
        self.path = head.path
        self.clientproto = head.version
        self.notifications = []
        #: The last value of a header, by its name in lower case.
        self.header: Callable[[bytes], bytes | None] = head.values.get
        #: The length of the body in bytes; ``None`` for a chunked one.
        self.length = head.length
        self._head = head
        self._body: bytes | BytesIO = b""
        self._on_disconnect: Callable[[], None] | None = None
        self._disconnected = False
        self.finished = 0
        self.producer = None
        #: Whether the request was answered before its body was complete.
        self.refused = False
        # Set by the gate from the head (:class:`gemproxy.http.gate.RequestGate`): the template of
        # the route, or a word for a path without one; and the dialect of its answers.
        self.route = "refused"
        self.dialect: Dialect | None = None
        #: The client of the public API, or the operator of the admin API.
        self.caller: Client | None = None
        #: What it takes of the client's own limits; ``None`` if the client has none.
        self.reservation: Reservation | None = None
        self.max_body_bytes = 0
        #: Whether it is served before its body is complete, which is passed on as it comes.
        self.streams_body = False
        # Its part of the limits for all requests; released by ``RequestGate.release``.
        self.has_place = False
        self.buffered_bytes = 0
        #: Whether the answer is complete, but not yet sent by this process.
        self.is_undelivered = False
        #: Whether a coroutine serves it.
        self.is_working = False

    def __repr__(self) -> str:
        return f"<ProxyRequest {self.route}>"  # Twisted's would contain the query with a token.

    # -- what came -------------------------------------------------------------------------------

    @property
    def values(self) -> dict[bytes, bytes]:
        """The last value of each header by its name in lower case."""
        return self._head.values

    @property
    def origin(self) -> str:
        """Scheme and host that the client has used, also in front of another proxy."""
        forwarded = self.header(b"x-forwarded-proto") or b""
        is_secure = forwarded.lower() == b"https" or self.channel.isSecure()
        host = (self.header(b"host") or b"localhost").decode("latin-1")
        return f"{'https' if is_secure else 'http'}://{host}"

    @property
    def query(self) -> bytes:
        """The query without credentials."""
        _, _, query = self.uri.partition(b"?")
        return without_credentials(query) if query else b""

    @property
    def parameter(self) -> str:
        """The value of the only parameter of the path; "" if there is none."""
        return next(iter(self.parameters.values()), "")

    @property
    def fields(self) -> list[tuple[bytes, bytes]]:
        """All headers in order, with names and values as the client wrote them."""
        return self._head.fields

    def body(self) -> bytes:
        """Return the whole body and drop it, so that it can be read once only."""
        body, self._body = self._body, b""
        # getvalue does not copy: the value shares the memory of the buffer.
        return body if isinstance(body, bytes) else body.getvalue()

    def set_body(self, body: bytes | BytesIO) -> None:
        """Set the whole body, or the file that it is written to. Called by the connection."""
        self._body = body

    # -- serving it ------------------------------------------------------------------------------

    def process(self) -> None:
        """Serve with the site's resource; refuse paths that Klein would answer itself."""
        try:
            decoded_path(self)
        except ProxyError as error:
            self.channel.reject(error)
            return
        self.args = parse_qs(self.uri.partition(b"?")[2], True)
        self.content = BytesIO()
        super().process()

    def processingFailed(self, reason: Failure) -> Failure:
        """Log a defect, and answer it if no answer is complete."""
        if self.finished or self._disconnected:
            self._log.failure("request failed after its end", failure=reason)
        else:
            self._log.failure("request failed before its work began", failure=reason)
            self.channel.reject(InternalError("The proxy failed to serve this request."))
        return reason

    def on_disconnect(self, act: Callable[[], None]) -> None:
        """Call ``act`` if the client disconnects before the answer is complete.

        A cheaper ``notifyFinish``, for one listener.
        """
        self._on_disconnect = act

    def end(self) -> None:
        """Note that the whole answer is written."""
        self.finished = 1
        if self.reservation is not None:
            # Before the next request of the connection is read.
            self.reservation.leave()
        self._cleanup()

    def finish(self) -> None:
        """Called by Klein after a route that has not ended its answer."""
        if not self.is_undelivered:  # Else it ends with its last piece.
            super().finish()

    def connectionLost(self, reason: Failure) -> None:
        """The client disconnected before the answer was complete. Called by the connection."""
        self._disconnected = True
        self._body = b""
        notifications, self.notifications = self.notifications, []
        for gone in notifications:
            gone.errback(reason)
        act, self._on_disconnect = self._on_disconnect, None
        if act is not None:
            act()

    def _cleanup(self) -> None:
        if self.producer is not None:
            self.unregisterProducer()
        self._on_disconnect = None
        self.channel.requestDone(self)
        notifications, self.notifications = self.notifications, []
        for finished in notifications:
            finished.callback(None)

    def getRequestHostname(self) -> bytes:
        """Return a valid name for Klein, which fails at a missing or malformed host."""
        return b"localhost"

    # -- attributes of twisted.web's Request, made when they are first read ----------------------

    @cached_property
    def requestHeaders(self) -> Headers:  # type: ignore[override]
        headers = Headers()
        for name, value in self.fields:
            headers.addRawHeader(name, value)
        return headers

    @cached_property
    def responseHeaders(self) -> Headers:  # type: ignore[override]
        return Headers()

    @cached_property
    def received_cookies(self) -> dict[bytes, bytes]:  # type: ignore[override]
        cookies = self.__dict__["received_cookies"] = {}
        self.parseCookies()
        return cookies

    @cached_property
    def cookies(self) -> list[bytes]:  # type: ignore[override]
        return []

    @cached_property
    def transport(self) -> Connection:  # type: ignore[override]
        return self.channel.transport

    @cached_property
    def client(self) -> IAddress:
        return self.channel.getPeer()

    @cached_property
    def host(self) -> IAddress:
        return self.channel.getHost()

    @cached_property
    def _adapterCache(self) -> dict[str, object]:  # type: ignore[override]
        return {}
