"""Read one HTTP response with llhttp.

The parser's callbacks only store what they get, so no other code runs inside llhttp. The connection
reads the stored values after each read of the socket. Each response has a parser of its own, so
nothing of one response can end up in the next.

The headers of a successful response are rarely needed. So llhttp frames the response without
passing them to Python, and :class:`Head` parses the stored bytes of the head when somebody asks.
"""

from __future__ import annotations

import re
from contextlib import suppress

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser
from twisted.web._newclient import ParseError

#: Limit of bytes outside the body: head, chunk extensions, trailers. llhttp has no limit of its
#: own. One read of the socket is not cut, so up to twice as much may be accepted.
MAX_OVERHEAD_BYTES = 64 * 1024
MAX_HEADERS = 500

_WITHOUT_BODY = frozenset({204, 304})
_CHUNKED = b"chunked"
_TRANSFER_ENCODING = b"transfer-encoding"
_CONTENT_LENGTH = b"content-length"
_CONTENT_ENCODING = b"content-encoding"
_H = ord("H")
#: Matches a head that :meth:`Head.check` would accept without a content coding: the status is
#: final, the only header that begins with T is ``Transfer-Encoding: chunked``, and none is
#: Content-Encoding. All else is checked by the parser.
_USUAL_HEAD = re.compile(
    rb"HTTP/1\.1 [2-5][^\n]*+"
    rb"(?:\n(?:[^\r\nTtCc]|[Cc](?!(?i:ontent-encoding)))[^\n]*+){0,200}+"
    rb"(?:\n[Tt]ransfer-[Ee]ncoding: chunked\r"
    rb"(?:\n(?:[^\r\nTtCc]|[Cc](?!(?i:ontent-encoding)))[^\n]*+){0,200}+)?+"
    rb"\n\r\n"
)


