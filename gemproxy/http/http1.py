"""Requests off the wire, read strictly: what two readers could take in two ways is refused.

llhttp (by ``httptools``) reads headers and chunks, with none of its leniencies; request lines are
read here, since llhttp knows neither all methods nor one version from another, and of a body with
a length nothing needs reading. Each head gets a parser of its own, for 0.4 us, so that no message
leaves anything over for the next one.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import NoReturn, TypeAlias

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser
from msgspec import Struct

#: Request line and headers together, with all line ends; also what may stand between two pieces
#: of a chunked body (sizes, extensions, trailers).
MAX_HEAD_BYTES = 16 * 1024
MAX_HEADERS = 500
#: What ends a head, and a chunked body with its trailers.
END_OF_HEAD = b"\r\n\r\n"
_LINE_END = b"\r\n"
#: So much of a chunked body is shown to llhttp at once, and after so many pieces and chunks the
#: rest has to wait: 64 KiB of chunks of a byte would take 10 ms and more.
_PIECE_BYTES = 8192
_MOST_EVENTS = 500

# RFC 9112 section 3; llhttp would take two blanks, HTTP/0.9, HTTP/2.0 and RTSP as well, and refuse
# methods of which it has not heard.
_REQUEST_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+) ([!-~]+) (HTTP/1\.[01])")
#: Shown to llhttp in the place of the one that came.
_ANY_REQUEST_LINE = b"POST / HTTP/1.1\r\n"
_ABSOLUTE_FORM = re.compile(rb"https?://([^/?#]*)", re.IGNORECASE)
# RFC 3986 section 3.2.2 and 3.2.3; it may be empty.
_HOST = re.compile(rb"[A-Za-z0-9._~!$&'()*+,;=%:\[\]-]*")
_CLOSE = re.compile(rb"(?:^|[,\s])close(?:$|[,\s])", re.IGNORECASE)
_ONLY_ONCE = frozenset({b"host", b"content-length", b"transfer-encoding"})
_CHUNKED_HEAD = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"


class MalformedRequest(Exception):
    """What came is not HTTP/1.1, or says two things at once."""


class RequestHead(Struct, gc=False):
    """Request line and headers of one request.

    ``target`` has origin form (``/path?query``) or is ``*``, ``path`` is it without the query.
    ``authority`` stood in a target of absolute form, and then in ``values`` in the place of Host.
    ``headers`` is what follows the request line, as it came, ``values`` the last value of each
    header by its name in lower case. ``length`` is the body's, ``None`` where it comes in chunks.
    ``persistent`` tells whether the connection may serve another request, ``expects_continue``
    whether the client waits for leave to send the body.
    """

    method: bytes
    target: bytes
    path: bytes
    version: bytes
    authority: bytes | None
    headers: bytes
    values: dict[bytes, bytes]
    length: int | None = 0
    persistent: bool = False
    expects_continue: bool = False
    #: Whether a header came more than once.
    repeats: bool = False

    def __repr__(self) -> str:
        return "<RequestHead>"  # Not a Struct's, which would print the client's token.

    @property
    def fields(self) -> list[tuple[bytes, bytes]]:
        """All headers, names and values as they came."""
        every = _Fields([])
        _show(every, self.headers)
        return every.fields

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called by llhttp."""
        name = name.lower()
        if name in self.values:
            self.repeats = True
        self.values[name] = value.rstrip()


