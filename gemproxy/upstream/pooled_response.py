"""One request and its response, with deadlines, back-pressure, content decoding and error kinds.

The exchange below it carries the bytes; here is what the core sees of them. Three limits hold, all
watched by one shared timer: the time to the first byte of the body, the time between two reads, and
the deadline of the client's request. Bytes are handed to the reader in the same turn of the reactor
in which they were read; while the reader is paused, the socket is not read.

Cancelling a Deferred of ``send``, ``read`` or ``stream`` closes the connection, so that the
upstream stops generating.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from msgspec import Struct
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure

from gemproxy.awaited import Awaited
from gemproxy.batched_writes import send, send_now
from gemproxy.buffer_list import BufferList
from gemproxy.core.errors import FailureKind, ProxyError, UpstreamFailed
from gemproxy.core.interfaces import BodySource
from gemproxy.deadlines import Deadlines
from gemproxy.tcp_keepalive import gone_after, unacknowledged
from gemproxy.upstream.connection import UpstreamConnection
from gemproxy.upstream.content_coding import (
    MIN_PIECE_COST,
    PIECE_BYTES,
    CodingError,
    Decoder,
    UnknownCoding,
    decoder_of,
)
from gemproxy.upstream.exchange import UpstreamExchange
from gemproxy.upstream.failures import DEADLINE, FIRST_BYTE, IDLE, upstream_failure
from gemproxy.upstream.pool import ConnectionPool
from gemproxy.upstream.upload import StreamedUpload, Upload

#: RFC 9110 section 15.5.9: the server got no request in time and closes the connection.
_REQUEST_TIMEOUT = 408
#: A longer body is written in pieces, and not copied behind the head.
_SMALL_BODY = 64 * 1024


class ResponseLimits(Struct, frozen=True):
    """ResponseLimits of the upstream's silence, in seconds."""

    #: From the request to the first byte of the body.
    first_byte: float
    #: Between two reads.
    idle: float


