"""Cut a native stream into its events without changing a byte.

Google streams in two forms: as server-sent events with ``alt=sse``, else as one JSON array that
comes in pieces. The decoders here return the bytes of whole events, with what stands between them,
so that joined they are the body again. A client may then get a comment between two events, and an
event is looked at before it is passed on. :func:`payloads` and :func:`element` return the JSON.
"""

from __future__ import annotations

import re

from gemproxy.core.errors import FailureKind, UpstreamFailed
from gemproxy.providers.gemini.wire.sse import (
    DEFAULT_MAX_EVENT_BYTES,
    MAX_IDLE_BYTES,
    EventStreamDecoder,
)

_DATA = b"data:"
_PREFIX = b"data: "
_USUAL_END = b"\r\n\r\n"
#: Two line ends. Atomic, since CRLF is one line end and not two.
_BLANK_LINE = re.compile(rb"(?>\r\n|\n|\r){2}")
#: The longest match of it but one: a blank line may begin that far before the end of a read.
_OVERLAP = 3
_ERROR = b'"error"'
_LF, _CR = b"\n\r"
_BETWEEN_ELEMENTS = b"[, \t\r\n"


class _Pieces:
    """Pieces of an unfinished event, joined once, at its end."""

    __slots__ = ("_max_bytes", "_pieces", "_size")

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._pieces: list[bytes] = []
        self._size = 0

    @property
    def is_begun(self) -> bool:
        """Whether an event has begun."""
        return self._size > 0

    def add(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._size > self._max_bytes:
            raise UpstreamFailed(FailureKind.TOO_LARGE)
        if piece:
            self._pieces.append(piece)

    def take(self, last: bytes = b"") -> bytes:
        """Return everything, and ``last``."""
        self._pieces.append(last)
        whole = b"".join(self._pieces)
        self._pieces.clear()
        self._size = 0
        return whole

    def close(self) -> list[bytes]:
        """Return what the body left unfinished."""
        rest = self.take()
        return [rest] if rest else []


class RawEventDecoder:
    """Cuts server-sent events; each result ends with a blank line, the last one perhaps not.

    A result may be several events, if none of them is an error.
    """

    __slots__ = ("_end", "_held", "_idle", "close")

    def __init__(self, max_event_bytes: int = DEFAULT_MAX_EVENT_BYTES) -> None:
        self._held = _Pieces(max_event_bytes)
        #: Line ends at the end of what is held: a blank line may have begun.
        self._end = b""
        self._idle = 0  # bytes of other lines than data, since the last event
        self.close = self._held.close

    def receive(self, data: bytes) -> list[bytes]:
        """Return the events that ``data`` completes. Raises :class:`UpstreamFailed`."""
        if data[-4:] == _USUAL_END and data[:5] == _DATA and self._is_between_events():
            # Most reads of a stream are whole events. Only an error has to stand alone, because
            # what comes before it is passed on.
            return [data] if _ERROR not in data else _divided(data)
        known = len(self._end)
        text = self._end + data
        events, begin = [], 0
        for match in _BLANK_LINE.finditer(text):
            end = match.end() - known
            events.append(self._held.take(data[begin:end]))
            begin = end
        rest = data[begin:]
        self._held.add(rest)
        line_ends = (rest if events else text)[-_OVERLAP:]
        self._end = line_ends[len(line_ends.rstrip(b"\r\n")) :]
        for event in events:
            self._count_idle(event)
        return events

    def _is_between_events(self) -> bool:
        self._idle = 0
        return not self._end and not self._held.is_begun

    def _count_idle(self, event: bytes) -> None:
        self._idle = 0 if _DATA in event else self._idle + len(event)
        if self._idle > MAX_IDLE_BYTES:
            raise UpstreamFailed(
                FailureKind.GARBAGE, detail=f"{MAX_IDLE_BYTES} bytes without an event"
            )


def _divided(events: bytes) -> list[bytes]:
    return [event + _USUAL_END for event in events.split(_USUAL_END)[:-1]]


#: The rest of a string, up to its end or the end of the bytes; a backslash at the end is left.
_IN_STRING = re.compile(rb'(?:[^"\\]++|\\.)*+', re.DOTALL)
_STRUCTURE = re.compile(rb'["{}\[\]]')
_QUOTE, _OPEN_BRACE, _CLOSE_BRACE, _OPEN_BRACKET, _CLOSE_BRACKET = b'"{}[]'


class RawArrayDecoder:
    """Cuts a JSON array of objects; each result ends with an element, the last with the array.

    A single object in place of an array is one result.
    """

    __slots__ = ("_depth", "_escape", "_held", "_in_string", "_is_array", "close")

    def __init__(self, max_event_bytes: int = DEFAULT_MAX_EVENT_BYTES) -> None:
        self._held = _Pieces(max_event_bytes)
        self._in_string = False
        #: Whether the last byte was a backslash in a string, whose meaning the next byte decides.
        self._escape = False
        self._is_array = False
        self._depth = 0
        self.close = self._held.close

    def receive(self, data: bytes) -> list[bytes]:
        """Return the elements that ``data`` completes. Raises :class:`UpstreamFailed`."""
        elements, begin, place = [], 0, 0
        if self._escape and data:
            self._escape = False
            place = 1
        while place < len(data):
            if self._in_string:
                match = _IN_STRING.match(data, place)
                place = match.end() if match is not None else place
                self._in_string = place == len(data) or data[place] != _QUOTE
                self._escape = self._in_string and place < len(data)
                place += 1
                continue
            found = _STRUCTURE.search(data, place)
            if found is None:
                break
            place = found.end()
            if self._take(data[found.start()]):
                elements.append(self._held.take(data[begin:place]))
                begin = place
        self._held.add(data[begin:])
        return elements

    def _take(self, character: int) -> bool:
        """Note a character of the structure; return whether it ends an element."""
        if character == _QUOTE:
            self._in_string = True
        elif character in (_OPEN_BRACE, _OPEN_BRACKET):
            self._is_array = self._is_array or (not self._depth and character == _OPEN_BRACKET)
            self._depth += 1
        else:
            self._depth -= 1
            return character == _CLOSE_BRACE and self._depth == self._is_array
        return False


def payloads(event: bytes) -> list[bytes]:
    """Return the JSON texts of one result of :class:`RawEventDecoder`; none for a comment."""
    if event[:6] == _PREFIX and event[-4:] == _USUAL_END:
        payload = event[6:-4]
        if _LF not in payload and _CR not in payload:
            return [payload]
    decoder = EventStreamDecoder()
    return [*decoder.receive(event), *decoder.close()]


def element(event: bytes) -> bytes:
    """Return the JSON text of one element of an array; empty for the array's end."""
    return event.lstrip(_BETWEEN_ELEMENTS).rstrip(b"] \t\r\n")
