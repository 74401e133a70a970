"""One request: twisted.web's, as Klein wants it, with its weight taken off.

Of what twisted.web prepares for every request the fast routes need next to nothing; here it is made
when somebody asks for it.
"""

from __future__ import annotations

import codecs
import re
import secrets
from collections.abc import Callable, Iterator
from functools import cached_property
from io import BytesIO
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote_to_bytes

from twisted.python.failure import Failure
from twisted.web.http import parse_qs
from twisted.web.http_headers import Headers
from twisted.web.server import Request

from gemproxy.core.errors import InternalError, InvalidRequest, ProxyError, UnknownURL

if TYPE_CHECKING:
    from twisted.internet.interfaces import IAddress
    from twisted.internet.tcp import Connection

    from gemproxy.core.audit import Actor
    from gemproxy.core.context import Exchange
    from gemproxy.http.auth import Client
    from gemproxy.http.http1 import RequestHead
    from gemproxy.http.interfaces import Channel

# Werkzeug asks for this codec with the first request. To load it takes milliseconds, and files that
# can be opened.
codecs.lookup("idna")

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}\Z")


def request_id_of(request: ProxyRequest, fresh: Callable[[], str]) -> str:
    """The id that the client gave, where it is one that may be repeated; else ``fresh()``."""
    given = request.header(b"x-request-id")
    return given.decode("ascii") if given and _REQUEST_ID.match(given) else fresh()


def _request_ids() -> Iterator[str]:
    while True:
        digits = secrets.token_hex(4096)  # Asked of the kernel for many requests at a time.
        for begin in range(0, len(digits), 32):
            yield "req_" + digits[begin : begin + 32]


#: A fresh id, as OpenAI's: ``req_`` and 32 hex digits.
new_request_id: Final[Callable[[], str]] = _request_ids().__next__


def decoded_path(request: ProxyRequest) -> str:
    """The path without percent-encoding. Raises :class:`ProxyError` where no route can have it."""
    if request.path == b"*":
        raise UnknownURL("Unknown request URL: *.")
    try:
        path = unquote_to_bytes(request.path).decode()
    except UnicodeDecodeError:
        raise InvalidRequest("The request's path is not valid UTF-8.") from None
    if "\n" in path:  # No route of Klein's matches one, not even the last.
        raise InvalidRequest("The request's path holds a line feed.")
    return path


class ProxyRequest(Request):
    """A request whose body stays in memory; the channel keeps it within bounds."""

    channel: Channel  # type: ignore[assignment]
    queued = False
    #: Set when the request was answered before its body was complete.
    refused = False

    # What the gate decided from the head (:class:`gemproxy.http.gate.RequestGate`).
    #: The path's template, or a word for what has none.
    route = "refused"
    max_body_bytes = 0
    #: Who sends it: to the public API, or to the admin API with what is logged of it.
    caller: Client | None = None
    actor: Actor | None = None
    admin_context: Exchange | None = None

    # What it takes of the limits that all requests share; given back by ``RequestGate.release``.
    has_place = False
    buffered_bytes = 0
    #: Whether the client has yet to take the answer from this process, though it is complete.
    is_undelivered = False
    #: Whether its work has begun and is not over.
    is_working = False
    #: How it is told where the client left, or was made to.
    disconnect_outcome = "client_gone"

    def __init__(self, channel: Channel, head: RequestHead) -> None:
        # Not Request's own: all that it makes is made below, when somebody asks for it.
        self.channel = channel
        self.method = head.method
        self.uri = head.target
        self.path = head.path
        self.clientproto = head.version
        self.notifications = []
        #: The last value of a header, by its name in lower case.
        self.header: Callable[[bytes], bytes | None] = head.values.get
        #: The body's, in bytes; ``None`` where it comes in chunks.
        self.length = head.length
        self._head = head
        self._body: bytes | BytesIO = b""
        self._on_disconnect: Callable[[], None] | None = None

    # -- what came -------------------------------------------------------------------------------

    @property
    def fields(self) -> list[tuple[bytes, bytes]]:
        """All headers, names and values as they came."""
        return self._head.fields

    def body(self) -> bytes:
        """The whole body. May be taken once; the request does not hold it any longer."""
        body, self._body = self._body, b""
        # This copies nothing: the buffer itself becomes the value.
        return body if isinstance(body, bytes) else body.getvalue()

    def set_body(self, body: bytes | BytesIO) -> None:
        """Called by the channel, with the whole body or with what it will be written to."""
        self._body = body

    # -- serving it ------------------------------------------------------------------------------

    def process(self) -> None:
        """Serve by the site's resource; refuse what Klein would answer in its own words."""
        try:
            decoded_path(self)
        except ProxyError as error:
            self.channel.reject(error)
            return
        self.args = parse_qs(self.uri.partition(b"?")[2], True)
        self.content = BytesIO()
        super().process()

    def processingFailed(self, reason: Failure) -> Failure:
        """A defect is logged, and becomes an answer where none is complete."""
        if self.finished or self._disconnected:
            self._log.failure("request failed after its end", failure=reason)
        else:
            self._log.failure("request failed before its work began", failure=reason)
            self.channel.reject(InternalError("The proxy failed to serve this request."))
        return reason

    def on_disconnect(self, act: Callable[[], None]) -> None:
        """Let ``act`` be called if the client leaves before the answer is complete.

        A lighter ``notifyFinish``, for one listener.
        """
        self._on_disconnect = act

    def end(self) -> None:
        """All of the answer is written."""
        self.finished = 1
        self._cleanup()

    def connectionLost(self, reason: Failure) -> None:
        """The client left before the answer was complete. Called by the channel."""
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
        """For Klein, whose routes serve every host: it fails at one that is no name, or missing."""
        return b"localhost"

    # -- what twisted.web and Klein may ask for: attributes there, which may be set here as well --

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
