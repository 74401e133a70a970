"""The gate of the admin API: authentication, and what all its requests and answers share.

Nothing is disclosed before the token is checked: neither whether a path exists nor which methods
it takes. An address grants no permission, since behind a reverse proxy every client is local. Only
the dashboard's files, which hold no data, are served to everybody. Admin requests do not count as
requests in flight and are served during a drain, because that is when the operator needs them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from gemproxy.admin.dashboard import Document
from gemproxy.clock import wall_clock
from gemproxy.core.audit import Actor
from gemproxy.core.context import RequestContext
from gemproxy.core.errors import InternalError, ProxyError, Unauthorized
from gemproxy.http.auth import TokenAuth, has_bearer_token
from gemproxy.http.auth_failures import AuthFailures
from gemproxy.http.response_writer import JSON, RequestWriter, lines, write_whole
from gemproxy.http.site import CLIENT_CLOSED_REQUEST, ProxyRequest, request_id_of

if TYPE_CHECKING:
    from gemproxy.core.events import RequestListener
    from gemproxy.core.interfaces import ErrorEncoder

#: Bytes; scrubbing more takes milliseconds.
_LARGE = 16 * 1024
#: Answers are for no cache and no page of another site.
_HEADERS = (
    (b"Cache-Control", b"no-store"),
    (b"X-Content-Type-Options", b"nosniff"),
    (b"Cross-Origin-Resource-Policy", b"same-origin"),
)


class Page(NamedTuple):
    """The body of an answer with status 200, in pieces that no secret can straddle."""

    pieces: tuple[bytes, ...]
    content_type: bytes = JSON


def _tell_nobody() -> None:
    pass


@dataclass(frozen=True)
class AdminDependencies:
    """What the gate uses of the rest of the daemon.

    ``telemetry`` hears of every request, ``refused`` of every one without the right token;
    ``errors`` encodes errors, and ``scrub`` stands before everything that is written; ``pause``
    gives others their turn in the middle of long work.
    """

    telemetry: RequestListener
    errors: ErrorEncoder
    scrub: Callable[[bytes], bytes]
    new_request_id: Callable[[], str]
    pause: Callable[[], Awaitable[None]]
    refused: Callable[[], None] = _tell_nobody


class AdminAuthGate:
    """See the module. ``auth`` may be replaced between two requests."""

    _log = Logger()

    def __init__(
        self,
        reactor: IReactorTime,
        auth: TokenAuth,
        dependencies: AdminDependencies,
        failures: AuthFailures | None = None,
    ) -> None:
        self.auth = auth
        #: Encodes the errors of the admin API.
        self.errors = dependencies.errors
        self._reactor = reactor
        self._wall = wall_clock(reactor)
        self._dependencies = dependencies
        self._failures = failures or AuthFailures()

    def authenticate(self, request: ProxyRequest, route: str) -> None:
        """Authenticate the operator, before the body is read. Raises :class:`ProxyError`.

        ``route`` is the path's template.
        """
        request.admin_context = self._begin(request, route)
        request.actor = self._authenticate(request, request.admin_context)

    def handle(
        self, request: ProxyRequest, serve: Callable[[Actor], Awaitable[Page]]
    ) -> Deferred[None]:
        """Let the operator in, and answer with what ``serve`` gives or raises.

        Fires when the request is over. A client that leaves stops nothing: what an operator
        began is done, whole.
        """
        actor, context = request.actor, request.admin_context
        if actor is None or context is None:
            raise RuntimeError("a request was to be served whose head nobody has checked")
        over: Deferred[None] = Deferred()
        work = Deferred.fromCoroutine(self._serve(request, context, serve(actor)))
        # Klein cancels what it waits for when the client leaves; the work does not hear of it.
        work.addBoth(over.callback)
        return over

    def serve_static(self, request: ProxyRequest, route: str, document: Document) -> Deferred[None]:
        """Answer with a public file. Fires at once."""
        context = self._begin(request, route)
        context.outcome = "success"
        status = 304 if document.is_in(request.header(b"if-none-match")) else document.status
        headers = [(b"ETag", document.etag), *document.headers]
        self._send(request, context, status, document.body, document.content_type, headers)
        return succeed(None)

    def reject(self, request: ProxyRequest, error: ProxyError) -> None:
        """Answer a request that ended before it began."""
        context = request.admin_context or self._begin(request, "refused")
        context.turned_away = True
        self._fail(request, context, error)

    async def _serve(
        self,
        request: ProxyRequest,
        context: RequestContext,
        answer: Awaitable[Page],
    ) -> None:
        try:
            page = await answer
            body = await self._scrubbed(page)
        except ProxyError as error:
            self._fail(request, context, error)
        except Exception:  # noqa: BLE001 - a defect of ours must not leave the operator waiting
            self._log.failure("request {request_id} failed", request_id=context.id)
            words = f"The proxy failed to serve this request (id {context.id})."
            self._fail(request, context, InternalError(words))
        else:
            context.outcome = "success"
            self._send(request, context, 200, body, page.content_type, _HEADERS)

    # -- who it is -------------------------------------------------------------------------------

    def _authenticate(self, request: ProxyRequest, context: RequestContext) -> Actor:
        """Return the operator. The right token is accepted from a locked-out address as well."""
        authorization = request.header(b"authorization")
        try:
            client = self.auth.operator(authorization)
        except Unauthorized:
            self._dependencies.refused()
            self._refuse(request, has_bearer_token(authorization), context)
            raise
        return Actor(self._failures.address_of(request), client.name or "")

    def _refuse(self, request: ProxyRequest, brought_token: bool, context: RequestContext) -> None:
        self._failures.check(request, context.started)
        if brought_token:
            self._log.warn(
                "wrong token for the admin API",
                address=self._failures.address_of(request),
                request_id=context.id,
            )
            self._failures.count(request, context.started)

    # -- the answer ------------------------------------------------------------------------------

    def _begin(self, request: ProxyRequest, route: str) -> RequestContext:
        request_id = request_id_of(request, self._dependencies.new_request_id)
        return RequestContext(request_id, route, self._reactor.seconds())

    def _fail(self, request: ProxyRequest, context: RequestContext, error: ProxyError) -> None:
        context.outcome = error.word
        answer = self.errors.answer(error)
        body = self._dependencies.scrub(answer.body)
        self._send(request, context, answer.status, body, JSON, [*_HEADERS, *answer.headers])

    async def _scrubbed(self, page: Page) -> bytes:
        clean = []
        for piece in page.pieces:
            clean.append(self._dependencies.scrub(piece))
            if len(piece) > _LARGE:
                await self._dependencies.pause()
        return b"".join(clean)

    def _send(
        self,
        request: ProxyRequest,
        context: RequestContext,
        status: int,
        body: bytes,
        content_type: bytes,
        headers: Iterable[tuple[bytes, bytes]],
    ) -> None:
        now = self._reactor.seconds()
        context.epoch_offset = self._wall() - now
        if request._disconnected:
            status, context.outcome = CLIENT_CLOSED_REQUEST, "client_gone"
        else:
            writer = RequestWriter(
                self._reactor, request, context, lines(headers), 0, self._dependencies.errors
            )
            every = writer.headers(now)
            write_whole(request, status, every, body, now, content_type)
        self._dependencies.telemetry.request_ended(context, status, now - context.started)
