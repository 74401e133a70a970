"""Parse HTTP/1.1 requests strictly: a request that two parsers could read differently is refused.

Theory of operation. llhttp (through ``httptools``) parses headers and chunks, in its strict mode.
Request lines are parsed here, because llhttp knows only some methods and does not report the
version; a body with a length needs no parser. Each head gets a new parser (0.4 us), so that nothing
of one message can leak into the next. There is no I/O here: bytes in, values out.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from types import SimpleNamespace
from typing import NoReturn, TypeAlias

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser
from msgspec import Struct

#: Bytes of the request line and headers with all line ends. The limit also applies to the bytes
#: between two pieces of a chunked body (sizes, extensions, trailers).
MAX_HEAD_BYTES = 16 * 1024
MAX_HEADERS = 500
#: Ends a head, and a chunked body with its trailers.
END_OF_HEAD = b"\r\n\r\n"
_LINE_END = b"\r\n"
#: Bytes of a chunked body that llhttp gets in one call, and the number of calls and chunks after
#: which the rest waits for the next turn: 64 KiB of one-byte chunks would take more than 10 ms.
_PIECE_BYTES = 8192
_MOST_EVENTS = 500

# RFC 9112 section 3. llhttp also accepts two spaces, HTTP/0.9, HTTP/2.0 and RTSP, and refuses
# methods that it does not know.
_REQUEST_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+) ([!-~]+) (HTTP/1\.[01])")
#: Passed to llhttp instead of the real request line.
_ANY_REQUEST_LINE = b"POST / HTTP/1.1\r\n"
_ABSOLUTE_FORM = re.compile(rb"https?://([^/?#]*)", re.IGNORECASE)
# RFC 3986 section 3.2.2 and 3.2.3; it may be empty.
_HOST = re.compile(rb"[A-Za-z0-9._~!$&'()*+,;=%:\[\]-]*")
_CLOSE = re.compile(rb"(?:^|[,\s])close(?:$|[,\s])", re.IGNORECASE)
#: Headers with a client's token.
CREDENTIALS = frozenset({b"authorization", b"x-api-key", b"x-goog-api-key"})
_JOINED = CREDENTIALS | {b"connection"}
_ONLY_ONCE = frozenset({b"host", b"content-length", b"transfer-encoding"})
_CHUNKED_HEAD = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"


class MalformedRequest(Exception):
    """The bytes are not HTTP/1.1, or ambiguous."""


class RequestHead(Struct, gc=False):
    """Request line and headers of one request.

    ``target`` is in origin form (``/path?query``) or ``*``; ``path`` is the target without its
    query. ``authority`` comes from a target in absolute form and replaces Host in ``values``.
    ``headers`` are the bytes behind the request line; ``values`` holds the last value of each
    header by its name in lower case. ``length`` is that of the body, ``None`` for a chunked one.
    ``persistent`` tells whether the connection may serve another request, ``expects_continue``
    whether the client waits for 100 Continue before it sends the body.
    """

    method: bytes
    target: bytes
    path: bytes
    version: bytes
    authority: bytes | None
    headers: bytes
    values: dict[bytes, bytes]
    length: int | None
    persistent: bool
    expects_continue: bool

    def __repr__(self) -> str:
        return "<RequestHead>"  # The default repr of a Struct would contain the client's token.

    @property
    def fields(self) -> list[tuple[bytes, bytes]]:
        """All headers in order, with names and values as the client wrote them."""
        return _fields(self.headers)


def read_head(data: bytes) -> RequestHead:
    """Parse one head, its empty line included. Raises :class:`MalformedRequest`."""
    if len(data) > MAX_HEAD_BYTES:
        raise MalformedRequest("head too large")
    line, _, headers = data.partition(_LINE_END)
    found: dict[bytes, bytes] = {}
    # A method of the dict itself: llhttp's calls enter no Python code.
    _parse_headers(found.__setitem__, headers)
    values = {name.lower(): value.rstrip() for name, value in found.items()}
    method, target, path, version, authority = _parse_request_line(line)
    # Each header ends its line, and the empty line follows; another number means that one repeats.
    if len(values) != headers.count(b"\n") - 1:
        values = _merge_repeated(_fields(headers))
    elif len(values) > MAX_HEADERS:
        raise MalformedRequest("too many headers")
    length, persistent, expects_continue = _interpret(values, version, authority)
    return RequestHead(
        method,
        target,
        path,
        version,
        authority,
        headers,
        values,
        length,
        persistent,
        expects_continue,
    )


def guess_head(data: bytes) -> tuple[bytes, dict[bytes, bytes]]:
    """Return the target and the headers of a request that may be malformed, as far as it is read.

    Only for the choice of the dialect in which it is refused.
    """
    line, *fields = data[:MAX_HEAD_BYTES].lstrip(b"\r\n").split(b"\n")
    words = line.split(b" ")
    headers = dict.fromkeys((each.partition(b":")[0].lower() for each in fields), b"")
    return words[1] if len(words) > 1 else b"", headers


@lru_cache(maxsize=64)  # Most requests have one of a few request lines.
def _parse_request_line(line: bytes) -> tuple[bytes, bytes, bytes, bytes, bytes | None]:
    """Return method, target, path, version, and the authority of a target in absolute form."""
    match = _REQUEST_LINE.fullmatch(line)
    if match is None:
        raise MalformedRequest("request line")
    method, target, version = match.groups()
    if method == b"CONNECT":
        raise MalformedRequest("no tunnels here")  # Only CONNECT uses this form.
    target, authority = _origin_form(target)
    return method, target, target.partition(b"?")[0], version, authority


def _parse_headers(on_header: Callable[[bytes, bytes], None], headers: bytes) -> None:
    """Let llhttp parse ``headers`` and call ``on_header`` for each."""
    try:
        HttpRequestParser(SimpleNamespace(on_header=on_header)).feed_data(
            _ANY_REQUEST_LINE + headers
        )
    except HttpParserUpgrade:
        pass  # A server may ignore Upgrade (RFC 9110 section 7.8).
    except HttpParserError as error:
        raise MalformedRequest(str(error)) from error


def _fields(headers: bytes) -> list[tuple[bytes, bytes]]:
    fields: list[tuple[bytes, bytes]] = []
    # llhttp does not strip spaces at the end of a value.
    _parse_headers(lambda name, value: fields.append((name, value.rstrip())), headers)
    return fields


def _interpret(
    values: dict[bytes, bytes], version: bytes, authority: bytes | None
) -> tuple[int | None, bool, bool]:
    """Return what the headers say about body and connection: see :class:`RequestHead`.

    These are ``length``, ``persistent`` and ``expects_continue``. Host is set to ``authority``.
    """
    get, is_current = values.get, version == b"HTTP/1.1"
    host = get(b"host")
    if host is None:
        if is_current:
            raise MalformedRequest("no Host")  # RFC 9112 section 3.2
    elif not _is_host(host):
        raise MalformedRequest("Host")
    if authority is not None:
        values[b"host"] = authority
    length: int | None
    encoding = get(b"transfer-encoding")
    if encoding is None:
        # llhttp has refused two lengths, a length beside an encoding, and what is not a number.
        length = int(get(b"content-length", b"").lstrip(b"0") or 0)
    # No other coding is supported. HTTP/1.0 has none, so that a proxy before us may have ignored
    # the header (RFC 9112 section 6.1).
    elif encoding.lower() == b"chunked" and is_current:
        length = None
    else:
        raise MalformedRequest("Transfer-Encoding")
    connection = get(b"connection")
    persistent = is_current and (connection is None or not _CLOSE.search(connection))
    expected = get(b"expect")
    expects = expected is not None and is_current and expected.lower() == b"100-continue"
    return length, persistent, expects


@lru_cache(maxsize=64)
def _is_host(value: bytes) -> bool:
    return _HOST.fullmatch(value) is not None


def _merge_repeated(fields: list[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """Return values by name where some came more than once.

    The last one counts, but those of Connection are joined, and some must not be repeated. Two
    credentials that differ are joined as well, so that neither of them is accepted.
    """
    if len(fields) > MAX_HEADERS:
        raise MalformedRequest("too many headers")
    values: dict[bytes, bytes] = {}
    for field, value in fields:
        name = field.lower()
        if name in _ONLY_ONCE and name in values:
            raise MalformedRequest("repeated header")
        before = values.get(name) if name in _JOINED else None
        if before is None or (before == value and name in CREDENTIALS):
            values[name] = value
        else:
            values[name] = before + b"," + value
    return values


def _origin_form(target: bytes) -> tuple[bytes, bytes | None]:
    """Return ``target`` in origin form, and the authority if it was in absolute form.

    RFC 9112 section 3.2.2: a server accepts the absolute form as well, and then ignores Host.
    RFC 9110 section 4.2: the authority has a host and no user.
    """
    if target.startswith(b"/") or target == b"*":
        return target, None
    absolute = _ABSOLUTE_FORM.match(target)
    if absolute is None or not _is_host(absolute[1]):
        raise MalformedRequest("request target")
    rest = target[absolute.end() :]
    return rest if rest.startswith(b"/") else b"/" + rest, absolute[1]


class SizedBody:
    """A body of ``length`` bytes, which are passed to ``write`` piece by piece.

    ``size`` is how many were received, ``complete`` whether that is all of them.
    """

    has_more = False

    def __init__(self, length: int, write: Callable[[bytes], object]) -> None:
        self.size = 0
        self.complete = length == 0
        self._length = length
        self._write = write

    def receive(self, data: bytes) -> int:
        """Take the body's bytes from the start of ``data``. Returns how many they are."""
        missing = self._length - self.size
        taken = min(missing, len(data))
        self._write(data if taken == len(data) else data[:taken])
        self.size += taken
        self.complete = taken == missing
        return taken


