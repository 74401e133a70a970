"""Write answers: whole ones with one write, streams with back-pressure and heartbeats."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import TYPE_CHECKING

from twisted.internet.interfaces import IReactorTime
from twisted.web.http import datetimeToString

from gemproxy.batched_writes import send
from gemproxy.buffer_list import BufferList
from gemproxy.core.errors import ProxyError
from gemproxy.http.large_answers import LARGE, LargeAnswer

if TYPE_CHECKING:
    from gemproxy.api.dialects import Dialect
    from gemproxy.core.context import RequestContext
    from gemproxy.core.interfaces import Flow
    from gemproxy.core.limits import Reservation
    from gemproxy.deadlines import Deadlines
    from gemproxy.http.request import ProxyRequest

JSON = b"application/json"
_STATUS_LINES = {
    status.value: b"HTTP/1.1 %d %b\r\n" % (status.value, status.phrase.encode("ascii"))
    for status in HTTPStatus
}
_STREAM = b"Content-Type: %b\r\nCache-Control: no-cache\r\nX-Accel-Buffering: no\r\n"
_CHUNKED = b"Transfer-Encoding: chunked\r\n"


class DateHeader:
    """The headers ``Server`` and ``Date``, made once a second. ``wall`` returns epoch time."""

    def __init__(self, wall: Callable[[], float]) -> None:
        self._wall = wall
        self._until = -math.inf
        self._line = b""

    def line(self, now: float) -> bytes:
        """Return the headers as lines; ``now`` is monotonic time."""
        if now >= self._until:
            wall = self._wall()
            self._until = now + 1.0 - wall % 1.0
            self._line = b"Server: gemproxy\r\nDate: %b\r\n" % datetimeToString(wall)
        return self._line


def lines(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return ``headers`` as they are written in a head."""
    return b"".join([b"%b: %b\r\n" % header for header in headers])


def _head(request: ProxyRequest, status: int, headers: bytes, now: float) -> bytes:
    """Return status line and headers, the empty line included."""
    return b"%b%b%b%b" % (
        _STATUS_LINES.get(status) or b"HTTP/1.1 %d Unknown\r\n" % status,
        request.channel.site.server_headers(now),
        headers,
        b"\r\n" if request.channel.persistent else b"Connection: close\r\n\r\n",
    )


def write_whole(
    request: ProxyRequest,
    status: int,
    headers: bytes,
    body: bytes,
    now: float,
    content_type: bytes = JSON,
) -> None:
    """Send a whole answer with one write, and end the request.

    ``headers`` are :func:`lines`. A 304 has the length of the body that the client has cached
    (RFC 9110 section 15.4.5).
    """
    if request._disconnected:
        return
    about_body = b"Content-Type: %b\r\nContent-Length: %d\r\n" % (content_type, len(body))
    start = _head(request, status, about_body + headers, now)
    channel = request.channel
    bodiless = request.method == b"HEAD" or status == 304
    send(channel.transport, start if bodiless else start + body)
    if request.refused:
        channel.linger()
    else:
        request.end()


