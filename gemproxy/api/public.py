"""The public API: every path finds its endpoint, a probe, the admin API, or a refusal."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final, Protocol, TypeVar
from urllib.parse import unquote

from klein import Klein
from twisted.internet.defer import Deferred

from gemproxy.api.base import Batches, Endpoint, Job, Route
from gemproxy.api.openai.errors import OPENAI_ERRORS
from gemproxy.api.openai.models import MODEL, MODELS, ModelsEndpoint
from gemproxy.core.context import RequestContext
from gemproxy.core.dispatch import Dispatcher
from gemproxy.core.errors import InvalidRequest, ProxyError, UnknownURL
from gemproxy.http.coroutine_runner import CoroutineRunner
from gemproxy.http.gate import RequestGate
from gemproxy.http.lifecycle import RequestLifecycle, check_size
from gemproxy.http.request import ProxyRequest, decoded_path
from gemproxy.http.response_writer import JSON, RequestWriter
from gemproxy.http.routes import is_admin_path
from gemproxy.translate.shared.schema_budget import OutOfSteps

#: Bytes. A longer body may take more than 5 ms to translate: 300 KB of tool calls do.
LARGE_BODY = 256 * 1024

#: Bytes of a body without authentication.
_PROBE_BODY = 4096

_MODELS_PATH: Final = MODELS.template
_MODEL_PATHS: Final = f"{_MODELS_PATH}/"
_NO_ROUTE: Final = Route("unknown", (), OPENAI_ERRORS)
_PROBES: Final = frozenset({"/livez", "/healthz", "/readyz"})
_READING: Final = (b"GET", b"HEAD")
#: Media types of JSON, and the charsets that it may declare.
_JSON_TYPE = re.compile(rb"application/json|[^/,\s]+/[^/,\s]+\+json")
_UTF_8 = frozenset({b"utf-8", b"utf8", b"us-ascii", b"ascii"})


_T = TypeVar("_T")


class InThread(Protocol):
    """Does a work that would hold up the reactor."""

    def __call__(self, work: Callable[[], _T], /) -> Awaitable[_T]:
        """Do it, and give what it returns."""


class AdminRoutes(RequestGate, Protocol):
    """What serves the paths under ``/admin``."""

    def serve(self, request: ProxyRequest) -> Deferred[None]:
        """Answer one request that passed the gate."""


class PublicAPI:
    """The routes under ``/v1``, the probes beside them, and an answer for every other path.

    ``endpoints`` are served by ``dispatcher``, a path each. ``can_serve`` tells whether any key
    could take a request now. ``in_thread`` does a work that would hold up the reactor. ``admin``
    serves the paths under ``/admin``, unless they have a listener of their own.
    """

    app = Klein()

    def __init__(
        self,
        lifecycle: RequestLifecycle,
        dispatcher: Dispatcher,
        endpoints: Sequence[Endpoint],
        models: ModelsEndpoint,
        can_serve: Callable[[], bool],
        in_thread: InThread,
        admin: AdminRoutes | None,
    ) -> None:
        self._lifecycle = lifecycle
        self._dispatcher = dispatcher
        self._endpoints = {each.route.template: each for each in endpoints}
        #: As they come; a path that is spelled otherwise is Klein's to find.
        self._routes = {path.encode("ascii"): each.route for path, each in self._endpoints.items()}
        self._models = models
        self._can_serve = can_serve
        self._in_thread = in_thread
        self._admin = admin

    def fast_routes(self) -> dict[tuple[bytes, bytes], Callable[[ProxyRequest], object]]:
        """Routes that the site may find without Klein's router: most requests go by these."""
        return {
            (b"POST", path.encode("ascii")): partial(self._serve, each)
            for path, each in self._endpoints.items()
        }

    # -- the gate (gemproxy.http.gate.RequestGate) -----------------------------------------------

    def check_head(self, request: ProxyRequest) -> None:
        """Check a request's head by the rules of its path."""
        route = self._routes.get(request.path)
        if route is not None and request.method == b"POST":
            self._lifecycle.check_head(request, route)
        elif self._admin is not None and is_admin_path(request.path):
            self._admin.check_head(request)
        elif self._is_for_everybody(request):
            request.max_body_bytes = _PROBE_BODY
            check_size(request, request.length or 0)
        else:
            self._lifecycle.check_head(request, self._route(request))

    def check_body_size(self, request: ProxyRequest, size: int) -> None:
        """See :class:`~gemproxy.http.gate.RequestGate`."""
        if request.has_place:
            self._lifecycle.check_body_size(request, size)
        else:
            check_size(request, size)

    def release(self, request: ProxyRequest) -> None:
        """See :class:`~gemproxy.http.gate.RequestGate`."""
        self._lifecycle.release(request)

    def reject(self, request: ProxyRequest, error: ProxyError) -> None:
        """See :class:`~gemproxy.http.gate.RequestGate`."""
        if self._admin is not None and is_admin_path(request.path):
            self._admin.reject(request, error)
        else:
            self._lifecycle.reject(request, error)

    # -- the routes ------------------------------------------------------------------------------

    @app.route("/v1/<path:_>", methods=["POST"])
    def endpoint(self, request: ProxyRequest, _: str) -> Deferred[None] | None:
        """The endpoints, for paths that are spelled otherwise than in :meth:`fast_routes`."""
        endpoint = self._endpoints.get(decoded_path(request))
        if endpoint is None:
            return self.unknown(request, _)
        return self._serve(endpoint, request).ended()

    def _serve(self, endpoint: Endpoint, request: ProxyRequest) -> CoroutineRunner:
        def serve(context: RequestContext, writer: RequestWriter) -> Awaitable[None]:
            check_content_type(request)
            body = request.body()
            if len(body) < LARGE_BODY:
                try:
                    job = endpoint.decode(body, context, brief=True)
                except OutOfSteps:
                    pass  # Start again in a thread, with the larger budget.
                else:
                    return self._dispatch(job, context, writer)
            decode = partial(endpoint.decode, body, context, brief=False)
            return self._serve_large(decode, context, writer)

        return self._lifecycle.handle(request, endpoint.route.template, serve)

    @app.route(MODELS.template, methods=["GET", "HEAD"])
    def models(self, request: ProxyRequest) -> Deferred[None]:
        """``GET /v1/models``."""

        async def serve(context: RequestContext, writer: RequestWriter) -> None:
            writer.answer(await self._models.list_all(context))
            context.outcome = "success"

        return self._lifecycle.handle(request, MODELS.template, serve).ended()

    @app.route("/v1/models/<path:_>", methods=["GET", "HEAD"])
    def model(self, request: ProxyRequest, _: str) -> Deferred[None]:
        """``GET /v1/models/{id}``."""
        name = unquote(request.path.decode("latin-1").removeprefix(_MODEL_PATHS))

        async def serve(context: RequestContext, writer: RequestWriter) -> None:
            writer.answer(await self._models.get(name, context))
            context.outcome = "success"

        return self._lifecycle.handle(request, MODEL.template, serve).ended()

    @app.route("/livez", methods=["GET", "HEAD"])
    @app.route("/healthz", methods=["GET", "HEAD"])
    def live(self, request: ProxyRequest) -> None:
        """``GET /livez``: the reactor runs."""
        self._lifecycle.probe(request, 200, b'{"status":"live"}')

    @app.route("/readyz", methods=["GET", "HEAD"])
    def ready(self, request: ProxyRequest) -> None:
        """``GET /readyz``: some key can serve, and the process is not about to stop."""
        if self._lifecycle.draining or self._lifecycle.leaving:
            status, body = 503, b'{"status":"draining"}'
        elif not self._can_serve():
            status, body = 503, b'{"status":"no key can serve"}'
        else:
            status, body = 200, b'{"status":"ready"}'
        self._lifecycle.probe(request, status, body)

    @app.route("/", defaults={"_": ""}, methods=None)
    @app.route("/<path:_>", methods=None)
    def unknown(self, request: ProxyRequest, _: str) -> Deferred[None] | None:
        """All other paths: those of the admin API, and CORS preflights."""
        if self._admin is not None and is_admin_path(request.path):
            return self._admin.serve(request)
        if self._is_preflight(request):
            self._lifecycle.preflight(request, self._route(request).allow)
        else:  # The gate knows the routes; one that Klein knows better is none.
            self._lifecycle.reject(request, UnknownURL("Unknown request URL."))
        return None

    def _is_preflight(self, request: ProxyRequest) -> bool:
        return request.method == b"OPTIONS" and bool(self._lifecycle.settings.cors_origins)

    def _is_for_everybody(self, request: ProxyRequest) -> bool:
        """Whether the route needs no token."""
        if request.method in _READING:
            return unquote(request.path.decode("latin-1")) in _PROBES
        return self._is_preflight(request)

    async def _serve_large(
        self, decode: Callable[[], Job | Batches], context: RequestContext, writer: RequestWriter
    ) -> None:
        decoded = self._in_thread(decode)
        # Drop the last reference to the body: the answer may take minutes.
        del decode
        await self._dispatch(await decoded, context, writer)

    def _dispatch(
        self, job: Job | Batches, context: RequestContext, writer: RequestWriter
    ) -> Awaitable[None]:
        if isinstance(job, Batches):
            return self._dispatcher.dispatch_all(job, context, writer)
        return self._dispatcher.dispatch(job, context, writer)

    def _route(self, request: ProxyRequest) -> Route:
        """The route of a request's path. Raises :class:`ProxyError` where it cannot be read."""
        path = decoded_path(request)
        endpoint = self._endpoints.get(path)
        if endpoint is not None:
            return endpoint.route
        if path == _MODELS_PATH:
            return MODELS
        return MODEL if path.startswith(_MODEL_PATHS) and path != _MODEL_PATHS else _NO_ROUTE