class ChunkedBody:
    """A chunked body, whose data is passed to ``write`` piece by piece; trailers are dropped.

    ``size`` is how many bytes of data were received, ``complete`` whether the end was.
    """

    def __init__(self, write: Callable[[bytes], object]) -> None:
        # A parser refers to its listener: if that were this object, the cycle would keep the data
        # in memory until the garbage collector runs.
        self._chunks = _Chunks(write)
        #: Whether :meth:`receive` stopped early because the rest would have taken too long.
        self.has_more = False
        self._parser = HttpRequestParser(self._chunks)
        self._parser.feed_data(_CHUNKED_HEAD)

    @property
    def size(self) -> int:
        return self._chunks.size

    @property
    def complete(self) -> bool:
        return self._chunks.complete

    def receive(self, data: bytes) -> int:
        """Parse from the start of ``data``. Returns how many bytes were consumed.

        The other bytes are behind the body, or must be passed again together with later ones.
        Raises :class:`MalformedRequest`.
        """
        # Only an empty line can end the body. llhttp gets the bytes behind an empty line only after
        # it has reported whether the body ended there, so that they are never read as a part of it.
        read = 0
        chunks, self.has_more = self._chunks, False
        chunks.events = 0
        while not self.complete:
            end = data.find(END_OF_HEAD, read) + len(END_OF_HEAD)
            if end < len(END_OF_HEAD):
                end = len(data) - _begun_end(data)
            if end <= read:
                break
            while read < end:
                if chunks.events > _MOST_EVENTS:
                    self.has_more = True
                    return read
                piece = data[read : min(end, read + _PIECE_BYTES)]
                if read + len(piece) < end:
                    piece = piece[: len(piece) - _begun_end(piece)]
                self._feed(piece)
                read += len(piece)
        return read

    def _feed(self, piece: bytes) -> None:
        self._chunks.events += 1
        self._chunks.frame_bytes += len(piece)
        try:
            self._parser.feed_data(piece)
        except (HttpParserError, HttpParserUpgrade) as error:
            raise MalformedRequest(str(error)) from error
        if self._chunks.frame_bytes > MAX_HEAD_BYTES:
            raise MalformedRequest("too much between two chunks")


class _Chunks:
    """llhttp's callbacks for a chunked body."""

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self.size = 0
        self.complete = False
        self.frame_bytes = 0
        #: Calls of llhttp and chunks found, as a measure of work.
        self.events = 0
        self._write = write

    def on_message_begin(self) -> None:
        # Reached only if llhttp reports an end without an empty line.
        if self.complete:
            _refuse_second_message()

    def on_body(self, data: bytes) -> None:
        self.frame_bytes = 0
        self.events += 1
        self.size += len(data)
        self._write(data)

    def on_message_complete(self) -> None:
        self.complete = True


Body: TypeAlias = SizedBody | ChunkedBody


def _refuse_second_message() -> NoReturn:
    raise MalformedRequest("a message within a message")


def _begun_end(data: bytes) -> int:
    """Return how many bytes at the end of ``data`` may begin an empty line."""
    for size in (3, 2, 1):
        if data.endswith(END_OF_HEAD[:size]):
            return size
    return 0