class NotHttp(ParseError):
    """The bytes are not an HTTP response, or one that cannot be read safely."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason, b"")


class ResponseParser:
    """The received part of one response. The connection calls ``feed``, the reader ``take``."""

    __slots__ = (
        "_head",
        "_head_bytes",
        "_messages",
        "_overhead",
        "_parser",
        "begun",
        "coding",
        "complete",
        "keep_alive",
        "on_body",
        "on_message_begin",
        "on_message_complete",
        "pieces",
        "status",
    )

    def __init__(self) -> None:
        #: Whether any byte has been received, also of an interim response.
        self.begun = False
        #: The status of the final response; 0 until its headers are complete.
        self.status = 0
        #: The value of Content-Encoding, if there is one.
        self.coding: bytes | None = None
        self.complete = False
        #: Whether another request may follow on the same connection.
        self.keep_alive = False
        self._overhead = 0
        # The raw head, perhaps with bytes of the body behind it.
        self._head_bytes = b""
        self._head: Head | None = None
        #: Pieces of the body that were not taken yet.
        self.pieces: list[bytes] = []
        #: llhttp's callback with a piece of the body.
        self.on_body = self.pieces.append
        # Allow exactly one message per parser: its begin and its end pop one item each, and the
        # begin of a second message raises IndexError.
        self._messages = [None, None]
        self.on_message_begin = self.on_message_complete = self._messages.pop
        self._parser: HttpResponseParser | None = HttpResponseParser(self)

    def feed(self, data: bytes) -> None:
        """Parse ``data``. Raises :class:`NotHttp`; what was parsed before stays valid."""
        parser = self._parser
        if parser is None:
            raise NotHttp("data after the end of the response")
        if not self.status:
            self.begun = True
            self._head_bytes = head = self._head_bytes + data if self._head_bytes else data
            # llhttp also accepts RTSP, ICE and leading blank lines.
            if head[0] != _H:
                raise NotHttp("the response does not begin with HTTP")
        try:
            parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade) as error:
            self._parser = None
            if self._messages:
                raise _reason(error) from None
            self.keep_alive = False
        if not self._messages:
            self.complete = True
            self._parser = None
        elif self.pieces:
            if not self.status:
                raise NotHttp("an interim response with a body")
            self._overhead = 0
        else:
            self._overhead += len(data)
            if self._overhead > MAX_OVERHEAD_BYTES:
                raise NotHttp("too many bytes outside the body")

    def take(self) -> bytes:
        """Return the pieces of the body since the last call, joined."""
        pieces = self.pieces
        if len(pieces) == 1:
            return pieces.pop()
        data = b"".join(pieces)
        pieces.clear()
        return data

    def end(self) -> None:
        """Mark the response complete, where the end of the connection is the end of the body."""
        self.complete = True
        self._parser = None

    # -- the head, for those who ask -------------------------------------------------------------

    @property
    def head(self) -> Head:
        """Status line and headers, as far as they were received."""
        head = self._head
        if head is None:
            head = Head(self._head_bytes)
            if self.status:
                self._head = head
        return head

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """Names and values as received, without trailers."""
        return self.head.headers

    def header(self, name: bytes) -> bytes | None:
        """The last value of header ``name``, which has to be in lower case."""
        if self._head is None and self.status and name not in self._head_bytes.lower():
            return None  # Without parsing the head.
        for each, value in reversed(self.headers):
            if each.lower() == name:
                return value
        return None

    @property
    def length(self) -> int | None:
        """The length of the body if the head tells it, else ``None``."""
        if self.status in _WITHOUT_BODY:
            return 0
        length = self.header(_CONTENT_LENGTH)
        return None if length is None else int(length.lstrip(b"0") or 0)

    @property
    def ends_with_connection(self) -> bool:
        """Whether the body ends with the connection."""
        return self.status != 0 and self.length is None and self.header(_TRANSFER_ENCODING) is None

    # -- llhttp's callback; what it raises ends the reading --------------------------------------

    def on_headers_complete(self) -> None:
        parser = self._parser
        if parser is None:
            return
        status = parser.get_status_code()
        if self.pieces:
            raise NotHttp("an interim response with a body")
        if status < 200:
            if status < 100 or status == 101:
                raise NotHttp("an unexpected status")
            # Allow the end of this message and the beginning of another one.
            self._messages += [None, None]
            return
        usual = _USUAL_HEAD.match(self._head_bytes)
        if usual is not None:
            self._head_bytes = self._head_bytes[: usual.end()]
        else:
            self._head = Head(self._head_bytes)
            self._head.check()
            self.coding = self._head.coding()
            self._head_bytes = b""
        self.status = status
        self.keep_alive = parser.should_keep_alive()


class _EndOfHead(Exception):
    """Stops the parser at the end of the head."""


class Head:
    """Status line and headers of the final response in ``data``, or of the last interim one."""

    def __init__(self, data: bytes) -> None:
        self.version = ""
        self.phrase = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self._parser = HttpResponseParser(self)
        # Stops at the end of the head, or at the first error.
        with suppress(HttpParserError, HttpParserUpgrade):
            self._parser.feed_data(data)
        del self._parser

    def check(self) -> None:
        """Raise :class:`NotHttp` if the headers cannot be read safely."""
        if len(self.headers) > MAX_HEADERS:
            raise NotHttp("too many headers")
        for name, value in self.headers:
            if name.lower() == _TRANSFER_ENCODING and value.lower() != _CHUNKED:
                raise NotHttp("an unsupported transfer encoding")

    def coding(self) -> bytes | None:
        """The value of Content-Encoding; several lines are joined."""
        values = [value for name, value in self.headers if name.lower() == _CONTENT_ENCODING]
        return b", ".join(values) if values else None

    def on_message_begin(self) -> None:
        self.phrase = b""
        self.headers.clear()

    def on_status(self, phrase: bytes) -> None:
        self.phrase += phrase

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        if self._parser.get_status_code() >= 200:
            self.version = self._parser.get_http_version()
            raise _EndOfHead


def _reason(error: Exception) -> NotHttp:
    """The error that llhttp or one of the callbacks found."""
    cause = error.__context__
    return cause if isinstance(cause, NotHttp) else NotHttp(str(error))
