"""The gate of the admin API: authentication, and the common part of requests and answers.

Nothing is disclosed before the token is checked: neither whether a path exists nor which methods it
accepts. An address grants no permission, since behind a reverse proxy every client is local. Only
the dashboard's files, which hold no data, are served to everybody. Admin requests do not count as
requests in flight and are served during a drain, because the operator needs them then.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, NamedTuple

from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import IReactorTime

from gemproxy.admin.dashboard import Document, is_known
from gemproxy.buffer_list import BufferList
from gemproxy.core.audit import Actor
from gemproxy.core.context import RequestContext
from gemproxy.core.errors import Unauthorized
from gemproxy.http.auth import TokenAuth, has_bearer_token
from gemproxy.http.auth_failures import AuthFailures
from gemproxy.http.coroutine_runner import CoroutineRunner
from gemproxy.http.lifecycle import Lifecycle, LifecycleSettings
from gemproxy.http.request import ProxyRequest
from gemproxy.http.response_writer import JSON, RequestWriter, lines, write_whole
from gemproxy.http.routes import READING

if TYPE_CHECKING:
    from gemproxy.api.dialects import Dialect
    from gemproxy.core.events import RequestListener

#: Bytes that are made and scrubbed in one turn of the reactor; more would take milliseconds.
_LARGE = 2 * 1024
_OK, _NOT_MODIFIED = 200, 304
#: Answers must not be cached, nor read by pages of other sites.
_HEADERS = (
    (b"Cache-Control", b"no-store"),
    (b"X-Content-Type-Options", b"nosniff"),
    (b"Cross-Origin-Resource-Policy", b"same-origin"),
)


class Page(NamedTuple):
    """The body of an answer, in pieces that split no secret.

    A large body is made piece by piece while it is scrubbed.
    """

    pieces: Iterable[bytes]
    content_type: bytes = JSON
    status: int = 200
    #: Whether it shows a token on purpose; then it is not scrubbed.
    shows_token: bool = False


def _tell_nobody() -> None:
    pass


@dataclass(frozen=True)
class AdminDependencies:
    """What the gate needs from the rest of the daemon.

    ``telemetry`` is called for every request, ``refused`` for every one without the right token;
    ``dialect`` encodes errors, and ``scrub`` takes secrets out of everything that is written;
    ``pause`` lets other requests run in the middle of long work.
    """

    telemetry: RequestListener
    dialect: Dialect
    scrub: Callable[[bytes], bytes]
    new_request_id: Callable[[], str]
    pause: Callable[[], Awaitable[None]]
    refused: Callable[[], None] = _tell_nobody


class AdminAuthGate(Lifecycle):
    """See the module. ``auth`` may be replaced between two requests."""

    _headers = lines(_HEADERS)

    def __init__(
        self,
        reactor: IReactorTime,
        auth: TokenAuth,
        dependencies: AdminDependencies,
        failures: AuthFailures | None = None,
    ) -> None:
        super().__init__(
            reactor,
            LifecycleSettings(heartbeat=0.0),
            dependencies.telemetry,
            dependencies.new_request_id,
            dependencies.dialect,
            dependencies.scrub,
        )
        self.dialect = dependencies.dialect
        self.auth = auth
        self._pause = dependencies.pause
        self._refused = dependencies.refused
        self._failures = failures or AuthFailures()

    def authenticate(self, request: ProxyRequest, route: str) -> None:
        """Authenticate the operator, before the body is read. Raises :class:`ProxyError`.

        ``route`` is the path's template. The right token is accepted from a locked-out address.
        """
        request.context, _ = self._begin(request, route)
        authorization = request.header(b"authorization")
        try:
            client = self.auth.operator(authorization)
        except Unauthorized:
            self._refused()
            self._refuse(request, request.context, authorization)
            raise
        request.actor = Actor(self._failures.address_of(request), client.name or "")

    def handle(
        self, request: ProxyRequest, serve: Callable[[Actor], Awaitable[Page]]
    ) -> CoroutineRunner:
        """Answer with the result of ``serve``, or with its error.

        ``serve`` is not cancelled if the client disconnects: a change that began is completed.
        """
        actor = request.actor
        if actor is None:
            raise RuntimeError("a request is served whose head was not checked")

        async def answer(context: RequestContext, writer: RequestWriter) -> int:
            page = await serve(actor)
            body, etag = await self._scrubbed(page)
            if request._disconnected:
                raise CancelledError
            context.outcome = "success"
            status, headers = page.status, b""
            if request.method in READING and page.content_type == JSON:
                headers = lines([(b"ETag", etag)])
                if is_known(etag, request.header(b"if-none-match")):
                    status = _NOT_MODIFIED
            if status == _OK:
                writer.answer(body, page.content_type, headers)
                return status
            writer.started = writer.opened = True
            now = self._reactor.seconds()
            headers = writer.headers(now) + headers
            write_whole(request, status, headers, bytes(body), now, page.content_type)
            return status

        context, writer = self._begin(request, request.route, request.context)
        return CoroutineRunner(self._serve(request, context, writer, answer))

    def serve_static(self, request: ProxyRequest, route: str, document: Document) -> None:
        """Answer with a public file."""
        headers = lines([(b"ETag", document.etag), *document.headers])
        context, writer = self._begin(request, route, headers=headers)
        context.outcome = "success"
        known = document.is_in(request.header(b"if-none-match"))
        status = _NOT_MODIFIED if known else document.status
        now = self._reactor.seconds()
        write_whole(request, status, writer.headers(now), document.body, now, document.content_type)
        self._report(context, status)

    def _refuse(
        self, request: ProxyRequest, context: RequestContext, authorization: bytes | None
    ) -> None:
        self._failures.check(request, context.started)
        if has_bearer_token(authorization):
            self._log.warn(
                "wrong token for the admin API",
                address=self._failures.address_of(request),
                request_id=context.id,
            )
            self._failures.count(request, context.started)

    async def _scrubbed(self, page: Page) -> tuple[BufferList, bytes]:
        """The body without secrets, and its ETag."""
        clean, digest, since = [], blake2b(digest_size=16), 0
        for piece in page.pieces:
            clean.append(piece if page.shows_token else self._scrub(piece))
            digest.update(clean[-1])
            since += len(piece)
            if since > _LARGE:
                since = 0
                await self._pause()
        return BufferList(clean), b'"%b"' % digest.hexdigest().encode("ascii")