class _Fields(Struct):
    fields: list[tuple[bytes, bytes]]

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called by llhttp, which leaves blanks behind a value where they are."""
        self.fields.append((name, value.rstrip()))


def read_head(data: bytes) -> RequestHead:
    """Read one head, up to and with its empty line. Raises :class:`MalformedRequest`."""
    if len(data) > MAX_HEAD_BYTES:
        raise MalformedRequest("head too large")
    line, _, headers = data.partition(_LINE_END)
    head = RequestHead(*_asked_for(line), headers, {})
    _show(head, headers)
    if head.repeats:
        head.values = _gathered(head.fields)
    elif len(head.values) > MAX_HEADERS:
        raise MalformedRequest("too many headers")
    _understand(head)
    return head


@lru_cache(maxsize=64)  # Clients ask for the same things again and again.
def _asked_for(line: bytes) -> tuple[bytes, bytes, bytes, bytes, bytes | None]:
    """Method, target, path and version of a request line, and the authority that it names."""
    match = _REQUEST_LINE.fullmatch(line)
    if match is None:
        raise MalformedRequest("request line")
    method, target, version = match.groups()
    if method == b"CONNECT":
        raise MalformedRequest("no tunnels here")
    target, authority = _origin_form(target)
    return method, target, target.partition(b"?")[0], version, authority


def _show(listener: RequestHead | _Fields, headers: bytes) -> None:
    """Let llhttp read ``headers`` and tell ``listener`` of each."""
    try:
        HttpRequestParser(listener).feed_data(_ANY_REQUEST_LINE + headers)
    except HttpParserUpgrade:
        pass  # Not followed, as a server may (RFC 9110 section 7.8); the request stands as it is.
    except HttpParserError as error:
        raise MalformedRequest(str(error)) from error


def _understand(head: RequestHead) -> None:
    """Fill in what the headers mean for the connection."""
    get, is_current = head.values.get, head.version == b"HTTP/1.1"
    host = get(b"host")
    if host is None:
        if is_current:
            raise MalformedRequest("no Host")  # RFC 9112 section 3.2
    elif not _is_host(host):
        raise MalformedRequest("Host")
    if head.authority is not None:
        head.values[b"host"] = head.authority
    encoding = get(b"transfer-encoding")
    if encoding is None:
        # llhttp refused two lengths, a length beside an encoding, and what is no number.
        head.length = int(get(b"content-length", b"").lstrip(b"0") or 0)
    # No other coding is undone here; and HTTP/1.0 knows none, so that a reader before us may have
    # overlooked it (RFC 9112 section 6.1).
    elif encoding.lower() == b"chunked" and is_current:
        head.length = None
    else:
        raise MalformedRequest("Transfer-Encoding")
    connection = get(b"connection")
    head.persistent = is_current and (connection is None or not _CLOSE.search(connection))
    expected = get(b"expect")
    head.expects_continue = (
        expected is not None and is_current and expected.lower() == b"100-continue"
    )


@lru_cache(maxsize=64)
def _is_host(value: bytes) -> bool:
    return _HOST.fullmatch(value) is not None


def _gathered(fields: list[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """Values by name where some came more than once: most may, some must not, and one adds up."""
    if len(fields) > MAX_HEADERS:
        raise MalformedRequest("too many headers")
    values: dict[bytes, bytes] = {}
    for field, value in fields:
        name = field.lower()
        if name in _ONLY_ONCE and name in values:
            raise MalformedRequest("repeated header")
        before = values.get(name) if name == b"connection" else None
        values[name] = value if before is None else before + b"," + value
    return values


def _origin_form(target: bytes) -> tuple[bytes, bytes | None]:
    """``target`` in origin form, and the authority of one that has absolute form.

    RFC 9112 section 3.2.2: a server takes the absolute form as well, and then does not look at
    Host. RFC 9110 section 4.2: the authority has a host and no user.
    """
    if target.startswith(b"/") or target == b"*":
        return target, None
    absolute = _ABSOLUTE_FORM.match(target)
    if absolute is None or not _is_host(absolute[1]):
        raise MalformedRequest("request target")
    rest = target[absolute.end() :]
    return rest if rest.startswith(b"/") else b"/" + rest, absolute[1]


class SizedBody:
    """A body of ``length`` bytes, which go to ``write`` piece by piece.

    ``size`` counts them, ``complete`` tells whether all were there.
    """

    has_more = False

    def __init__(self, length: int, write: Callable[[bytes], object]) -> None:
        self.size = 0
        self.complete = length == 0
        self._length = length
        self._write = write

    def receive(self, data: bytes) -> int:
        """Take from the start of ``data`` what belongs to the body; gives how much that is."""
        missing = self._length - self.size
        taken = min(missing, len(data))
        self._write(data if taken == len(data) else data[:taken])
        self.size += taken
        self.complete = taken == missing
        return taken


class ChunkedBody:
    """A body in chunks, whose data goes to ``write`` piece by piece; trailers are dropped.

    ``size`` counts the data, ``complete`` tells whether the end was there.
    """

    def __init__(self, write: Callable[[bytes], object]) -> None:
        # A parser refers to its listener: were that this object, both and all that was written
        # would stay in memory until the garbage collector comes.
        self._chunks = _Chunks(write)
        #: Whether :meth:`receive` left something for later, since it would have taken too long.
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
        """Read from the start of ``data``; gives how many bytes were read and are done with.

        The rest stands behind the body, or is to be shown again with what comes after it. Raises
        :class:`MalformedRequest`.
        """
        # Only an empty line can end the body, and nothing behind one is shown to llhttp before it
        # is known whether it did: so what stands behind the body is never taken for a part of it.
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
    """What llhttp tells of a body in chunks."""

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self.size = 0
        self.complete = False
        self.frame_bytes = 0
        #: Pieces shown and chunks found, as a measure of work.
        self.events = 0
        self._write = write

    def on_message_begin(self) -> None:
        # Not to be reached, unless llhttp finds an end where no empty line is.
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
    """How many bytes at the end of ``data`` may be the beginning of an empty line."""
    for size in (3, 2, 1):
        if data.endswith(END_OF_HEAD[:size]):
            return size
    return 0