class RequestWriter:
    """Writes the answer to one request; implements the core's ``ReplyWriter``.

    Every event of a stream passes :meth:`write`. ``headers`` are further :func:`lines` of every
    answer. After ``heartbeat`` seconds of silence a stream gets the heartbeat of the ``dialect``
    (0: never); after ``headers_after`` seconds without an event it gets its head and a heartbeat
    (``None``: never). ``scrub`` removes secrets from the bodies of errors. Heartbeats never split
    an event, because only whole events are written.

    ``opened`` tells whether the head is written, ``started`` whether anything of the answer is.
    """

    __slots__ = (
        "_chunked",
        "_context",
        "_deadlines",
        "_dialect",
        "_failed",
        "_flow",
        "_headers",
        "_headers_after",
        "_heartbeat",
        "_is_broken",
        "_opens_at",
        "_paused",
        "_pending",
        "_reactor",
        "_request",
        "_scrub",
        "_streaming",
        "_written_at",
        "opened",
        "started",
        "tells_key",
        "upstream_headers",
    )

    def __init__(
        self,
        reactor: IReactorTime,
        request: ProxyRequest,
        context: RequestContext,
        headers: bytes,
        heartbeat: float,
        dialect: Dialect,
        scrub: Callable[[bytes], bytes] = bytes,
        headers_after: float | None = None,
    ) -> None:
        self._reactor = reactor
        self._request = request
        self._context = context
        self._headers = headers
        self._heartbeat = heartbeat if dialect.heartbeat else 0.0
        self._dialect = dialect
        self._scrub = scrub
        self._headers_after = headers_after if dialect.heartbeat else None
        self.started = self.opened = False
        #: Whether this client may see the key's name.
        self.tells_key = False
        self._opens_at = self._written_at = 0.0
        self._flow: Flow | None = None
        self._pending = self.upstream_headers = b""
        self._paused = self._chunked = self._streaming = False
        #: Set while a deadline is watched.
        self._deadlines: Deadlines | None = None
        #: Gives the last events after an error, if the endpoint has its own.
        self._failed: Callable[[ProxyError], bytes | None] | None = None
        #: Whether the stream ends here without being complete.
        self._is_broken = False

    def headers(self, now: float) -> bytes:
        """Return the headers of this answer, with the attempts so far."""
        context = self._context
        elapsed = now - context.started
        headers = (
            b"x-request-id: %b\r\n%bopenai-processing-ms: %d\r\nx-gemproxy-attempts: %d\r\n"
            % (
                context.id.encode("ascii"),
                self._headers,
                elapsed * 1000 if elapsed > 0.0 else 0,
                len(context.attempts),
            )
        )
        id_header = self._dialect.id_header
        if id_header:
            headers += b"%b: %b\r\n" % (id_header, context.id.encode("ascii"))
        if self.tells_key and context.key_name is not None:
            headers += lines([(b"x-gemproxy-key", _header_text(context.key_name))])
        if context.reservation is not None:
            headers += self._limit_headers(context.reservation, now)
        if self.upstream_headers:
            headers += self.upstream_headers
        return headers

    def _limit_headers(self, reservation: Reservation, now: float) -> bytes:
        """Return what is left of the client's own limits."""
        context = self._context
        wall = now + context.epoch_offset
        if context.usage is not None:
            reservation.correct(context.usage.input, context.usage.output, now, wall)
        return self._dialect.limit_headers(reservation.standing(now, wall), wall)

    def answer(
        self, body: bytes | BufferList, content_type: bytes = JSON, headers: bytes = b""
    ) -> None:
        """See :class:`gemproxy.core.interfaces.ReplyWriter`. ``headers`` are further lines."""
        self.started = self.opened = True
        now = self._reactor.seconds()
        headers = self.headers(now) + headers
        if isinstance(body, BufferList):
            if len(body) > LARGE:
                self._answer_large(body, content_type, headers, now)
                return
            body = bytes(body)
        write_whole(self._request, 200, headers, body, now, content_type)

    def _answer_large(
        self, body: BufferList, content_type: bytes, headers: bytes, now: float
    ) -> None:
        request = self._request
        if request._disconnected:
            return
        about_body = b"Content-Type: %b\r\nContent-Length: %d\r\n" % (content_type, len(body))
        send(request.channel.transport, _head(request, 200, about_body + headers, now))
        if request.method == b"HEAD":
            request.end()
        else:
            LargeAnswer(self._reactor, request, body).start()

    def fail(self, error: ProxyError) -> int:
        """Write ``error`` as the whole answer, or as the last event of a stream that has begun.

        Returns the status that it has as a whole answer.
        """
        answer = self._dialect.answer(error, self._context.id)
        if not self.opened:
            self.started = self.opened = True
            self.upstream_headers = b""
            now = self._reactor.seconds()
            headers = self.headers(now) + lines(answer.headers)
            write_whole(self._request, answer.status, headers, self._scrub(answer.body), now)
        elif self._streaming:
            self.write_error(error)
            self.finish()
        return answer.status

    def write_error(self, error: ProxyError) -> None:
        """See :class:`gemproxy.core.interfaces.ReplyWriter`."""
        events = None if self._failed is None else self._failed(error)
        if events is None:
            events = self._dialect.event(error, self._context.id)
        self._is_broken = not events
        self.write(self._scrub(events))

    def begin_body(self, headers: bytes, length: int | None) -> None:
        """See :class:`gemproxy.core.interfaces.ReplyWriter`."""
        request = self._request
        self.started = self.opened = self._streaming = True
        # Nothing can be said within such a body.
        self._heartbeat = 0.0
        self._failed = _say_nothing
        self._chunked = length is None and request.clientproto == b"HTTP/1.1"
        if length is None and not self._chunked:
            request.channel.persistent = False
        now = self._reactor.seconds()
        # They are the upstream's own, which may repeat what it was sent.
        head = self._scrub(headers) + self.headers(now)
        if self._chunked:
            head += _CHUNKED
        elif length is not None:
            head += b"Content-Length: %d\r\n" % length
        self._pending = _head(request, 200, head, now)
        request.registerProducer(self, True)

    def await_stream(self) -> None:
        """See :class:`gemproxy.core.interfaces.ReplyWriter`."""
        after = self._headers_after
        if after is None:
            return
        if after > 0:
            self._opens_at = self._reactor.seconds() + after
            self._watch()
        else:
            self._open_silent()

    def begin_stream(self, failed: Callable[[ProxyError], bytes | None] | None = None) -> None:
        """Commit: status and headers are written with the first events, unless they were before.

        See :class:`gemproxy.core.interfaces.ReplyWriter`.
        """
        self.started = True
        self._failed = failed
        if not self.opened:
            self._open()

    def _open_silent(self) -> None:
        """Send the head before there is any event."""
        self._open()
        if self._heartbeat:
            self.write(self._dialect.heartbeat)
        elif not self._request._disconnected:
            send(self._request.channel.transport, self._pending)
            self._pending = b""

    def _open(self) -> None:
        """Make the head, which is sent with the next write."""
        request = self._request
        self.opened = self._streaming = True
        self._chunked = request.clientproto == b"HTTP/1.1"
        if not self._chunked:
            request.channel.persistent = False
        now = self._reactor.seconds()
        headers = _STREAM % self._dialect.media_type + self.headers(now)
        if self._chunked:
            headers += _CHUNKED
        self._pending = _head(request, 200, headers, now)
        request.registerProducer(self, True)
        self._written_at = now
        if self._heartbeat:
            self._watch()

    def write(self, events: bytes) -> None:
        """Send whole events with one write."""
        if not events or self._request._disconnected:
            return
        framed = b"%x\r\n%b\r\n" % (len(events), events) if self._chunked else events
        send(self._request.channel.transport, self._pending + framed if self._pending else framed)
        self._pending = b""
        self._written_at = self._reactor.seconds()

    def attach(self, flow: Flow) -> None:
        """Pause ``flow`` while the client reads too slowly."""
        self._flow = flow
        if self._paused:
            flow.pause()

    def finish(self) -> None:
        """End the stream."""
        self._streaming = False
        self.close()
        request = self._request
        if request._disconnected:
            return
        if self._pending:  # An empty body.
            send(request.channel.transport, self._pending)
            self._pending = b""
        request.unregisterProducer()
        if self._is_broken:
            # The client notices that the last chunk is missing.
            request.channel.persistent = False
        elif self._chunked:
            send(request.channel.transport, b"0\r\n\r\n")
        request.end()

    def close(self) -> None:
        """Drop the upstream and the heartbeat: nothing more is written."""
        self._flow = None
        if self._deadlines is not None:
            self._deadlines.release(self)
            self._deadlines = None

    # -- IPushProducer, called by the connection --------------------------------------------------

    def pauseProducing(self) -> None:
        self._paused = True
        if self._flow is not None:
            self._flow.pause()

    def resumeProducing(self) -> None:
        self._paused = False
        if self._deadlines is not None:
            self._deadlines.watch(self)
        if self._flow is not None:
            self._flow.resume()

    def stopProducing(self) -> None:
        """The client has disconnected; the request cancels the coroutine that serves it."""
        self.close()

    # -- the deadline of a silent stream: its head, then a heartbeat ------------------------------

    @property
    def due(self) -> float:
        """See :class:`gemproxy.deadlines.Timed`."""
        if not self.opened:
            return self._opens_at
        if self._paused or not self._heartbeat:
            return math.inf
        return self._written_at + self._heartbeat

    def expire(self, _now: float) -> None:
        """Send the head or a heartbeat, unless the client has disconnected."""
        if self._request._disconnected:
            self.close()
        elif self.opened:
            self.write(self._dialect.heartbeat)
        else:
            self._open_silent()

    def _watch(self) -> None:
        self._deadlines = self._request.channel.site.deadlines
        self._deadlines.watch(self)


def _say_nothing(_error: ProxyError) -> bytes:
    return b""


def _header_text(text: str) -> bytes:
    """Return ``text`` as printable ASCII, the rest escaped."""
    return text.encode("ascii", "backslashreplace")
