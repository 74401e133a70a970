"""The core's ``Upstream`` on treq: each exchange with its deadlines, each failure given a kind.

Twisted's exceptions become :class:`UpstreamFailed` here and nowhere else. Cancelling what ``send``,
``read`` or ``stream`` returned closes the connection: the upstream stops generating.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from OpenSSL import SSL
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import (
    ConnectionClosed,
    ConnectionRefusedError,  # noqa: A004
    DNSLookupError,
    TCPTimedOutError,
    TimeoutError,  # noqa: A004
)
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from twisted.web._newclient import ParseError
from twisted.web.client import ResponseDone
from twisted.web.http import PotentialDataLoss, _DataLoss
from twisted.web.http_headers import Headers

from gemproxy.errors import FailureKind, UpstreamFailed
from gemproxy.interfaces import UpstreamRequest
from gemproxy.upstream.agent import (
    ConnectedResponse,
    UpstreamAgent,
    UpstreamClient,
    upstream_endpoint,
)
from gemproxy.upstream.connections import ConnectionPool, UpstreamConnection

if TYPE_CHECKING:
    from gemproxy.config.settings import UpstreamSettings
    from gemproxy.secret import Secret

#: The first class that an exception, or one of the reasons that it wraps, is an instance of.
_KINDS: tuple[tuple[type[BaseException], FailureKind], ...] = (
    (ConnectionRefusedError, FailureKind.REFUSED),
    (DNSLookupError, FailureKind.DNS),
    (TCPTimedOutError, FailureKind.CONNECT_TIMEOUT),
    (TimeoutError, FailureKind.CONNECT_TIMEOUT),
    (SSL.Error, FailureKind.TLS),
    (ParseError, FailureKind.GARBAGE),
    (_DataLoss, FailureKind.TRUNCATED),
    (ConnectionClosed, FailureKind.RESET),
    (ValueError, FailureKind.GARBAGE),
)


def _causes(failure: Failure) -> list[BaseException]:
    """The exception, and all that twisted.web has wrapped in it."""
    causes: list[Any] = [failure.value]
    for cause in causes:
        causes.extend(reason.value for reason in getattr(cause, "reasons", ()))
    return causes


def failure_kind(failure: Failure) -> FailureKind:
    """What became of an exchange that ended with ``failure``."""
    causes = _causes(failure)
    if any(type(cause).__module__.startswith("service_identity") for cause in causes):
        return FailureKind.TLS
    for kind_of, kind in _KINDS:
        if any(isinstance(cause, kind_of) for cause in causes):
            return kind
    return FailureKind.RESET


@dataclass(frozen=True)
class _Way:
    """The way to one upstream: its connections, and what every request on them has in common."""

    pool: ConnectionPool
    client: UpstreamClient
    prefix: bytes
    headers: Mapping[bytes, list[bytes]]

    def headers_with(self, key: Secret) -> Headers:
        return Headers({**self.headers, b"x-goog-api-key": [key.reveal().encode("utf-8")]})


def _reach(settings: UpstreamSettings) -> tuple[object, ...]:
    """What of the settings is built into connections; the rest is looked up at each request."""
    return (
        settings.base_url,
        settings.ca_file,
        settings.http_proxy,
        settings.connect_timeout_seconds,
        settings.max_connections_per_host,
    )


class TreqUpstream:
    """Gemini over HTTP. ``start`` before the first request, ``stop`` after the last."""

    def __init__(self, reactor: Any, settings: UpstreamSettings, user_agent: str) -> None:
        self._reactor = reactor
        self._settings = settings
        self._user_agent = user_agent.encode("ascii")
        self._started = False
        self._way = self._make_way(settings)

    def start(self) -> None:
        """Begin to look after idle connections."""
        self._started = True
        self._way.pool.start()

    def stop(self) -> None:
        """Close the connections."""
        self._started = False
        self._way.pool.stop()

    def apply(self, settings: UpstreamSettings) -> None:
        """Take over new settings, from the next request on.

        Where they change how the upstream is reached, new connections are made, and each old one
        closes when its request ends. Raises :class:`~gemproxy.errors.ConfigError` for a trust root
        that cannot be used; then nothing has changed.
        """
        if _reach(settings) != _reach(self._settings):
            old, self._way = self._way, self._make_way(settings)
            if self._started:
                self._way.pool.start()
                old.pool.stop()
        self._settings = settings

    def _make_way(self, settings: UpstreamSettings) -> _Way:
        pool = ConnectionPool(
            self._reactor,
            upstream_endpoint(self._reactor, settings),
            settings.max_connections_per_host,
        )
        agent = UpstreamAgent(pool, settings.base_url)
        headers = {
            b"host": [agent.netloc],
            b"user-agent": [self._user_agent],
            b"content-type": [b"application/json"],
        }
        return _Way(pool, UpstreamClient(agent), agent.path_prefix, headers)

    def send(self, request: UpstreamRequest) -> Deferred[TreqResponse]:
        """See :meth:`gemproxy.interfaces.Upstream.send`."""
        settings, way = self._settings, self._way
        sent_at = self._reactor.seconds()
        left = request.deadline - sent_at
        limit, kind, setting = settings.first_byte_timeout_seconds, *_FIRST_BYTE
        if left < limit:
            limit, kind, setting = max(left, 0.0), *_DEADLINE
        sent: Deferred[ConnectedResponse] = way.client.request(
            request.method,
            way.prefix + request.path,
            headers=way.headers_with(request.key),
            data=request.body,
        )
        expired = UpstreamFailed(kind, setting)
        watch = _Watch(self._reactor, limit, sent.cancel)

        def answered(response: ConnectedResponse) -> TreqResponse:
            watch.stop()
            return TreqResponse(self._reactor, response, settings, request.deadline, sent_at)

        def failed(failure: Failure) -> NoReturn:
            watch.stop()
            if nobody_waits:
                raise CancelledError
            if watch.expired:
                raise expired
            raise UpstreamFailed(failure_kind(failure)) from failure.value

        # What a cancelled exchange fails with depends on how far it has come: a look-up says that
        # there is no such name, a connection that it was cancelled. None of it is the upstream's.
        nobody_waits = False

        def leave(_: Deferred[TreqResponse]) -> None:
            nonlocal nobody_waits
            nobody_waits = True
            sent.cancel()

        response: Deferred[TreqResponse] = Deferred(leave)
        sent.addCallbacks(answered, failed).chainDeferred(response)
        return response


_FIRST_BYTE = (FailureKind.FIRST_BYTE_TIMEOUT, "firstByteTimeoutSeconds")
_IDLE = (FailureKind.IDLE_TIMEOUT, "idleTimeoutSeconds")
_DEADLINE = (FailureKind.DEADLINE, "requestTimeoutSeconds")


class _Watch:
    """Calls ``act`` once ``seconds`` have passed, unless stopped before."""

    def __init__(self, reactor: IReactorTime, seconds: float, act: Callable[[], object]) -> None:
        self._act = act
        self.expired = False
        self._call: IDelayedCall = reactor.callLater(seconds, self._expire)

    def stop(self) -> None:
        if self._call.active():
            self._call.cancel()

    def _expire(self) -> None:
        self.expired = True
        self._act()


class TreqResponse:
    """Status and headers of an answer, and its body when it comes."""

    def __init__(
        self,
        reactor: IReactorTime,
        response: ConnectedResponse,
        settings: UpstreamSettings,
        deadline: float,
        sent_at: float,
    ) -> None:
        self.status: int = response.code
        self._response = response
        connection: UpstreamConnection = response.original.connection
        self._body = _Body(
            reactor,
            connection,
            settings.idle_timeout_seconds,
            deadline,
            sent_at + settings.first_byte_timeout_seconds,
        )

    @property
    def headers(self) -> Mapping[str, str]:
        """Names in lower case; of repeated headers the last."""
        return {
            name.decode("latin-1").lower(): values[-1].decode("latin-1")
            for name, values in self._response.headers.getAllRawHeaders()
        }

    def read(self, limit: int) -> Deferred[bytes]:
        """The whole body, at most ``limit`` bytes."""
        collected = _Collected(limit)
        self._body.receive = collected.add
        self._response.deliverBody(self._body)
        return self._body.done.addCallback(lambda _: b"".join(collected.pieces))

    def stream(self, receive: Callable[[bytes], None]) -> Deferred[None]:
        """Hand over the body as it comes, all of one read of the socket at once."""
        self._body.receive = receive
        self._body.connection.flush = self._body.flush
        self._response.deliverBody(self._body)
        return self._body.done

    def pause(self) -> None:
        """Stop reading from the upstream's socket."""
        self._body.pause()

    def resume(self) -> None:
        """Go on reading."""
        self._body.resume()


