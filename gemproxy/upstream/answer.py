"""One HTTP answer as llhttp reads it off the wire.

The parser's callbacks only take notes: nobody else's code runs inside llhttp. Whoever carries the
answer looks at the notes after each read of the socket. A parser serves one answer, so that
nothing of one answer can end up in the next.

Nearly nobody asks for the headers of an answer that went well. So llhttp frames it without handing
them out, and reads the head a second time for whoever does ask.
"""

from __future__ import annotations

import re
from contextlib import suppress

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
_CONTENT_ENCODING = b"content-encoding"
_H = ord("H")
#: A head in which :meth:`Head.check` would find nothing: a final answer's, the only line that
#: begins with a T is the one that is allowed, and none tells of a content coding. Whatever else
#: there is, is for the parser to judge.
_USUAL_HEAD = re.compile(
    rb"HTTP/1\.1 [2-5][^\n]*+"
    rb"(?:\n(?:[^\r\nTtCc]|[Cc](?!(?i:ontent-encoding)))[^\n]*+){0,200}+"
    rb"(?:\n[Tt]ransfer-[Ee]ncoding: chunked\r"
    rb"(?:\n(?:[^\r\nTtCc]|[Cc](?!(?i:ontent-encoding)))[^\n]*+){0,200}+)?+"
    rb"\n\r\n"
)


class NotHttp(ParseError):
    """What came is no HTTP answer, or none that can be read safely."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason, b"")


class Answer:
    """What has come of one answer. ``feed`` writes it; whoever wants the body calls ``take``."""

    __slots__ = (
        "_fruitless",
        "_head",
        "_head_bytes",
        "_parser",
        "_turns",
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
        #: Whether anything has come, be it an interim answer.
        self.begun = False
        #: 0 until all headers of the final answer are here.
        self.status = 0
        #: The value of Content-Encoding, where there is one.
        self.coding: bytes | None = None
        #: What has come of the body and was not taken.
        self.pieces: list[bytes] = []
        self.complete = False
        #: Whether another request may follow on the same connection.
        self.keep_alive = False
        #: llhttp's callback for a piece of the body.
        self.on_body = self.pieces.append
        # A message's beginning and its end take one of these each, so that none are left at the
        # answer's end, and what would begin another message then fails.
        self._turns = [None, None]
        self.on_message_begin = self.on_message_complete = self._turns.pop
        self._fruitless = 0
        # As it came, and perhaps what came with it.
        self._head_bytes = b""
        self._head: Head | None = None
        self._parser: HttpResponseParser | None = HttpResponseParser(self)

    def feed(self, data: bytes) -> None:
        """Read on. Raises :class:`NotHttp`; what was understood before it stands."""
        parser = self._parser
        if parser is None:
            raise NotHttp("data after the answer's end")
        if not self.status:
            self.begun = True
            self._head_bytes = head = self._head_bytes + data if self._head_bytes else data
            # llhttp would also take RTSP, ICE and blank lines.
            if head[0] != _H:
                raise NotHttp("the answer does not begin with HTTP")
        try:
            parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade) as error:
            self._parser = None
            if self._turns:
                raise _reason(error) from None
            self.keep_alive = False
        if not self._turns:
            self.complete = True
            self._parser = None
        elif self.pieces:
            if not self.status:
                raise NotHttp("an interim answer with a body")
            self._fruitless = 0
        else:
            self._fruitless += len(data)
            if self._fruitless > MAX_OVERHEAD_BYTES:
                raise NotHttp("too much that is no body")

    def take(self) -> bytes:
        """What has come of the body since the last time."""
        pieces = self.pieces
        if len(pieces) == 1:
            return pieces.pop()
        data = b"".join(pieces)
        pieces.clear()
        return data

    def end(self) -> None:
        """All has come: the answer's end, or that of a connection which is the body's end."""
        self.complete = True
        self._parser = None

    # -- the head, for those who ask -------------------------------------------------------------

    @property
    def head(self) -> Head:
        """Status line and headers, as far as they have come."""
        head = self._head
        if head is None:
            head = Head(self._head_bytes)
            if self.status:
                self._head = head
        return head

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """Names and values as they came; no trailers."""
        return self.head.headers

    def header(self, name: bytes) -> bytes | None:
        """The last value of ``name``, which is in lower case."""
        for each, value in reversed(self.headers):
            if each.lower() == name:
                return value
        return None

    @property
    def length(self) -> int | None:
        """The body's length where it is known beforehand."""
        if self.status in _WITHOUT_BODY:
            return 0
        length = self.header(_CONTENT_LENGTH)
        return None if length is None else int(length.lstrip(b"0") or 0)

    @property
    def ends_with_connection(self) -> bool:
        """Whether nothing but the connection's end tells the body's."""
        return self.status != 0 and self.length is None and self.header(_TRANSFER_ENCODING) is None

    # -- llhttp's callback; what it raises ends the reading --------------------------------------

    def on_headers_complete(self) -> None:
        parser = self._parser
        if parser is None:
            return
        status = parser.get_status_code()
        if self.pieces:
            raise NotHttp("an interim answer with a body")
        if status < 200:
            if status < 100 or status == 101:
                raise NotHttp("a status that nobody asked for")
            # Its end is to come, and then the beginning of another.
            self._turns += [None, None]
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
    """The rest is not the head's."""


class Head:
    """Status line and headers of the final answer in ``data``, or of the last one before it."""

    def __init__(self, data: bytes) -> None:
        self.version = ""
        self.phrase = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self._parser = HttpResponseParser(self)
        # At the head's end it stops, or where the answer was found to be none.
        with suppress(HttpParserError, HttpParserUpgrade):
            self._parser.feed_data(data)
        del self._parser

    def check(self) -> None:
        """Raise :class:`NotHttp` where the headers are not to be trusted."""
        if len(self.headers) > MAX_HEADERS:
            raise NotHttp("more headers than anybody needs")
        for name, value in self.headers:
            if name.lower() == _TRANSFER_ENCODING and value.lower() != _CHUNKED:
                raise NotHttp("a transfer encoding that nobody asked for")

    def coding(self) -> bytes | None:
        """What Content-Encoding says, which may say it in several lines."""
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
    """What llhttp found, or one of the callbacks."""
    cause = error.__context__
    return cause if isinstance(cause, NotHttp) else NotHttp(str(error))
