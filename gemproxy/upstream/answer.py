"""One HTTP answer as llhttp reads it off the wire.

The parser's callbacks only take notes: nobody else's code runs inside llhttp. Whoever carries the
answer looks at the notes after each read of the socket. A parser serves one answer, so that
nothing of one answer can end up in the next.
"""

from __future__ import annotations

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser
from twisted.web._newclient import ParseError

#: llhttp has no limit of its own. As many bytes may come that are no body: a head, a chunk's
#: extensions, trailers. What one read brings is not cut, so that twice as much may be seen.
MAX_OVERHEAD_BYTES = 64 * 1024
MAX_HEADERS = 500

_WITHOUT_BODY = frozenset({204, 304})
_CHUNKED = b"chunked"
_TRANSFER_ENCODING = b"transfer-encoding"
_CONTENT_LENGTH = b"content-length"


class NotHttp(ParseError):
    """What came is no HTTP answer, or none that can be read safely."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason, b"")


class Answer:
    """What has come of one answer. ``feed`` writes it; whoever wants the body calls ``take``.

    The answer ``to_head``, a HEAD request, has no body whatever its headers say; its connection is
    not used again.
    """

    __slots__ = (
        "_bodiless",
        "_fruitless",
        "_informational",
        "_parser",
        "begun",
        "complete",
        "headers",
        "keep_alive",
        "on_body",
        "phrase",
        "pieces",
        "status",
        "version",
    )

    def __init__(self, *, to_head: bool = False) -> None:
        #: Whether anything has come, be it an interim answer.
        self.begun = False
        #: 0 until all headers of the final answer are here.
        self.status = 0
        self.phrase = b""
        self.version = ""
        #: Names and values as they came; no trailers.
        self.headers: list[tuple[bytes, bytes]] = []
        #: What has come of the body and was not taken.
        self.pieces: list[bytes] = []
        self.complete = False
        #: Whether another request may follow on the same connection.
        self.keep_alive = False
        #: llhttp's callback for a piece of the body.
        self.on_body = self.pieces.append
        self._bodiless = to_head
        self._informational = False
        self._fruitless = 0
        self._parser: HttpResponseParser | None = HttpResponseParser(self)

    def feed(self, data: bytes) -> None:
        """Read on. Raises :class:`NotHttp`; what was understood before it stands."""
        if not self.begun:
            self.begun = True
            # llhttp would also take RTSP, ICE and blank lines.
            if not data.startswith(b"H"):
                raise NotHttp("the answer does not begin with HTTP")
        parser = self._parser
        if parser is None:
            raise NotHttp("data after the answer's end")
        try:
            parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade) as error:
            self._parser = None
            if not self.complete:
                raise _reason(error) from None
            self.keep_alive = False
        if self.complete:
            self._parser = None
        elif not self.pieces:
            self._fruitless += len(data)
            if self._fruitless > MAX_OVERHEAD_BYTES:
                raise NotHttp("too much that is no body")
        elif self.status:
            self._fruitless = 0
        else:
            raise NotHttp("an interim answer with a body")

    def take(self) -> bytes:
        """What has come of the body since the last time."""
        pieces = self.pieces
        if not pieces:
            return b""
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        pieces.clear()
        return data

    def header(self, name: bytes) -> bytes | None:
        """The last value of ``name``, which is in lower case."""
        for each, value in reversed(self.headers):
            if each.lower() == name:
                return value
        return None

    @property
    def length(self) -> int | None:
        """The body's length where it is known beforehand."""
        if self._bodiless or self.status in _WITHOUT_BODY:
            return 0
        length = self.header(_CONTENT_LENGTH)
        return None if length is None else int(length)

    @property
    def ends_with_connection(self) -> bool:
        """Whether nothing but the connection's end tells the body's."""
        return self.status != 0 and self.length is None and self.header(_TRANSFER_ENCODING) is None

    def end(self) -> None:
        """The connection has ended, and with it a body that is as long as that."""
        self.complete = True
        self._parser = None

    # -- llhttp's callbacks; what they raise ends the reading ------------------------------------

    def on_message_begin(self) -> None:
        if self.complete:
            raise NotHttp("data after the answer's end")
        self.phrase = b""
        self.headers.clear()

    def on_status(self, phrase: bytes) -> None:
        self.phrase += phrase

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.status:
            return
        if len(name) == 17 and name.lower() == _TRANSFER_ENCODING and value.lower() != _CHUNKED:
            raise NotHttp("a transfer encoding that nobody asked for")
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        parser = self._parser
        if parser is None:
            return
        status = parser.get_status_code()
        if status < 100 or status == 101 or len(self.headers) > MAX_HEADERS:
            raise NotHttp("a status or headers that nobody asked for")
        self._informational = status < 200
        if not self._informational:
            self.status = status
            self.version = parser.get_http_version()
            self.keep_alive = parser.should_keep_alive()
            if self._bodiless:
                # llhttp would wait for the body that a GET would have got.
                self.complete = True
                raise NotHttp("data after the answer's end")

    def on_message_complete(self) -> None:
        if not self._informational:
            self.complete = True
        elif self.pieces:
            raise NotHttp("an interim answer with a body")


def _reason(error: Exception) -> NotHttp:
    """What llhttp found, or one of the callbacks."""
    cause = error.__context__
    return cause if isinstance(cause, NotHttp) else NotHttp(str(error))