class _Collected:
    """Pieces of a body that may not grow past ``limit`` bytes."""

    def __init__(self, limit: int) -> None:
        self.pieces: list[bytes] = []
        self._left = limit

    def add(self, data: bytes) -> None:
        self._left -= len(data)
        if self._left < 0:
            raise UpstreamFailed(FailureKind.TOO_LARGE)
        self.pieces.append(data)


class _Body(Protocol):
    """Receives a body under two deadlines: ``idle`` seconds between two reads, and the request's.

    Waiting for a client that reads slowly does not count as the upstream's silence.
    """

    #: twisted.web's stand-in for the connection's transport, a push producer.
    transport: Any
    receive: Callable[[bytes], None]

    def __init__(
        self,
        reactor: IReactorTime,
        connection: UpstreamConnection,
        idle: float,
        deadline: float,
        first_by: float,
    ) -> None:
        self.connection = connection
        self.done: Deferred[None] = Deferred(self._cancelled)
        self._reactor = reactor
        self._idle = idle
        self._deadline = deadline
        self._heard = reactor.seconds()
        self._first_by: float | None = first_by
        self._pieces: list[bytes] = []
        self._paused = False
        self._over = False
        self._watch: IDelayedCall | None = None

    def connectionMade(self) -> None:
        self._arm()

    def dataReceived(self, data: bytes) -> None:
        if self._first_by is not None:
            self._first_by = None
            self._disarm()
            self._heard = self._reactor.seconds()
            self._arm()
        self._pieces.append(data)
        if self.connection.flush is None:
            self.flush()

    def flush(self) -> None:
        """Hand on what has come since the last time."""
        if not self._pieces or self._over:
            return
        self._heard = self._reactor.seconds()
        data = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces.clear()
        try:
            self.receive(data)
        except Exception:  # noqa: BLE001 - the receiver's failure ends this exchange, and says why
            self._end(Failure())

    def connectionLost(self, reason: Failure = Failure(ResponseDone())) -> None:  # noqa: B008
        self.flush()
        if self._over:
            return
        if reason.check(ResponseDone, PotentialDataLoss):
            self._over = True
            self._disarm()
            self.done.callback(None)
        else:
            kind = failure_kind(reason)
            if kind is FailureKind.RESET:
                kind = FailureKind.TRUNCATED
            self._end(Failure(UpstreamFailed(kind)))

    def pause(self) -> None:
        self._paused = True
        if not self._over:
            self.transport.pauseProducing()

    def resume(self) -> None:
        self._paused = False
        self._heard = self._reactor.seconds()
        if not self._over:
            self.transport.resumeProducing()

    def _end(self, failure: Failure) -> None:
        """Fail, and close the connection: nobody reads on."""
        if not self._over:
            self._close()
            self.done.errback(failure)

    def _close(self) -> None:
        self._over = True
        self._disarm()
        self.connection.transport.abortConnection()

    def _cancelled(self, _: Deferred[None]) -> None:
        if not self._over:
            self._close()

    def _arm(self) -> None:
        now = self._reactor.seconds()
        silent_at = self._first_by or (now if self._paused else self._heard) + self._idle
        self._watch = self._reactor.callLater(
            max(min(silent_at, self._deadline) - now, 0.0), self._look
        )

    def _disarm(self) -> None:
        if self._watch is not None and self._watch.active():
            self._watch.cancel()

    def _look(self) -> None:
        now = self._reactor.seconds()
        if now >= self._deadline:
            self._end(Failure(UpstreamFailed(*_DEADLINE)))
        elif self._first_by is not None:
            if now >= self._first_by:
                self._end(Failure(UpstreamFailed(*_FIRST_BYTE)))
            else:
                self._arm()
        elif not self._paused and now >= self._heard + self._idle:
            self._end(Failure(UpstreamFailed(*_IDLE)))
        else:
            self._arm()
