"""One client's connection: one request at a time, with limits of size and time.

Theory of operation. :mod:`~gemproxy.http.connection_state` has the states and the transitions
between them; here each state has a reader (``_READERS``: what to do with the bytes at hand) and a
deadline (:meth:`ClientConnection.expire`). Bytes are appended to a buffer, and readers run until
one of them returns that it needs more bytes. When the head of a request is complete, the site's
gate checks it before the body is read. While a request is being answered the bytes behind it stay
in the buffer, and beyond ``MAX_HELD_BYTES`` in the socket.

Two conditions are not states, because each may occur in several states: the transport's buffer is
full (``_is_congested``: no further request is read until the client reads), and the connection
yields (``_is_yielding``: a client that pipelines gets one request in each turn of the reactor, so
that it cannot block the other clients). The state and these two decide whether the socket is read
(:meth:`ClientConnection._update_reading`).

Every state in which we wait for the client has a deadline. The site checks all deadlines once a
second: a timer for each request would cost as much as reading it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from io import BytesIO
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias, cast

from twisted.internet import protocol
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IPushProducer,
    ISSLTransport,
    ITCPTransport,
)
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from gemproxy.api.dialects import DialectChoice
from gemproxy.batched_writes import flush, prepare, send, unsent
from gemproxy.core.errors import InvalidRequest, ProxyError
from gemproxy.http.client_progress import ClientProgress, has_closed, is_unresponsive
from gemproxy.http.connection_limits import ConnectionLimits
from gemproxy.http.connection_state import TRANSITIONS, Event, State
from gemproxy.http.gate import RequestGate
from gemproxy.http.http1 import (
    END_OF_HEAD,
    MAX_HEAD_BYTES,
    Body,
    ChunkedBody,
    MalformedRequest,
    RequestHead,
    SizedBody,
    guess_head,
    read_head,
)
from gemproxy.http.interfaces import Site
from gemproxy.http.origins import OriginGuard
from gemproxy.http.request import ProxyRequest, new_request_id
from gemproxy.http.streamed_body import StreamedBody
from gemproxy.http.upload_rate import IDLE_SECONDS, UploadRateGuard
from gemproxy.tcp_keepalive import gone_after, notice_silence

if TYPE_CHECKING:
    from twisted.internet.tcp import Connection
    from twisted.web.http_headers import Headers
    from twisted.web.server import Request

#: Seconds from the first byte of a head to its last.
HEADER_SECONDS = 30.0
#: After an early answer this many bytes are read and discarded. Closing earlier would reset the
#: connection while the client is sending, and it could not read the answer.
LINGER_BYTES = 64 * 1024 * 1024
LINGER_SECONDS = 5.0
#: Seconds from closing a connection until it is aborted.
CLOSE_SECONDS = 15.0
#: Bytes that are buffered behind a request in progress; reading them shows when the client closes.
#: Further bytes stay in the socket.
MAX_HELD_BYTES = 16 * 1024

# Constants, because access to a member of an Enum is slow, and so is ``[]`` of a subclass of dict:
# each takes several times as long as this call.
_next_state = TRANSITIONS.__getitem__
_REQUEST_COMPLETE: Final = Event.REQUEST_COMPLETE
_RESPONSE_COMPLETE: Final = Event.RESPONSE_COMPLETE

_EMPTY_LINE = b"\r\n"
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_BAD_REQUEST = (
    b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Type: application/json\r\n"
    b"x-request-id: %b\r\nopenai-processing-ms: 0\r\nx-gemproxy-attempts: 0\r\n"
    b"Content-Length: %d\r\n%b\r\n%b"
)
_MALFORMED: Final = InvalidRequest(
    "The request is not valid HTTP/1.1, or its headers are too large."
)


#: The functions that serve requests without a router, by method and path.
FastRoutes: TypeAlias = Mapping[tuple[bytes, bytes], Callable[[ProxyRequest], object]]


class ConnectionSite(Site, Protocol):
    """What a connection uses of its site (:class:`~gemproxy.http.site.ProxySite`)."""

    gate: RequestGate
    guard: OriginGuard | None
    fast_routes: FastRoutes
    #: Returns monotonic seconds.
    now: Callable[[], float]
    call_later: Callable[..., IDelayedCall]
    #: Called for each request that is not HTTP.
    malformed: Callable[[], object]
    #: Chooses the dialect of the answer to a request that is not HTTP.
    dialects: DialectChoice

    @property
    def limits(self) -> ConnectionLimits:
        """The limits in force."""

    def register(self, channel: ClientConnection) -> None:
        """``channel`` is open."""

    def unregister(self, channel: ClientConnection) -> None:
        """``channel`` is closed."""

    def watch_for_disconnect(self, channel: ClientConnection, *, wanted: bool) -> None:
        """Call ``channel.check_disconnect`` at intervals, or stop that."""


@implementer(IPushProducer)
class ClientConnection(protocol.Protocol):
    """The protocol of one connection; for a request it is what ``HTTPChannel`` is in twisted.web.

    The site calls :meth:`expire` when ``deadline`` (monotonic) has passed.
    """

    _log = Logger()
    transport: Connection

    def __init__(self, site: ConnectionSite) -> None:
        self.site = site
        self.state = State.IDLE
        #: Whether the connection stays open after the answer.
        self.persistent = True
        self.deadline = math.inf
        self._buffer = b""
        #: The request that is being read or answered.
        self._request: ProxyRequest | None = None
        #: The body in state BODY, and the check of its rate.
        self._upload: tuple[Body, UploadRateGuard] | None = None
        #: The same body, if it is passed on as it comes.
        self._stream: StreamedBody | None = None
        #: The last request, until the client has taken its whole answer from this process.
        self.undelivered: ProxyRequest | None = None
        #: Whether readers are running: an answer given at once must not start them again
        #: recursively.
        self._is_processing = False
        #: Whether a request was answered in this turn of the reactor.
        self._has_responded = False
        self._is_yielding = False
        #: Whether the transport's buffer is full.
        self._is_congested = False
        #: Whether reading from the socket is paused.
        self._is_paused = False
        self._producer: IPushProducer | None = None
        #: The key under which the connection is counted; see OpenConnections.
        self.address = ""
        #: When the site calls :meth:`check_reader` next.
        self.look_at = 0.0
        self._reader: ClientProgress | None = None
        # In LINGERING and CLOSING: the time limit for a client that receives nothing, and its
        # progress.
        self._patience = 0.0
        self._last_reader: ClientProgress | None = None
        self._linger_bytes = LINGER_BYTES

    # -- the connection --------------------------------------------------------------------------

    def connectionMade(self) -> None:
        prepare(self.transport)
        if ITCPTransport.providedBy(self.transport):
            self.transport.setTcpNoDelay(True)
            # A live peer that reads nothing is handled by check_reader, not by the kernel.
            keepalive = self.site.limits.keepalive_seconds
            notice_silence(self.transport, keepalive, stalled_seconds=math.inf)
        self.transport.registerProducer(self, True)
        self.deadline = self.site.now() + IDLE_SECONDS
        self.site.register(self)

    def dataReceived(self, data: bytes) -> None:
        self._buffer = self._buffer + data if self._buffer else data
        self._process_buffer()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.state = TRANSITIONS[self.state, Event.CONNECTION_LOST]
        self.deadline = math.inf
        self._drop_input()
        self._reader = self._last_reader = None
        if self.isSecure():  # Twisted's TLS keeps its producer until it is unregistered.
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
        """Whether the client has read every answer and has sent no byte of a request."""
        return self.state is State.IDLE and not self._buffer and not self._is_congested

    @property
    def has_reader(self) -> bool:
        """Whether the client has an answer to read."""
        return self.state is State.RESPONDING or self.undelivered is not None

    def close_idle(self) -> None:
        """Close a connection that is idle, at once."""
        if self.isSecure():  # An orderly close would wait for the client.
            self.transport.abortConnection()
        else:
            self.loseConnection()

    def check_disconnect(self) -> None:
        """Notice that the client has closed although the socket is not read."""
        if has_closed(self.transport):
            self.transport.abortConnection()

    def _process_buffer(self) -> None:
        if self._is_processing:
            return
        self._is_processing = True
        self._has_responded = False
        try:
            while self._buffer and _READERS[self.state](self):
                pass
        finally:
            self._is_processing = False

    def _yield_to_others(self) -> None:
        """Continue after the other connections had their turn."""
        if not self._is_yielding:
            self._is_yielding = True
            self.site.call_later(0, self._resume)
        self._update_reading()

    def _resume(self) -> None:
        self._is_yielding = False
        if self._buffer:
            self._process_buffer()
            self._update_reading()

    # -- readers: each takes what it can from the buffer and tells whether the next one may run ---

    def _read_head(self) -> bool:
        if self._is_congested:
            return False  # A client that does not read its answers gets no more of them.
        if self._has_responded:
            self._yield_to_others()
            return False
        buffer = self._buffer
        # RFC 9112 section 2.2: one empty line before a request is ignored.
        start = len(_EMPTY_LINE) if buffer.startswith(_EMPTY_LINE) else 0
        end = buffer.find(END_OF_HEAD, start) + len(END_OF_HEAD)
        if end < len(END_OF_HEAD):
            if len(buffer) > MAX_HEAD_BYTES:
                self._refuse_message("head too large")
            elif self.state is State.IDLE:
                self.state = TRANSITIONS[self.state, Event.HEAD_STARTED]
                self.deadline = self.site.now() + HEADER_SECONDS
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
        is_complete = length is not None and length <= len(buffer)
        site = self.site
        try:
            if site.guard is not None:
                site.guard.check(head.method, head.path, head.values)
            site.gate.check_head(request)
        except ProxyError as error:
            if is_complete:
                self._buffer = buffer[length:]
                self._enter_responding()
                site.gate.reject(request, error)
            else:
                self._refuse_body(request, error)
            return
        if request.streams_body:
            self._pass_body_on(request, head)
        elif is_complete:
            request.set_body(buffer[:length])
            self._buffer = buffer[length:]
            self._respond(request)
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
        self.state = TRANSITIONS[self.state, Event.HEAD_COMPLETE]
        self._upload = body, rate_guard
        self.deadline = rate_guard.deadline
        # A client that already sends its body does not wait for 100 Continue.
        if head.expects_continue and not self._buffer:
            send(self.transport, _CONTINUE)

    def _pass_body_on(self, request: ProxyRequest, head: RequestHead) -> None:
        """Serve a request whose body is still to come."""
        stream = request.stream = StreamedBody(head.length, self._continue_body)
        body: Body = (
            ChunkedBody(stream.receive)
            if head.length is None
            else SizedBody(head.length, stream.receive)
        )
        if body.complete:
            stream.complete()
            self._respond(request)
            return
        # The whole may take as long as the upstream allows.
        rate = self.site.limits.minimum_upload_rate
        rate_guard = UploadRateGuard(self.site.now(), rate, whole_seconds=math.inf)
        self.state = TRANSITIONS[self.state, Event.HEAD_COMPLETE]
        self._upload, self._stream = (body, rate_guard), stream
        self.deadline = rate_guard.deadline
        # As long as the body is not complete, an answer is an early one.
        request.refused = True
        if head.expects_continue and not self._buffer:
            send(self.transport, _CONTINUE)
        self._serve(request)

    def _continue_body(self) -> None:
        """Read the body on: the upstream takes it."""
        if self._stream is not None and self._upload is not None:
            self._upload[1].restart(self.site.now())
            self._process_buffer()
            self._update_reading()

    def _read_body(self) -> bool:
        stream = self._stream
        if stream is not None and not stream.wanted:
            self._update_reading()
            return False
        request, (body, rate_guard) = self._reading()
        try:
            taken = body.receive(self._buffer)
            if request.length is None:
                self.site.gate.check_body_size(request, body.size)
        except MalformedRequest as error:
            self._refuse_message(str(error))
            return False
        except ProxyError as error:
            if stream is not None:
                stream.fail(error)
                return False
            self._refuse_body(request, error)
            return True
        self._buffer = self._buffer[taken:]
        if body.complete:
            self._upload = None
            if stream is not None:
                self._stream = None
                request.refused = False
                self._enter_responding()
                stream.complete()
                return True
            self._respond(request)
            return True
        rate_guard.brought(taken)
        self._check_upload(self.site.now())
        if taken and body.has_more:
            self._yield_to_others()
        return False

    def _reading(self) -> tuple[ProxyRequest, tuple[Body, UploadRateGuard]]:
        """The request whose body is being read."""
        if self._request is None or self._upload is None:
            raise RuntimeError("no body is being read")
        return self._request, self._upload

    def _hold(self) -> bool:
        """Keep all bytes in the buffer: the request before them is being answered."""
        self._update_reading()
        return False

    def _discard(self) -> bool:
        """Discard all bytes; the connection is open only so that the client can read."""
        self._linger_bytes -= len(self._buffer)
        self._buffer = b""
        if self._linger_bytes < 0:
            self.transport.abortConnection()
        return False

    # -- the answer ------------------------------------------------------------------------------

    def _enter_responding(self) -> None:
        self.state = _next_state((self.state, _REQUEST_COMPLETE))
        self.deadline = math.inf
        # The client has taken the answer before, because this request was not read earlier.
        self._reader = None

    def _respond(self, request: ProxyRequest) -> None:
        """Answer ``request`` with its route."""
        # As _enter_responding, without its call.
        self.state = _next_state((self.state, _REQUEST_COMPLETE))
        self.deadline = math.inf
        self._reader = None
        self._serve(request)

    def _serve(self, request: ProxyRequest) -> None:
        serve = self.site.fast_routes.get((request.method, request.path)) or request.serve
        if serve is None:
            request.process()
            return
        try:
            serve(request)
        except Exception:  # noqa: BLE001 - the last guard of the site
            request.processingFailed(Failure())

    def reject(self, error: ProxyError) -> None:
        """See :class:`~gemproxy.http.interfaces.Channel`."""
        if self._request is not None:
            self.site.gate.reject(self._request, error)

    def requestDone(self, request: Request) -> None:
        """See :class:`~gemproxy.http.interfaces.Channel`."""
        done = self._request
        if done is None or request is not done:
            raise RuntimeError("a request ended that was not being answered")
        if self._stream is not None:  # The answer came before the end of an upload.
            self.persistent = False
            self.linger()
            return
        self.state = _next_state((self.state, _RESPONSE_COMPLETE))
        self._request = None
        self._has_responded = True
        if self._is_congested:
            done.is_undelivered = True
            self.undelivered = done
        if not done.is_working:
            self.site.gate.release(done)
        if not self.persistent:
            if self._buffer.strip(_EMPTY_LINE):
                self.linger()
            else:
                self.loseConnection()
            return
        # A client that still reads is judged by its progress.
        self.deadline = math.inf if self._is_congested else self.site.now() + IDLE_SECONDS
        if self._buffer or self._is_paused or self._is_congested:
            self._process_buffer()
            self._update_reading()

    def _release_undelivered(self) -> None:
        """Release the last answer: the client has taken it from this process, or never will."""
        request, self.undelivered = self.undelivered, None
        if request is not None:
            request.is_undelivered = False
            self.site.gate.release(request)

    # -- refusing --------------------------------------------------------------------------------

    def _refuse_body(self, request: ProxyRequest, error: ProxyError) -> None:
        """Answer now, although the body is not complete."""
        self.persistent = False
        request.refused = True
        request.set_body(b"")
        self.site.gate.reject(request, error)

    def _refuse_message(self, reason: str) -> None:
        """Refuse bytes that are not HTTP/1.1, or ambiguous. The bytes behind them are ignored."""
        request_id = new_request_id()
        self.site.malformed()
        self._log.info(
            "request is not valid HTTP",
            request_id=request_id,
            status=400,
            reason=reason,
            log_limited=True,
        )
        dialect = self.site.dialects.of(*guess_head(self._buffer))
        body, encoded_id = dialect.answer(_MALFORMED, request_id).body, request_id.encode("ascii")
        more = dialect.id_header and b"%b: %b\r\n" % (dialect.id_header, encoded_id)
        send(self.transport, _BAD_REQUEST % (encoded_id, len(body), more, body))
        self.linger()

    # -- closing ---------------------------------------------------------------------------------

    def linger(self) -> None:
        """Close after an early answer so that the client can read it.

        Closing with unread bytes in the socket sends a reset, which discards the answer (RFC 9112
        section 9.6).
        """
        self.state = TRANSITIONS[self.state, Event.EARLY_RESPONSE]
        self._drop_input()
        request, self._request = self._request, None
        if request is not None:
            self.site.gate.release(request)
        # Send what waits for the end of the turn now, so that it does not count as progress later.
        flush(self.transport)
        self._abort_after(LINGER_SECONDS)
        # TLS has no half-close, and the TCP connection below it cannot be reached from here.
        if not self.isSecure():
            # A transport does not close while it has a producer.
            self.transport.unregisterProducer()
            self.transport.loseWriteConnection()
        self._update_reading()

    def loseConnection(self) -> None:
        """Close as soon as everything that was written is sent."""
        if self.state is State.CLOSING or self.state is State.CLOSED:
            return
        self.state = TRANSITIONS[self.state, Event.CLOSE]
        self.persistent = False
        flush(self.transport)
        patience = CLOSE_SECONDS
        if unsent(self.transport):
            patience = max(patience, self.site.limits.slow_reader_seconds)
        self._abort_after(patience)
        self._drop_input()
        # A transport closes only after its producer has ended.
        self.transport.unregisterProducer()
        self.transport.loseConnection()

    def _drop_input(self) -> None:
        self._buffer = b""
        self._upload = self._stream = None

    # -- deadlines -------------------------------------------------------------------------------

    def expire(self, now: float) -> None:
        """``deadline`` has passed."""
        if self.state is State.IDLE:
            self.loseConnection()
        elif self.state is State.HEAD:
            self._cut_off()
        elif self.state is State.BODY:
            self._check_upload(now)
        elif self._last_reader is not None:
            self._last_reader.update(now)
            if now - self._last_reader.advanced_at >= self._patience:
                self.transport.abortConnection()
            else:
                self.deadline = now

    def _abort_after(self, seconds: float) -> None:
        """Abort once the client has received nothing for ``seconds``."""
        self.deadline = now = self.site.now()
        self._patience = seconds
        self._last_reader = ClientProgress(self.transport, now)
        self._last_reader.update(now)

    def _cut_off(self) -> None:
        self._log.info("closing a client that sends too slowly", log_limited=True)
        self.transport.abortConnection()

    def _check_upload(self, now: float) -> None:
        _, (_, rate_guard) = self._reading()
        if self._stream is not None and not self._stream.wanted:
            rate_guard.restart(now)  # We do not read.
        if rate_guard.is_too_slow(now):
            self._cut_off()
        else:
            self.deadline = rate_guard.deadline

    def check_reader(self, now: float) -> None:
        """Abort if the client receives nothing of what waits for it, or has vanished."""
        reader = self._reader
        if reader is None:
            reader = self._reader = ClientProgress(self.transport, now)
        limits = self.site.limits
        if not reader.update(now):
            reader.advanced_at = now
        elif now - reader.advanced_at >= limits.slow_reader_seconds:
            self._give_up("closing a client that takes nothing of its answer", "slow_reader")
        elif is_unresponsive(self.transport, gone_after(limits.keepalive_seconds)):
            self._give_up("closing a client that has vanished", "client_gone")

    def _give_up(self, event: str, outcome: str) -> None:
        request = self._request or self.undelivered
        if request is not None:
            request.disconnect_outcome = outcome
        self._log.info(event, outcome=outcome, log_limited=True)
        self.transport.abortConnection()

    # -- writing, as twisted.web's requests want it ----------------------------------------------

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

    # -- back-pressure ---------------------------------------------------------------------------

    def registerProducer(self, producer: IPushProducer, streaming: bool) -> None:
        """Pause ``producer``, which writes the answer, while the client reads slowly."""
        if self._producer is not None or not streaming:
            raise RuntimeError("an answer has one producer, which pushes")
        self._producer = producer
        if self._is_congested:
            producer.pauseProducing()

    def unregisterProducer(self) -> None:
        self._producer = None

    def pauseProducing(self) -> None:
        """Called by the transport: the client reads slower than we write."""
        self._is_congested = True
        if self._producer is not None:
            self._producer.pauseProducing()
        self._update_reading()

    def resumeProducing(self) -> None:
        """Called by the transport: its buffer is empty."""
        self._is_congested = False
        self._release_undelivered()
        if self._producer is not None:
            self._producer.resumeProducing()
        if self.state is State.IDLE:
            self.deadline = self.site.now() + IDLE_SECONDS
        elif self.state is State.HEAD:
            self.deadline = self.site.now() + HEADER_SECONDS
        self._process_buffer()
        self._update_reading()

    def stopProducing(self) -> None:
        """Called by the transport: the connection is gone."""
        if self._producer is not None:
            self._producer.stopProducing()

    def _update_reading(self) -> None:
        """Read the socket only while the bytes can be used."""
        is_responding = self.state is State.RESPONDING
        is_held = self._stream is not None and not self._stream.wanted
        if is_responding or is_held or self._is_yielding:
            pause = len(self._buffer) > MAX_HELD_BYTES
        else:
            pause = self._is_congested and self.state in _BEFORE_REQUEST
        if pause != self._is_paused:
            self._is_paused = pause
            self.site.watch_for_disconnect(self, wanted=pause and (is_responding or is_held))
            if pause:
                self.transport.pauseProducing()
            else:
                self.transport.resumeProducing()


_BEFORE_REQUEST: Final = (State.IDLE, State.HEAD)
_READERS: Final[Mapping[State, Callable[[ClientConnection], bool]]] = {
    State.IDLE: ClientConnection._read_head,
    State.HEAD: ClientConnection._read_head,
    State.BODY: ClientConnection._read_body,
    State.RESPONDING: ClientConnection._hold,
    State.LINGERING: ClientConnection._discard,
    State.CLOSING: ClientConnection._discard,
    State.CLOSED: ClientConnection._discard,
}