class PooledResponse(UpstreamExchange):
    """A request, and the response that it gets within ``limits`` and before ``deadline``.

    ``head`` is the request up to and with the blank line. ``seconds`` is the reactor's clock, which
    ``deadline`` refers to. While the reader is paused, the upstream's silence is not counted.
    """

    __slots__ = (
        "_answered",
        "_body",
        "_body_began",
        "_deadline",
        "_deadlines",
        "_decoder",
        "_done",
        "_failure",
        "_head",
        "_limits",
        "_paused",
        "_receive",
        "_seconds",
        "_settled",
        "_silent_at",
        "_turn",
        "status",
    )

    def __init__(
        self,
        pool: ConnectionPool,
        seconds: Callable[[], float],
        deadlines: Deadlines,
        head: bytes,
        body: bytes | BufferList | BodySource,
        limits: ResponseLimits,
        deadline: float,
    ) -> None:
        # Called by name, since super() costs as much as two further calls.
        UpstreamExchange.__init__(self, pool)
        self._head = head
        self._body = body
        self._seconds = seconds
        self._deadlines = deadlines
        self._deadline = deadline
        self._limits = limits
        # When the limit of silence is reached.
        self._silent_at = seconds() + limits.first_byte
        #: The HTTP status; 0 until the headers are complete.
        self.status = 0
        # Whether any byte of the body was received.
        self._body_began = False
        self._answered: Deferred[PooledResponse] | None = None
        self._done: Deferred[None] | None = None
        self._receive: Callable[[bytes], None] | None = None
        self._failure: UpstreamFailed | None = None
        # Set if the body has a content coding.
        self._decoder: Decoder | None = None
        # Set while decoding continues in the reactor's next turn.
        self._turn: IDelayedCall | None = None
        self._paused = False
        self._settled = False

    def send(self) -> Deferred[PooledResponse]:
        """Send the request. Fires with this object when the headers are complete. Call it once."""
        answered: Deferred[PooledResponse] = Awaited(self._cancel)
        self._answered = answered
        self._deadlines.watch(self)
        self.begin()
        return answered

    # -- what the core sees ----------------------------------------------------------------------

    @property
    def headers(self) -> Mapping[str, str]:
        """Names are in lower case; of repeated headers the last one counts."""
        return {
            name.decode("latin-1").lower(): value.decode("latin-1")
            for name, value in self.parser.headers
        }

    def header(self, name: str) -> str | None:
        """See :meth:`gemproxy.core.interfaces.UpstreamResponse.header`."""
        value = self.parser.header(name.encode("latin-1"))
        return None if value is None else value.decode("latin-1")

    def take(self, limit: int) -> bytes:
        """Return the whole body if it was received with its headers, as most are; else ``b""``."""
        parser = self.parser
        if (
            not parser.complete
            or not parser.pieces
            or self._failure is not None
            or self._decoder is not None
        ):
            return b""
        self._settled = True
        self._deadlines.release(self)
        body = parser.take()
        if len(body) > limit:
            self._close_connection()
            raise UpstreamFailed(FailureKind.TOO_LARGE)
        return body

    def read(self, limit: int) -> Deferred[bytes]:
        """Return the whole body, at most ``limit`` bytes."""
        collected = Collected(limit)
        return self.stream(collected.add).addCallback(lambda _: collected.whole())

    def stream(self, receive: Callable[[bytes], None]) -> Deferred[None]:
        """Pass the body to ``receive`` as it arrives, in one call for each read of the socket."""
        done: Deferred[None] = Deferred(self._cancel)
        self._done, self._receive = done, receive
        self._hand_over()
        self._flow()
        return done

    def pause(self) -> None:
        """Stop reading from the upstream's socket."""
        self._paused = True
        self._flow()

    def resume(self) -> None:
        """Continue to read from the socket."""
        if not self._paused:
            return
        self._paused = False
        if self._settled:
            return
        if self._body_began:
            self._silent_at = self._seconds() + self._limits.idle
            self._deadlines.watch(self)
        self._hand_over()
        self._flow()

    def abort(self) -> None:
        """Close the connection. A waiting reader gets a :class:`CancelledError`."""
        done = self._done
        self._cancel(done)
        self._close_connection()
        if done is not None:
            done.errback(CancelledError())

    # -- what the connection tells ---------------------------------------------------------------

    def write_to(self, connection: UpstreamConnection) -> None:
        transport, body = connection.transport, self._body
        if isinstance(body, bytes) and len(body) <= _SMALL_BODY:
            self.sent = True
            send(transport, self._head + body)
        elif not isinstance(body, bytes | BufferList):
            self.sent = False
            send_now(transport, self._head)
            StreamedUpload(
                transport, body, self._progressed, self._uploaded, self._abort_with
            ).start()
        else:
            self.sent = False
            send_now(transport, self._head)
            Upload(transport, body, self._uploaded).start()

    def _uploaded(self) -> None:
        self.sent = True

    def _progressed(self) -> None:
        """The client has brought more of the body: the upstream cannot answer yet."""
        self._silent_at = self._seconds() + self._limits.first_byte

    def _abort_with(self, error: ProxyError) -> None:
        """The client may not send the rest of the body."""
        answered = self._answered
        self._settle()
        self.abandon()
        if answered is not None:
            answered.errback(error)

    def advance(self) -> None:
        parser = self.parser
        if parser.pieces and not parser.complete:
            self._silent_at = self._seconds() + self._limits.idle
            if not self._body_began:
                self._body_began = True
                self._deadlines.watch(self)
        answered = self._answered
        if answered is None:
            self._hand_over()
        elif parser.status:
            if parser.status == _REQUEST_TIMEOUT and self.reused:
                # The server gave up waiting on the idle connection before it got this request.
                self._body_began = False
                self._silent_at = self._seconds() + self._limits.first_byte
                self._deadlines.watch(self)
                self.resend()
                return
            if parser.coding is not None and not self._set_decoder(parser.coding):
                return
            self._answered = None
            self.status = parser.status
            # The caller may begin to read within this call.
            answered.callback(self)
            if not parser.complete:
                self._flow()

    def fail(self, failure: Failure) -> None:
        if self._settled or self._failure is not None:
            return
        answered, self._answered = self._answered, None
        error = upstream_failure(
            failure,
            answered=answered is None,
            reached=self.connection is not None,
            silent=self._silence(),
        )
        if answered is not None:
            self._settle()
            answered.errback(error)
        else:
            self._failure = error
            self._hand_over()

    # -- deadlines -------------------------------------------------------------------------------

    @property
    def due(self) -> float:
        """The next limit, if nothing more is received before."""
        silent_at, deadline = self._silent_at, self._deadline
        return (
            silent_at
            if silent_at < deadline and not (self._paused and self._body_began)
            else deadline
        )

    def expire(self, now: float) -> None:
        """Close the connection, and fail with the limit that was reached."""
        if now >= self._deadline:
            expired = DEADLINE
        elif not self._body_began:
            expired = FIRST_BYTE
        else:
            expired = IDLE
        failed = UpstreamFailed(*expired)
        connection = self.connection
        if connection is None:
            failed.detail = "while connecting"
        elif not self._body_began and unacknowledged(connection.transport):
            failed.detail, failed.spares_key = "the other side did not acknowledge it", True
            self._pool.suspect(connection)
        self.abandon()
        self._deadlines.release(self)
        self.fail(Failure(failed))

    def _silence(self) -> float:
        """Return for how long nothing was received, if TCP gives up after that time; else 0.

        Twisted does not say whether the peer sent a reset or stopped answering.
        """
        patience = self._limits.idle if self._body_began else self._limits.first_byte
        silent = self._seconds() - (self._silent_at - patience)
        return silent if silent >= gone_after(self._pool.keepalive) - 1.0 else 0.0

    # -- inside ----------------------------------------------------------------------------------

    def _hand_over(self) -> None:
        """Pass received bytes to the reader, and the end of the body once it is reached."""
        done, receive = self._done, self._receive
        if done is None or receive is None or (self._paused and self._failure is None):
            return
        parser = self.parser
        pieces, decoder = parser.pieces, self._decoder
        if pieces or decoder is not None:
            try:
                if decoder is None:
                    receive(pieces.pop() if len(pieces) == 1 else parser.take())
                else:
                    self._decode(decoder, receive)
            except Exception:  # noqa: BLE001 - the receiver's failure ends this exchange, and says why
                if self._settled:
                    return
                self._settle()
                self._close_connection()
                done.errback(Failure())
                return
        if self._settled or self._turn is not None:
            return
        if self._failure is not None:
            self._settle()
            done.errback(self._failure)
        elif (
            parser.complete and not pieces and (decoder is None or self._is_decoded(decoder, done))
        ):
            self._settle()
            done.callback(None)

    # -- content codings -------------------------------------------------------------------------

    def _set_decoder(self, coding: bytes) -> bool:
        """Set up the decoder of ``coding``; if it is unknown, fail and return ``False``."""
        try:
            self._decoder = decoder_of(coding)
        except UnknownCoding:
            self._close_connection()
            self.fail(Failure())
            return False
        return True

    def _decode(self, decoder: Decoder, receive: Callable[[bytes], None]) -> None:
        """Decode received bytes and pass them on in pieces, while the reader is not paused.

        Long work continues in further turns of the reactor; until then the socket is not read.
        """
        decoder.feed(self.parser.take())
        if self._turn is not None:
            return
        left = PIECE_BYTES
        try:
            while decoder.pending and not self._settled and (not self._paused or self._failure):
                if left <= 0:
                    self._turn = self._pool.call_later(0, self._take_turn)
                    self._flow()
                    return
                piece = decoder.take()
                left -= max(len(piece), MIN_PIECE_COST)
                if piece:
                    receive(piece)
        except CodingError as error:
            detail = str(error)
            raise UpstreamFailed(FailureKind.GARBAGE, detail=detail, spares_key=True) from None

    def _take_turn(self) -> None:
        self._turn = None
        self._hand_over()
        self._flow()

    def _is_decoded(self, decoder: Decoder, done: Deferred[None]) -> bool:
        """Return whether all was passed on; fail if the coding ends too early."""
        if decoder.complete:
            return True
        if not decoder.pending:
            self._settle()
            detail = "the content coding has no end"
            done.errback(UpstreamFailed(FailureKind.TRUNCATED, detail=detail))
        return False

    def _flow(self) -> None:
        """Read the socket only while a reader takes the bytes."""
        connection = self.connection
        if connection is None or self.parser.complete or self._settled:
            return
        if self._paused or self._done is None or self._turn is not None:
            connection.pause()
        else:
            connection.resume()

    def _settle(self) -> None:
        self._settled = True
        self._answered = self._done = self._receive = None
        self._deadlines.release(self)
        turn, self._turn = self._turn, None
        if turn is not None:
            turn.cancel()

    def _cancel(self, _: object) -> None:
        """Stop, since nobody waits for the response."""
        self._settle()
        self.abandon()

    def _close_connection(self) -> None:
        """Close the connection, also after the end of the response: the response was not usable."""
        if self.connection is not None:
            self.connection.close_unless_reused(self)


class Collected:
    """Collects pieces of a body of at most ``limit`` bytes."""

    def __init__(self, limit: int) -> None:
        self._pieces: list[bytes] = []
        self._left = limit

    def add(self, data: bytes) -> None:
        self._left -= len(data)
        if self._left < 0:
            raise UpstreamFailed(FailureKind.TOO_LARGE)
        self._pieces.append(data)

    def whole(self) -> bytes:
        return self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
