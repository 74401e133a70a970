"""The lifecycle of a request, around the work of its endpoint.

A request gets an id and a context, is admitted or rejected, served, and reported once. Only here an
exception becomes an answer. The admin API shares this
(:class:`gemproxy.admin.auth_gate.AdminAuthGate`).
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from gemproxy.api.base import Route
from gemproxy.api.dialects import DialectChoice
from gemproxy.clock import wall_clock
from gemproxy.core.admission import Admission, AdmissionLimits
from gemproxy.core.clients import ANONYMOUS
from gemproxy.core.context import RequestContext
from gemproxy.core.errors import (
    ClientLimitReached,
    Draining,
    Forbidden,
    InternalError,
    MethodNotAllowed,
    ProxyError,
    RequestTooLarge,
    Unauthorized,
    UnknownURL,
)
from gemproxy.core.events import RequestListener
from gemproxy.core.limits import ClientLimits, Reservation
from gemproxy.http.auth_failures import AuthFailures
from gemproxy.http.client_checks import check_client
from gemproxy.http.coroutine_runner import CoroutineRunner
from gemproxy.http.credentials import bearer_token, take_token
from gemproxy.http.response_writer import RequestWriter, lines, write_whole
from gemproxy.http.site import CLIENT_CLOSED_REQUEST, ProxyRequest, request_id_of

if TYPE_CHECKING:
    from gemproxy.core.clients import Client
    from gemproxy.http.auth import TokenAuth

#: Response headers that pages of other origins may read: those that SDKs use.
_EXPOSED = (
    b"x-request-id, request-id, retry-after, x-should-retry, openai-processing-ms,"
    b" x-ratelimit-limit-requests, x-ratelimit-remaining-requests, x-ratelimit-reset-requests,"
    b" x-ratelimit-limit-tokens, x-ratelimit-remaining-tokens, x-ratelimit-reset-tokens,"
    b" anthropic-ratelimit-requests-limit, anthropic-ratelimit-requests-remaining,"
    b" anthropic-ratelimit-requests-reset, anthropic-ratelimit-tokens-limit,"
    b" anthropic-ratelimit-tokens-remaining, anthropic-ratelimit-tokens-reset,"
    b" x-gemproxy-attempts, x-gemini-service-tier, server-timing, x-goog-upload-url,"
    b" x-goog-upload-control-url, x-goog-upload-status, x-goog-upload-size-received,"
    b" x-goog-upload-chunk-granularity"
)
#: Request headers that a preflight allows if it names none: those that SDKs send.
_ALLOWED = b"authorization, content-type, x-api-key, x-goog-api-key, anthropic-version"
#: Bytes. The limit for a body of a client without a token.
_PUBLIC_BODY = 4096
_HEADER_NAMES = re.compile(rb"[A-Za-z0-9_, -]{1,1000}\Z")


@dataclass(frozen=True)
class LifecycleSettings:
    """The operator's settings for the public API.

    ``heartbeat`` is in seconds, 0 for none, and ``headers_after`` as well, None for never.
    """

    limits: AdmissionLimits = field(default_factory=AdmissionLimits)
    heartbeat: float = 15.0
    headers_after: float | None = 20.0
    cors_origins: frozenset[str] = frozenset()


class Lifecycle:
    """The common part of both APIs: a context, the answer to a failure, one report.

    ``new_request_id`` returns an id for a request without one, ``dialects`` chooses the dialect of
    a request that has no route, and ``scrub`` removes secrets from the bodies of errors, which may
    repeat what the client sent. ``settings`` may be replaced at any time.
    """

    _log = Logger()
    #: Headers of every answer, if CORS adds none.
    _headers = b""

    def __init__(
        self,
        reactor: IReactorTime,
        settings: LifecycleSettings,
        events: RequestListener,
        new_request_id: Callable[[], str],
        dialects: DialectChoice,
        scrub: Callable[[bytes], bytes],
    ) -> None:
        self.settings = settings
        self.dialects = dialects
        self._reactor = reactor
        self._wall = wall_clock(reactor)
        self._events = events
        self._new_request_id = new_request_id
        self._scrub = scrub
        #: The requests that can be cancelled, by their writers.
        self._runners: dict[RequestWriter, CoroutineRunner] = {}

    def release(self, request: ProxyRequest) -> None:
        """See :class:`gemproxy.http.gate.RequestGate`."""

    def reject(self, request: ProxyRequest, error: ProxyError) -> None:
        """See :class:`gemproxy.http.gate.RequestGate`."""
        context, writer = self._begin(request, request.route, request.context)
        context.turned_away = True
        context.outcome = error.word
        if request.reservation is not None:
            request.reservation.cancel()
            if isinstance(error, ClientLimitReached):
                context.over_limit = error.limit
        self._report(context, writer.fail(error))

    def _begin(
        self,
        request: ProxyRequest,
        route: str,
        context: RequestContext | None = None,
        headers: bytes | None = None,
    ) -> tuple[RequestContext, RequestWriter]:
        caller = request.caller or ANONYMOUS
        if context is None:
            request_id = request_id_of(request, self._new_request_id)
            now = self._reactor.seconds()
            context = RequestContext(
                request_id,
                route,
                now,
                client=caller.name,
                epoch_offset=self._wall() - now,
                caller=caller,
            )
        elif request.caller is not None:
            context.caller, context.client = caller, caller.name
        settings = self.settings
        origins = settings.cors_origins
        if origins:
            headers = lines(cors_headers(request, origins))
        writer = RequestWriter(
            self._reactor,
            request,
            context,
            self._headers if headers is None else headers,
            settings.heartbeat,
            request.dialect or self.dialects.of(request.uri, request.values),
            self._scrub,
            settings.headers_after,
        )
        if caller.debug:
            writer.tells_key = True
        if caller.is_limited:
            context.reservation = request.reservation
        return context, writer

    async def _serve(
        self,
        request: ProxyRequest,
        context: RequestContext,
        writer: RequestWriter,
        serve: Callable[[RequestContext, RequestWriter], Awaitable[int | None]],
    ) -> None:
        """Run ``serve``, answer with its error if it raises, and report the request.

        ``serve`` returns the status of its answer, ``None`` for 200.
        """
        status = 200
        try:
            status = await serve(context, writer) or status
        except ProxyError as error:
            status = self._fail(request, context, writer, error)
        except CancelledError:
            if request._disconnected:
                status = _disconnected(request, context)
            else:
                status = self._cut_off(request, context, writer)
        except Exception:  # noqa: BLE001 - a defect of ours must not leave the client waiting
            self._log.failure("request {request_id} failed", request_id=context.id)
            context.outcome = "internal_error"
            defect = InternalError(f"The proxy failed to serve this request (id {context.id}).")
            status = self._fail(request, context, writer, defect)
        finally:
            writer.close()
            self._runners.pop(writer, None)
            self._report(context, status)
            request.is_working = False
            self.release(request)

    def _fail(
        self,
        request: ProxyRequest,
        context: RequestContext,
        writer: RequestWriter,
        error: ProxyError,
    ) -> int:
        if request._disconnected:
            return _disconnected(request, context)
        if not context.outcome:
            context.outcome = error.word
        if isinstance(error, ClientLimitReached):
            context.turned_away, context.over_limit = True, error.limit
        return writer.fail(error)

    def _cut_off(
        self, request: ProxyRequest, context: RequestContext, writer: RequestWriter
    ) -> int:
        """Send the client an error at the end of a drain, within its stream if that has begun."""
        error = Draining("The proxy stopped before this request was complete.", retry_after=1)
        context.outcome = "draining"
        request.channel.persistent = False
        return writer.fail(error)

    def _report(self, context: RequestContext, status: int) -> None:
        now = self._reactor.seconds()
        # Measured again: the wall clock may have been set since the request came.
        context.epoch_offset = self._wall() - now
        self._events.request_ended(context, status, now - context.started)
        if context.reservation is not None:
            _settle(context, context.reservation, now)


class RequestLifecycle(Lifecycle):
    """The lifecycle of the requests of the public API.

    A request passes :meth:`check_head` before its body is read, and :meth:`handle` when the body is
    complete. ``auth`` may be replaced between two requests.
    """

    def __init__(
        self,
        reactor: IReactorTime,
        settings: LifecycleSettings,
        auth: TokenAuth,
        events: RequestListener,
        new_request_id: Callable[[], str],
        dialects: DialectChoice,
        scrub: Callable[[bytes], bytes] = bytes,
        failures: AuthFailures | None = None,
        client_limits: ClientLimits | None = None,
    ) -> None:
        super().__init__(reactor, settings, events, new_request_id, dialects, scrub)
        self.auth = auth
        self.client_limits = client_limits or ClientLimits()
        self.admission = Admission()
        self.draining = False
        #: Whether a drain will follow; requests are still served (lame duck).
        self.leaving = False
        self._failures = failures or AuthFailures()
        self._idle: list[Deferred[None]] = []
        self._aborted = False

    @property
    def in_flight(self) -> int:
        """The number of requests that were admitted and have not ended."""
        return self.admission.in_flight

    def check_head(self, request: ProxyRequest, route: Route) -> None:
        """See :class:`gemproxy.http.gate.RequestGate`. The first failed check is answered."""
        limits, length = self.settings.limits, request.length or 0
        request.route = route.template
        if request.dialect is None:
            request.dialect = route.dialect
        if self.draining:
            request.channel.persistent = False
            raise Draining("The proxy is about to stop. Try again.", retry_after=1)
        head = request._head
        values = head.values
        if b"x-api-key" in values or b"x-goog-api-key" in values or head.target != head.path:
            token = take_token(head)
        else:  # Nearly every request, without a call.
            authorization = values.pop(b"authorization", None)
            token = None if authorization is None else bearer_token(authorization)
        auth = self.auth
        try:
            request.caller = caller = auth.client(token)
        except Unauthorized:
            if token is not None:
                self._refuse_token(request)
            raise
        if caller is auth.unknown:
            # An unknown token is served here, but counts as a failed login: it may be a guess at
            # the admin token.
            self._failures.count(request, self._reactor.seconds())
        if caller.is_restricted:
            self._check_client(request, route, caller)
        request.max_body_bytes = limits.max_body
        if length > limits.max_body:
            check_size(request, length)
        if request.method not in route.methods:
            raise _not_served(request, route)
        if caller.is_limited:
            self._check_limits(request, route, caller)
        self.admission.admit(limits, length)
        request.has_place, request.buffered_bytes = True, length

    def check_upload(
        self,
        request: ProxyRequest,
        route: Route,
        owner: Client | None,
        *,
        streamed: bool,
        before: int = 0,
    ) -> None:
        """As :meth:`check_head`, for a part of an upload.

        ``owner`` is the client that has begun the upload, whose other requests for it need no
        token as long as its own is valid; a token that comes nevertheless has to be the same
        client's. With ``streamed`` the body is passed on as it comes and takes no room here;
        ``before`` are the bytes of the file that came in other requests.
        """
        limits, length = self.settings.limits, request.length or 0
        request.route, request.dialect = route.template, request.dialect or route.dialect
        if self.draining:
            request.channel.persistent = False
            raise Draining("The proxy is about to stop. Try again.", retry_after=1)
        token = take_token(request._head)
        if owner is None:
            request.caller = self._client_of(request, token)
        else:
            request.caller = self.auth.current(owner)
            label = request.caller.owner.label
            if token is not None and not self._client_of(request, token).owner.owns(label):
                raise Forbidden(
                    "This upload was begun with another access token.", reason="unknown_upload"
                )
        if request.caller.is_restricted:
            self._check_client(request, route, request.caller)
        request.max_body_bytes = max(0, limits.max_upload - before) if streamed else limits.max_body
        check_size(request, length)
        if request.method not in route.methods:
            raise _not_served(request, route)
        if request.caller.is_limited:
            self._check_limits(request, route, request.caller, is_part=owner is not None)
        room = 0 if streamed else length
        self.admission.admit(limits, room)
        request.has_place, request.buffered_bytes = True, room
        request.streams_body = streamed

    def _check_limits(
        self, request: ProxyRequest, route: Route, caller: Client, *, is_part: bool = False
    ) -> None:
        """Count the request against its client's own limits. Raises :class:`ClientLimitReached`.

        A part (``is_part``) of an upload that was begun counts as one in flight only.
        If it is not served after all, :meth:`reject` or :meth:`release` cancels that.
        """
        now, wall = self._reactor.seconds(), self._wall()
        request.reservation = self.client_limits.reservation(caller, now, wall)
        if is_part:
            request.reservation.admit_part()
        elif route.is_limited:
            request.reservation.admit(now, wall)

    def check_body_size(self, request: ProxyRequest, size: int) -> None:
        """See :class:`gemproxy.http.gate.RequestGate`."""
        check_size(request, size)
        if request.streams_body:
            return
        self.admission.grow(self.settings.limits, size - request.buffered_bytes)
        request.buffered_bytes = size

    def _client_of(self, request: ProxyRequest, token: bytes | None) -> Client:
        """Return the client of ``token``, as :meth:`check_head` finds it without this call."""
        try:
            client = self.auth.client(token)
        except Unauthorized:
            if token is not None:
                self._refuse_token(request)
            raise
        if client is self.auth.unknown:
            self._failures.count(request, self._reactor.seconds())
        return client

    def _check_client(self, request: ProxyRequest, route: Route, client: Client) -> None:
        """Refuse a client that may not ask now, from there, or for this."""
        check_client(
            client,
            route.template,
            self._wall(),
            self._failures.address_of(request) if client.addresses else "",
        )

    def _refuse_token(self, request: ProxyRequest) -> None:
        """Count a wrong token, and raise :class:`LockedOut` after too many of them."""
        now = self._reactor.seconds()
        self._failures.check(request, now)
        self._failures.count(request, now)

    def release(self, request: ProxyRequest) -> None:
        """See :class:`gemproxy.http.gate.RequestGate`."""
        leaves = request.has_place and not request.is_undelivered
        if request.reservation is not None and not request.is_working:
            request.reservation.cancel()
        self.admission.release(request.buffered_bytes, place=leaves)
        request.buffered_bytes = 0
        if leaves:
            request.has_place = False
            if self._idle:
                self._check_idle()

    def handle(
        self,
        request: ProxyRequest,
        route: str,
        serve: Callable[[RequestContext, RequestWriter], Awaitable[None]],
    ) -> CoroutineRunner:
        """Serve ``request`` with ``serve``, and answer with its error if it raises.

        ``serve`` is cancelled if the client disconnects.
        """
        if not request.has_place:
            raise RuntimeError("a request is served whose head was not checked")
        request.is_working = True
        context, writer = self._begin(request, route)
        if self._events.is_detailed:
            self._events.request_started(context)
        runner = CoroutineRunner(self._serve(request, context, writer, serve))
        if not runner.over:
            self._runners[writer] = runner
            request.on_disconnect(runner.cancel)
        return runner

    def preflight(self, request: ProxyRequest, methods: tuple[str, ...]) -> None:
        """Answer a CORS preflight for a path with these ``methods``."""
        now = self._reactor.seconds()
        allowed = [
            (b"Access-Control-Allow-Methods", ", ".join(methods).encode("ascii")),
            (b"Access-Control-Allow-Headers", _asked_headers(request)),
            (b"Access-Control-Max-Age", b"600"),
        ]
        headers = self._begin(request, "preflight")[1].headers(now) + lines(allowed)
        write_whole(request, 200, headers, b"", now, b"text/plain")

    def probe(self, request: ProxyRequest, status: int, body: bytes) -> None:
        """Answer a probe, which is neither counted nor logged.

        During a drain it is answered as well, and the connection stays open: new ones are refused
        then.
        """
        now = self._reactor.seconds()
        headers = self._begin(request, "probe")[1].headers(now)
        write_whole(request, status, headers, body, now)

    def leave(self) -> None:
        """Announce a drain."""
        self.leaving = True

    def when_idle(self) -> Deferred[None]:
        """Return a Deferred that fires when no request is in flight."""
        idle: Deferred[None] = Deferred()
        self._idle.append(idle)
        self._check_idle()
        return idle

    def abort(self) -> None:
        """Cancel every request that is being served; incomplete bodies are still read."""
        self._aborted = True
        for runner in list(self._runners.values()):
            runner.cancel()
        self._check_idle()

    def _check_idle(self) -> None:
        if self._runners if self._aborted else self.admission.in_flight:
            return
        idle, self._idle = self._idle, []
        for waiting in idle:
            waiting.callback(None)


def _settle(context: RequestContext, reservation: Reservation, now: float) -> None:
    """Count what the request has used; its cost is known by now."""
    context.reservation = None
    # An answer that was thrown away is in its attempt only.
    used = [attempt.usage for attempt in context.attempts if attempt.usage is not None]
    if not used and context.usage is not None:
        used.append(context.usage)
    reservation.settle(
        sum(usage.input for usage in used),
        sum(usage.output for usage in used),
        context.cost,
        now,
        now + context.epoch_offset,
    )


def check_size(request: ProxyRequest, size: int) -> None:
    """Raise :class:`RequestTooLarge` if a body of ``size`` bytes is too large for the request."""
    if size > request.max_body_bytes:
        raise RequestTooLarge(
            f"The request body is larger than the limit of {request.max_body_bytes} bytes."
        )


def check_public(request: ProxyRequest) -> None:
    """Admit a request that needs no token. Raises :class:`RequestTooLarge`."""
    request.max_body_bytes = _PUBLIC_BODY
    check_size(request, request.length or 0)


def _disconnected(request: ProxyRequest, context: RequestContext) -> int:
    context.outcome = request.disconnect_outcome
    return CLIENT_CLOSED_REQUEST


def _not_served(request: ProxyRequest, route: Route) -> ProxyError:
    if route.methods:
        return not_allowed(request, route.allow)
    return unknown_url(request)


def not_allowed(request: ProxyRequest, allow: tuple[str, ...]) -> MethodNotAllowed:
    """Return the error for a request whose path has only the methods ``allow``."""
    method, path = _shown(request)
    return MethodNotAllowed(f"Not allowed to {method} on {path}.", allow=allow)


def unknown_url(request: ProxyRequest) -> UnknownURL:
    """Return the error for a request whose path has no route."""
    method, path = _shown(request)
    return UnknownURL(f"Unknown request URL: {method} {path}.")


def _shown(request: ProxyRequest) -> tuple[str, str]:
    """Return the method and the path for a message, cut to a sensible length."""
    return request.method.decode("latin-1")[:20], request.path.decode("latin-1")[:200]


def _asked_headers(request: ProxyRequest) -> bytes:
    asked = request.header(b"access-control-request-headers") or b""
    return asked if _HEADER_NAMES.match(asked) else _ALLOWED


def cors_headers(request: ProxyRequest, origins: frozenset[str]) -> list[tuple[bytes, bytes]]:
    """Return the headers that let a page of another origin read an answer.

    Fetch standard, section 3.3 (CORS protocol). ``origins`` are those that the operator allows.
    """
    origin = request.header(b"origin") or b""
    if "*" in origins:
        allowed = b"*"
    elif origin.decode("latin-1") in origins:
        allowed = origin
    else:
        return [(b"Vary", b"Origin")]
    return [
        (b"Access-Control-Allow-Origin", allowed),
        (b"Access-Control-Expose-Headers", _EXPOSED),
        (b"Vary", b"Origin"),
    ]
