"""One client's connection: a request at a time, within bounds of size and time.

Bytes come in and are cut into requests; one is served, and what comes behind it waits unread until
its answer is written. Every state that a client can hold a connection in has a deadline, except
that of waiting for us.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import partial
from io import BytesIO
from typing import TYPE_CHECKING, cast

from twisted.internet.interfaces import (
    IAddress,
    IPushProducer,
    ISSLTransport,
    ITCPTransport,
)
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from gemproxy.batched_writes import flush, send, unsent
from gemproxy.core.errors import ProxyError
from gemproxy.http.client_progress import ClientProgress, has_closed, is_unresponsive
from gemproxy.http.http1 import (
    END_OF_HEAD,
    MAX_HEAD_BYTES,
    Body,
    ChunkedBody,
    MalformedRequest,
    RequestHead,
    SizedBody,
    read_head,
)
from gemproxy.http.request import ProxyRequest, new_request_id
from gemproxy.http.upload_rate import IDLE_SECONDS, UploadRateGuard
from gemproxy.tcp_keepalive import gone_after, notice_silence

if TYPE_CHECKING:
    from twisted.internet.tcp import Connection
    from twisted.web.http_headers import Headers

    from gemproxy.http.site import ProxySite

#: Headers must be complete so long after their first byte, however they drip.
HEADER_SECONDS = 30.0
#: After an early refusal so much more is read and dropped, so that a client that is still sending
#: gets to read the answer instead of a reset connection.
LINGER_BYTES = 64 * 1024 * 1024
LINGER_SECONDS = 5.0
#: An idle connection that was closed must be gone after so long.
CLOSE_SECONDS = 15.0
#: What comes behind a request that is being served is read up to here, to notice when the client
#: leaves, and then left to wait in the sockets.
MAX_HELD_BYTES = 16 * 1024

_EMPTY_LINE = b"\r\n"
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_BAD_REQUEST = (
    b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Type: application/json\r\n"
    b"x-request-id: %b\r\nopenai-processing-ms: 0\r\nx-gemproxy-attempts: 0\r\n"
    b"Content-Length: %d\r\n\r\n%b"
)


@implementer(IPushProducer)
class ClientConnection(Protocol):
    """The protocol of one connection, and to a request what ``HTTPChannel`` is in twisted.web.

    ``deadline`` is when :meth:`expire` is to be called; the site looks after that.
    """

    _log = Logger()
    transport: Connection

    def __init__(self, site: ProxySite) -> None:
        self.site = site
        #: Whether the connection stays open after the answer.
        self.persistent = True
        self.deadline = math.inf
        self.expire: Callable[[float], object] = self._close_idle
        #: The next step with what is in the buffer; tells whether there may be another one.
        self._step: Callable[[], bool] = self._read_head
        self._is_stepping = False
        #: Whether an answer was given since the reactor's last turn, and another turn is asked for.
        self._has_answered = False
        self._waits_for_turn = False
        self._buffer = b""
        self._request: ProxyRequest | None = None
        #: Whether it is being answered.
        self.is_serving = False
        self._producer: IPushProducer | None = None
        self._linger_bytes = LINGER_BYTES
        #: The transport has more to send than it likes.
        self._is_congested = False
        self._is_paused = False
        self._is_closing = False
        #: What the connection is counted under.
        self.address = ""
        #: The last request, while the client has yet to take its answer from this process.
        self.undelivered: ProxyRequest | None = None
        #: When to look again what the client takes.
        self.look_at = 0.0
        self._progress: ClientProgress | None = None

    # -- the connection --------------------------------------------------------------------------

    def connectionMade(self) -> None:
        if ITCPTransport.providedBy(self.transport):
            self.transport.setTcpNoDelay(True)
            # Who takes nothing, but lives, is for this program to judge.
            keepalive = self.site.limits.keepalive_seconds
            notice_silence(self.transport, keepalive, stalled_seconds=math.inf)
        self.transport.registerProducer(self, True)
        self.deadline = self.site.now() + IDLE_SECONDS
        self.site.register(self)

    def dataReceived(self, data: bytes) -> None:
        self._buffer = self._buffer + data if self._buffer else data
        self._process_buffer()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        # Bound methods of its own would keep the connection in memory for the collector to find.
        self.deadline, self.expire, self._step = math.inf, _ignore, _ignore
        self._buffer = b""
        self._progress = None
        if self.isSecure():  # Twisted's TLS forgets its producer only when it is told to.
            self.transport.unregisterProducer()
        self.site.unregister(self)
        self._release_undelivered()
        request, self._request = self._request, None
        if request is not None:
            request.connectionLost(reason)
            if not request.is_working:
                self.site.gate.release(request)

    @property
    def is_idle(self) -> bool:
        """Whether the client has everything, and has begun nothing."""
        return (
            self._request is None
            and self.undelivered is None
            and not self._buffer
            and not self._is_congested
            and not self._is_closing
            and self._step == self._read_head
        )

    def close_idle(self) -> None:
        """Close a connection that is idle, at once."""
        if self.isSecure():  # An orderly end would take the client's consent.
            self.transport.abortConnection()
        else:
            self.loseConnection()

    def check_disconnect(self) -> None:
        """Notice that the client left, although nothing is read from it for now."""
        if has_closed(self.transport):
            self.transport.abortConnection()

    def _process_buffer(self) -> None:
        # Answers that are given at once must not nest the steps of a long pipeline.
        if self._is_stepping:
            return
        self._is_stepping = True
        self._has_answered = False
        try:
            while self._buffer and self._step():
                pass
        finally:
            self._is_stepping = False

    def _wait_for_turn(self) -> None:
        """Go on when the other connections have had their turn."""
        if not self._waits_for_turn:
            self._waits_for_turn = True
            self.site.call_later(0, self._resume_turn)
        self._update_reading()

    def _resume_turn(self) -> None:
        self._waits_for_turn = False
        if self._buffer:
            self._process_buffer()
            self._update_reading()

    # -- reading a request -----------------------------------------------------------------------

    def _read_head(self) -> bool:
        if self._is_congested:
            return False  # Who does not read answers gets no more of them.
        if self._has_answered:
            self._wait_for_turn()
            return False
        buffer = self._buffer
        # RFC 9112 section 2.2: one empty line before a request is let pass.
        start = len(_EMPTY_LINE) if buffer.startswith(_EMPTY_LINE) else 0
        end = buffer.find(END_OF_HEAD, start) + len(END_OF_HEAD)
        if end < len(END_OF_HEAD):
            if len(buffer) > MAX_HEAD_BYTES:
                self._refuse_message("head too large")
            elif self.expire != self._cut_off:
                self._expire_in(HEADER_SECONDS, self._cut_off)
            return False
        try:
            head = read_head(buffer[start:end])
        except MalformedRequest as error:
            self._refuse_message(str(error))
            return False
        self._buffer = buffer[end:]
        self._begin(head)
        return True

    def _begin(self, head: RequestHead) -> None:
        request = self._request = ProxyRequest(self, head)
        self.persistent = head.persistent
        length, buffer = head.length, self._buffer
        site = self.site
        try:
            if site.guard is not None:
                site.guard.check(head.method, head.path, head.values)
            site.gate.check_head(request)
        except ProxyError as error:
            self._reject(request, error)
            return
        if length is not None and length <= len(buffer):
            request.set_body(buffer[:length])
            self._buffer = buffer[length:]
            self._serve(request)
        else:
            self._await_body(request, head)

    def _await_body(self, request: ProxyRequest, head: RequestHead) -> None:
        content = BytesIO()
        request.set_body(content)
        body: Body = (
            ChunkedBody(content.write)
            if head.length is None
            else SizedBody(head.length, content.write)
        )
        rate_guard = UploadRateGuard(self.site.now(), self.site.limits.minimum_upload_rate)
        self._step = partial(self._read_body, request, body, rate_guard)
        self.deadline, self.expire = rate_guard.deadline, partial(self._check_upload, rate_guard)
        # Whose body is on its way already has not waited for leave to send it.
        if head.expects_continue and not self._buffer:
            send(self.transport, _CONTINUE)

    def _read_body(self, request: ProxyRequest, body: Body, rate_guard: UploadRateGuard) -> bool:
        try:
            taken = body.receive(self._buffer)
            if request.length is None:
                self.site.gate.check_body_size(request, body.size)
        except MalformedRequest as error:
            self._refuse_message(str(error))
            return False
        except ProxyError as error:
            self._refuse_body(request, error)
            return True
        self._buffer = self._buffer[taken:]
        if body.complete:
            self._serve(request)
        else:
            rate_guard.brought(taken)
            self._check_upload(rate_guard, self.site.now())
            if taken and body.has_more:
                self._wait_for_turn()
            return False
        return True

    def _serve(self, request: ProxyRequest) -> None:
        self.is_serving = True
        self._progress = None  # What waited before was taken, or nothing would be served.
        self._step = self._hold
        self.deadline = math.inf
        request.process()

    def _hold(self) -> bool:
        """Another request is being served: what comes now has to wait."""
        self._update_reading()
        return False

    def _drop(self) -> bool:
        """Nothing is read any more, except to let the client read the answer."""
        self._linger_bytes -= len(self._buffer)
        self._buffer = b""
        if self._linger_bytes < 0:
            self.transport.abortConnection()
        return False

    # -- turning away ----------------------------------------------------------------------------

    def _reject(self, request: ProxyRequest, error: ProxyError) -> None:
        """Answer from the head; a body that is there already is dropped."""
        length, buffer = request.length, self._buffer
        if length is None or length > len(buffer):
            self._refuse_body(request, error)
            return
        self._buffer = buffer[length:]
        self.is_serving = True
        self._step = self._hold
        self.deadline = math.inf
        self.site.gate.reject(request, error)

    def _refuse_body(self, request: ProxyRequest, error: ProxyError) -> None:
        """Answer now, with the body still on its way."""
        self.persistent = False
        request.refused = True
        request.set_body(b"")
        self.site.gate.reject(request, error)

    def _refuse_message(self, reason: str) -> None:
        """What came is not HTTP/1.1, or smuggles: what stands behind it is not looked at."""
        request_id = new_request_id()
        self.site.malformed()
        self._log.info(
            "request is not valid HTTP",
            request_id=request_id,
            status=400,
            reason=reason,
            log_limited=True,
        )
        body = self.site.malformed_body
        send(self.transport, _BAD_REQUEST % (request_id.encode("ascii"), len(body), body))
        self.linger()

    def linger(self) -> None:
        """Close after an early answer, in a way that lets the client read it.

        Closing with unread bytes in the socket sends a reset, which takes the answer with it
        (RFC 9112 section 9.6).
        """
        self._step = self._drop
        self._buffer = b""
        self.is_serving = False
        request, self._request = self._request, None
        if request is not None:
            self.site.gate.release(request)
        # What is still to be sent at this turn's end must not look like something the client takes.
        flush(self.transport)
        self._expire_unless_read(LINGER_SECONDS, self._abort)
        # TLS has no half of a connection to close, and below it is not ours to close.
        if not self.isSecure():
            # A transport that waits for its producer closes nothing.
            self.transport.unregisterProducer()
            self.transport.loseWriteConnection()
        self._update_reading()

    # -- deadlines -------------------------------------------------------------------------------

    def _expire_in(self, seconds: float, expire: Callable[[float], object]) -> None:
        self.deadline = self.site.now() + seconds
        self.expire = expire

    def _expire_unless_read(self, seconds: float, expire: Callable[[float], object]) -> None:
        """Expire, but not as long as the client goes on taking what was written."""
        now = self.site.now()
        progress = ClientProgress(self.transport, now)
        progress.update(now)
        self._expire_in(0.0, partial(self._expire_if_idle, progress, seconds, expire))

    def _expire_if_idle(
        self,
        progress: ClientProgress,
        seconds: float,
        expire: Callable[[float], object],
        now: float,
    ) -> None:
        progress.update(now)
        if now - progress.advanced_at >= seconds:
            expire(now)
        else:
            self.deadline = now

    def _close_idle(self, _: float) -> None:
        self.loseConnection()

    def _cut_off(self, _: float) -> None:
        self._log.info("closing a client that sends too slowly", log_limited=True)
        self.transport.abortConnection()

    def _check_upload(self, rate_guard: UploadRateGuard, now: float) -> None:
        if rate_guard.is_too_slow(now):
            self._cut_off(now)
        else:
            self.deadline = rate_guard.deadline

    def check_reader(self, now: float) -> None:
        """Cut off a client that takes nothing of what waits for it, or is not there any more."""
        progress = self._progress
        if progress is None:
            progress = self._progress = ClientProgress(self.transport, now)
        limits = self.site.limits
        if not progress.update(now):
            progress.advanced_at = now
        elif now - progress.advanced_at >= limits.slow_reader_seconds:
            self._give_up("closing a client that takes nothing of its answer", "slow_reader")
        elif is_unresponsive(self.transport, gone_after(limits.keepalive_seconds)):
            self._give_up("closing a client that has vanished", "client_gone")

    def _give_up(self, what: str, outcome: str) -> None:
        request = self._request or self.undelivered
        if request is not None:
            request.disconnect_outcome = outcome
        self._log.info(what, outcome=outcome, log_limited=True)
        self.transport.abortConnection()

    def _abort(self, _: float) -> None:
        self.transport.abortConnection()

    # -- the answer's way, as twisted.web's requests want it -------------------------------------

    def requestDone(self, request: ProxyRequest) -> None:
        """The answer is written; another request may come."""
        if request is not self._request:
            raise RuntimeError("a request ended that was not being served")
        self._request = None
        self.is_serving = False
        self._has_answered = True
        if self._is_congested:
            request.is_undelivered = True
            self.undelivered = request
        if not request.is_working:
            self.site.gate.release(request)
        if not self.persistent:
            self._close()
            return
        if self._is_congested:
            self.deadline = math.inf  # Readers are judged by what they take.
        else:
            self.deadline, self.expire = self.site.now() + IDLE_SECONDS, self._close_idle
        self._step = self._read_head
        if self._buffer or self._is_paused or self._is_congested:
            self._process_buffer()
            self._update_reading()

    def _release_undelivered(self) -> None:
        """The client has taken its last answer from this process, or will not."""
        request, self.undelivered = self.undelivered, None
        if request is not None:
            request.is_undelivered = False
            self.site.gate.release(request)

    def _close(self) -> None:
        if self._buffer.strip(_EMPTY_LINE):
            self.linger()
        else:
            self.loseConnection()

    def write(self, data: bytes) -> None:
        send(self.transport, data)

    def writeSequence(self, pieces: Iterable[bytes]) -> None:
        send(self.transport, b"".join(pieces))

    def writeHeaders(self, version: bytes, code: bytes, reason: bytes, headers: Headers) -> None:
        if not self.persistent:
            headers.setRawHeaders(b"Connection", [b"close"])
        lines = [b"%b %b %b\r\n" % (version, code, reason)]
        for name, values in headers.getAllRawHeaders():
            lines += [b"%b: %b\r\n" % (name, value) for value in values]
        send(self.transport, b"".join([*lines, b"\r\n"]))

    def getPeer(self) -> IAddress:
        return cast("IAddress", self.transport.getPeer())

    def getHost(self) -> IAddress:
        return cast("IAddress", self.transport.getHost())

    def isSecure(self) -> bool:
        return ISSLTransport(self.transport, None) is not None

    def loseConnection(self) -> None:
        """Close as soon as all that was written is sent."""
        if self._is_closing:
            return
        self._is_closing, self.persistent = True, False
        flush(self.transport)
        patience = CLOSE_SECONDS
        if unsent(self.transport):
            patience = max(patience, self.site.limits.slow_reader_seconds)
        self._expire_unless_read(patience, self._abort)
        self._step = self._drop
        self._buffer = b""
        # A transport waits for its producer to end.
        self.transport.unregisterProducer()
        self.transport.loseConnection()

    # -- back-pressure ---------------------------------------------------------------------------

    def registerProducer(self, producer: IPushProducer, streaming: bool) -> None:
        """Let ``producer``, which writes the answer, be held back while the client reads slowly."""
        if self._producer is not None or not streaming:
            raise RuntimeError("an answer has one producer, which pushes")
        self._producer = producer
        if self._is_congested:
            producer.pauseProducing()

    def unregisterProducer(self) -> None:
        self._producer = None

    def pauseProducing(self) -> None:
        """Called by the transport: the client does not read as fast as is written."""
        self._is_congested = True
        if self._producer is not None:
            self._producer.pauseProducing()
        self._update_reading()

    def resumeProducing(self) -> None:
        """Called by the transport: all is sent."""
        self._is_congested = False
        self._release_undelivered()
        if self._producer is not None:
            self._producer.resumeProducing()
        if self._step == self._read_head:
            self._expire_in(IDLE_SECONDS, self._close_idle)
        self._process_buffer()
        self._update_reading()

    def stopProducing(self) -> None:
        """Called by the transport: the connection is gone."""
        if self._producer is not None:
            self._producer.stopProducing()

    def _update_reading(self) -> None:
        """Read from the client only as long as something can become of what it sends."""
        if self.is_serving or self._waits_for_turn:
            pause = len(self._buffer) > MAX_HELD_BYTES
        else:
            pause = self._is_congested and self._step == self._read_head
        if pause != self._is_paused:
            self._is_paused = pause
            self.site.watch_for_disconnect(self, wanted=pause and self.is_serving)
            if pause:
                self.transport.pauseProducing()
            else:
                self.transport.resumeProducing()


class RefusedConnection(Protocol):
    """The protocol of a connection that is one too many: it is closed."""

    transport: Connection

    def connectionMade(self) -> None:
        if ISSLTransport.providedBy(self.transport):
            self.transport.abortConnection()
        else:
            self.transport.loseConnection()


def _ignore(_: object = None) -> bool:
    """A step, or what happens at a deadline, on a connection that is closed."""
    return False
