"""Decode Google's server-sent events from a body that arrives in pieces.

The native stream frames each event as ``data: {json}`` CRLF CRLF, without other fields and without
a terminator. The decoder follows the HTML standard (section 9.2.6, "Interpreting an event stream")
with two additions for Google: an unfinished event at the end of the body is returned too, and an
error may be sent between the events as bare, pretty-printed JSON without ``data:`` (recording
``error_499_midstream``).

Bytes are split on CR, LF and CRLF only. Python's ``str.splitlines`` also splits on U+2028, which
JSON may contain unescaped.
"""

from __future__ import annotations

from gemproxy.core.errors import FailureKind, UpstreamFailed

DEFAULT_MAX_EVENT_BYTES = 32 * 1024 * 1024
#: Limit of bytes outside events; a gateway's heartbeat comment has about ten bytes.
MAX_IDLE_BYTES = 1024 * 1024
_LINE_OVERHEAD = 48

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_PREFIX = b"data: "
# ``in`` with a number is one C call; with bytes, it first fails to convert them to a number.
_LF, _CR = b"\n\r"


class EventStreamDecoder:
    """Takes bytes, returns the payloads of complete events.

    One event may have at most ``max_event_bytes``, so that an upstream cannot fill the memory:
    beyond it :exc:`UpstreamFailed` is raised with :attr:`FailureKind.TOO_LARGE`. Each line counts
    as some bytes more than it has, for the memory of its object. After a megabyte of comments,
    blank lines and other fields without an event, the kind is :attr:`FailureKind.GARBAGE`.
    """

    __slots__ = (
        "_after_cr",
        "_at_start",
        "_between_events",
        "_fragments",
        "_held",
        "_idle",
        "_lines",
        "_max_event_bytes",
        "_raw",
    )

    def __init__(self, max_event_bytes: int = DEFAULT_MAX_EVENT_BYTES) -> None:
        self._max_event_bytes = max_event_bytes
        self._fragments = bytearray()  # of a line whose end has not come
        self._lines: list[bytes] = []  # of the event that is under way
        self._held = 0  # bytes in both
        self._idle = 0  # bytes of lines of no event, since the last event
        self._raw = False  # the event under way is bare JSON
        self._after_cr = False  # a LF that comes next belongs to the line before it
        self._at_start = True
        self._between_events = True  # no event is unfinished, and no LF is pending

    def receive(self, data: bytes) -> list[bytes]:
        """Return the payloads of the events that ``data`` completes."""
        if self._between_events and len(data) <= self._max_event_bytes:
            whole = _whole_events(data)
            if whole is not None:
                self._at_start = False
                return whole
        payloads: list[bytes] = []
        for line in self._whole_lines(data):
            self._take(line, payloads)
        self._between_events = not (self._fragments or self._lines or self._after_cr)
        return payloads

    def close(self) -> list[bytes]:
        """Return the payload of an unfinished event at the end of the body."""
        payloads: list[bytes] = []
        if self._fragments:
            self._take(self._joined_fragments(b""), payloads)
        self._dispatch(payloads)
        return payloads

    def _whole_lines(self, data: bytes) -> list[bytes]:
        """Return the lines that ``data`` completes, without line ends; keep the rest."""
        if self._after_cr and data:
            self._after_cr = False
            data = data.removeprefix(b"\n")
        if self._at_start:
            data = self._without_byte_order_mark(data)
        if b"\n" not in data and b"\r" not in data:
            self._keep(data)
            return []
        text = self._joined_fragments(data)
        lines = text.splitlines()
        self._after_cr = text.endswith(b"\r")
        if not text.endswith((b"\r", b"\n")):
            self._keep(lines.pop())
        return lines

    def _without_byte_order_mark(self, data: bytes) -> bytes:
        data = self._joined_fragments(data)
        if len(data) < len(_BYTE_ORDER_MARK) and _BYTE_ORDER_MARK.startswith(data):
            return data
        self._at_start = False
        return data.removeprefix(_BYTE_ORDER_MARK)

    def _joined_fragments(self, data: bytes) -> bytes:
        if not self._fragments:
            return data
        self._held -= len(self._fragments)
        self._fragments += data
        text = bytes(self._fragments)
        self._fragments = bytearray()
        return text

    def _keep(self, fragment: bytes) -> None:
        if fragment:
            self._fragments += fragment
            self._hold(len(fragment))

    def _hold(self, size: int) -> None:
        self._held += size
        if self._held > self._max_event_bytes:
            raise UpstreamFailed(FailureKind.TOO_LARGE)

    def _take(self, line: bytes, payloads: list[bytes]) -> None:
        if not line:
            self._dispatch(payloads)
        elif line.startswith(b"data:"):
            if self._raw:
                self._dispatch(payloads)
            self._add(line[6:] if line[5:6] == b" " else line[5:])
        elif self._raw:
            self._add(line)
        elif line[0] in b"{[":
            # No field begins like this: it is bare JSON, up to the next blank line.
            self._dispatch(payloads)
            self._raw = True
            self._add(line)
        else:
            self._pass_over(len(line) + 1)

    def _pass_over(self, size: int) -> None:
        self._idle += size
        if self._idle > MAX_IDLE_BYTES:
            raise UpstreamFailed(
                FailureKind.GARBAGE, detail=f"{MAX_IDLE_BYTES} bytes without an event"
            )

    def _add(self, line: bytes) -> None:
        self._lines.append(line)
        self._hold(len(line) + _LINE_OVERHEAD)

    def _dispatch(self, payloads: list[bytes]) -> None:
        payload = b"\n".join(self._lines)
        held = sum(map(len, self._lines)) + _LINE_OVERHEAD * len(self._lines)
        self._held -= held
        self._lines.clear()
        self._raw = False
        if payload:
            self._idle = 0
            payloads.append(payload)
        else:
            self._pass_over(held + 1)


def _whole_events(data: bytes) -> list[bytes] | None:
    """Return the payloads if ``data`` is complete events in Google's usual framing only."""
    if data[:6] != _PREFIX:
        return None
    if data[-4:] == b"\r\n\r\n":
        payload = data[6:-4]
        if payload and _LF not in payload and _CR not in payload:
            return [payload]  # as most reads of a stream are
        payloads = payload.split(b"\r\n\r\ndata: ")
    elif data[-2:] == b"\n\n":
        payloads = data[6:-2].split(b"\n\ndata: ")
    else:
        return None
    text = b"".join(payloads)
    odd = _LF in text or _CR in text or b"" in payloads
    return None if odd else payloads