def check_content_type(request: ProxyRequest) -> None:
    """Raise :class:`InvalidRequest` unless the body is declared as JSON.

    A web page may send some other types to any address without a preflight (Fetch standard, section
    2.2.2).
    """
    encoding = request.header(b"content-encoding")
    if encoding is not None and encoding.strip().lower() not in (b"identity", b""):
        raise InvalidRequest(
            f"Content-Encoding {encoding.decode('latin-1')[:40]!r} is not supported;"
            " send the JSON as it is."
        )
    content_type = request.header(b"content-type")
    if content_type == JSON:
        return
    if not content_type:
        raise InvalidRequest("Content-Type is missing; it must be application/json.")
    kind, *parameters = content_type.lower().split(b";")
    if _JSON_TYPE.fullmatch(kind.strip()) is None:
        raise InvalidRequest(
            f"Content-Type must be application/json, not {kind.decode('latin-1')[:100]!r}."
        )
    for parameter in parameters:
        name, _, value = parameter.partition(b"=")
        # RFC 8259 section 8.1: JSON is UTF-8, of which ASCII is a part.
        if name.strip() == b"charset" and value.strip().strip(b'"') not in _UTF_8:
            raise InvalidRequest(
                f"JSON must be UTF-8, not {value.strip().decode('latin-1')[:100]!r}."
            )
