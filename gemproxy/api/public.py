"""The public API: OpenAI's routes, read, checked and handed on."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Protocol
from urllib.parse import unquote

from klein import Klein
from twisted.internet.defer import Deferred

from gemproxy.api.openai.embeddings import EMBEDDINGS, Embeddings
from gemproxy.api.openai.schema.answers import Model, encode_model, encode_model_list
from gemproxy.core.call import Call
from gemproxy.core.catalogue import ModelCatalogue
from gemproxy.core.context import Exchange
from gemproxy.core.dispatch import Forwarder
from gemproxy.core.errors import InvalidRequest, ModelNotFound, ProxyError, UnknownURL
from gemproxy.http.coroutine_runner import CoroutineRunner
from gemproxy.http.gate import RequestGate
from gemproxy.http.lifecycle import RequestLifecycle, Route, check_size
from gemproxy.http.request import ProxyRequest, decoded_path
from gemproxy.http.response_writer import JSON, RequestWriter
from gemproxy.http.routes import is_admin_path
from gemproxy.translate.openai_models__gemini import to_openai_models
from gemproxy.translate.shared.schema_budget import OutOfSteps

CHAT = "/v1/chat/completions"
MODELS = "/v1/models"
MODEL = "/v1/models/{id}"
#: Bytes. A longer body may take more than 5 ms to translate: 300 KB of tool calls do.
LARGE_BODY = 256 * 1024

#: Bytes. More is not taken from somebody of whom nothing is known.
_PROBE_BODY = 4096

_CHAT_PATH = CHAT.encode("ascii")
_EMBEDDINGS_PATH = EMBEDDINGS.encode("ascii")
_CHAT_ROUTE: Final = Route(CHAT, (b"POST",))
_MODEL_ROUTE: Final = Route(MODEL, (b"GET", b"HEAD"))
_ROUTES: Final = {
    CHAT: _CHAT_ROUTE,
    EMBEDDINGS: Route(EMBEDDINGS, (b"POST",)),
    MODELS: Route(MODELS, (b"GET", b"HEAD")),
}
_NO_ROUTE: Final = Route("unknown", ())
_PROBES: Final = frozenset({"/livez", "/healthz", "/readyz"})
_READING: Final = (b"GET", b"HEAD")
#: Media types of JSON, and the characters that it may be said to have.
_JSON_TYPE = re.compile(rb"application/json|[^/,\s]+/[^/,\s]+\+json")
_UTF_8 = frozenset({b"utf-8", b"utf8", b"us-ascii", b"ascii"})


class AdminRoutes(RequestGate, Protocol):
    """What serves the paths under ``/admin``."""

    def serve(self, request: ProxyRequest) -> Deferred[None]:
        """Answer one request that passed the gate."""


@dataclass(frozen=True)
class ModelNames:
    """What the operator says of models' names: other names for them, and which are served."""

    aliases: Mapping[str, str] = field(default_factory=dict)
    allow: tuple[str, ...] = ()


class OpenAIAPI:
    """The routes under ``/v1``, the probes beside them, and an answer for every other path.

    ``names`` may be replaced between two requests. ``can_serve`` tells whether any key could take
    a request now, ``key_models`` which models the keys may serve (``None``: all). ``in_thread``
    does a work that would hold up the reactor. ``admin`` serves the paths under ``/admin``, unless
    they have a listener of their own.
    """

    app = Klein()

    def __init__(
        self,
        lifecycle: RequestLifecycle,
        forwarder: Forwarder,
        embeddings: Embeddings,
        catalogue: ModelCatalogue,
        names: ModelNames,
        can_serve: Callable[[], bool],
        key_models: Callable[[], frozenset[str] | None],
        in_thread: Callable[[Callable[[], Call]], Awaitable[Call]],
        admin: AdminRoutes | None,
    ) -> None:
        self.names = names
        self._lifecycle = lifecycle
        self._forwarder = forwarder
        self._embeddings = embeddings
        self._catalogue = catalogue
        self._can_serve = can_serve
        self._key_models = key_models
        self._in_thread = in_thread
        self._admin = admin

    def fast_routes(self) -> dict[tuple[bytes, bytes], Callable[[ProxyRequest], object]]:
        """Routes that the site may find without Klein's router: most requests go by these."""
        return {(b"POST", _CHAT_PATH): self._chat, (b"POST", _EMBEDDINGS_PATH): self._embed}

    # -- the gate (gemproxy.http.gate.RequestGate) -----------------------------------------------

    def check_head(self, request: ProxyRequest) -> None:
        """Let each kind of path ask for what it asks."""
        if request.path == _CHAT_PATH and request.method == b"POST":
            self._lifecycle.check_head(request, _CHAT_ROUTE)
        elif self._admin is not None and is_admin_path(request.path):
            self._admin.check_head(request)
        elif self._is_for_everybody(request):
            request.max_body_bytes = _PROBE_BODY
            check_size(request, request.length or 0)
        else:
            self._lifecycle.check_head(request, _route(request))

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

    @app.route(CHAT, methods=["POST"])
    def chat(self, request: ProxyRequest) -> Deferred[None]:
        """``POST /v1/chat/completions``."""
        return self._chat(request).ended()

    def _chat(self, request: ProxyRequest) -> CoroutineRunner:
        def serve(exchange: Exchange, writer: RequestWriter) -> Awaitable[None]:
            check_content_type(request)
            body = request.body()
            if len(body) < LARGE_BODY:
                try:
                    call = self._forwarder.translate(body, exchange, writer, brief=True)
                except OutOfSteps:
                    pass  # It starts over in a thread, where it may take its time.
                else:
                    return self._forwarder.forward(call)
            return self._serve_large(partial(self._forwarder.translate, body, exchange, writer))

        return self._lifecycle.handle(request, CHAT, serve)

    @app.route(EMBEDDINGS, methods=["POST"])
    def embeddings(self, request: ProxyRequest) -> Deferred[None]:
        """``POST /v1/embeddings``."""
        return self._embed(request).ended()

    def _embed(self, request: ProxyRequest) -> CoroutineRunner:
        def serve(exchange: Exchange, writer: RequestWriter) -> Awaitable[None]:
            check_content_type(request)
            return self._embeddings.serve(request.body(), exchange, writer)

        return self._lifecycle.handle(request, EMBEDDINGS, serve)

    @app.route(MODELS, methods=["GET", "HEAD"])
    def models(self, request: ProxyRequest) -> Deferred[None]:
        """``GET /v1/models``."""

        async def serve(exchange: Exchange, writer: RequestWriter) -> None:
            writer.answer(encode_model_list(await self._models(exchange)))
            exchange.outcome = "success"

        return self._lifecycle.handle(request, MODELS, serve).ended()

    @app.route("/v1/models/<path:_>", methods=["GET", "HEAD"])
    def model(self, request: ProxyRequest, _: str) -> Deferred[None]:
        """``GET /v1/models/{id}``."""
        name = unquote(request.path.decode("latin-1").removeprefix("/v1/models/"))

        async def serve(exchange: Exchange, writer: RequestWriter) -> None:
            for model in await self._models(exchange):
                if model.id == name.removeprefix("models/"):
                    writer.answer(encode_model(model))
                    exchange.outcome = "success"
                    return
            raise ModelNotFound(f"The model '{name[:200]}' does not exist.", param="model")

        return self._lifecycle.handle(request, MODEL, serve).ended()

    @app.route("/livez", methods=["GET", "HEAD"])
    @app.route("/healthz", methods=["GET", "HEAD"])
    def live(self, request: ProxyRequest) -> None:
        """``GET /livez``: the reactor turns."""
        self._lifecycle.probe(request, 200, b'{"status":"live"}')

    @app.route("/readyz", methods=["GET", "HEAD"])
    def ready(self, request: ProxyRequest) -> None:
        """``GET /readyz``: some key can serve, and the process is here to stay."""
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
        """Every other path: the admin API's, and what a browser asks before its request."""
        if self._admin is not None and is_admin_path(request.path):
            return self._admin.serve(request)
        if self._is_preflight(request):
            self._lifecycle.preflight(request, _route(request).allow)
        else:  # The gate knows the routes; one that Klein knows better is none.
            self._lifecycle.reject(request, UnknownURL("Unknown request URL."))
        return None

    def _is_preflight(self, request: ProxyRequest) -> bool:
        return request.method == b"OPTIONS" and bool(self._lifecycle.settings.cors_origins)

    def _is_for_everybody(self, request: ProxyRequest) -> bool:
        """Whether no token is asked for."""
        if request.method in _READING:
            return unquote(request.path.decode("latin-1")) in _PROBES
        return self._is_preflight(request)

    async def _serve_large(self, translate: Callable[[], Call]) -> None:
        translated = self._in_thread(translate)
        # Nobody else holds the body now, and the answer may take minutes.
        del translate
        await self._forwarder.forward(await translated)

    async def _models(self, exchange: Exchange) -> list[Model]:
        upstream = await self._catalogue.models(exchange)
        allowed = self._key_models()
        if allowed is not None:
            upstream = [model for model in upstream if model.id in allowed]
        return to_openai_models(upstream, self.names.aliases, self.names.allow)


def _route(request: ProxyRequest) -> Route:
    """The route of a request's path. Raises :class:`ProxyError` where no path can be read so."""
    path = decoded_path(request)
    if path.startswith("/v1/models/") and path != "/v1/models/":
        return _MODEL_ROUTE
    return _ROUTES.get(path, _NO_ROUTE)


def check_content_type(request: ProxyRequest) -> None:
    """Raise :class:`InvalidRequest` where the body is not said to be plain JSON.

    A web page may send any other type to any address without being asked whether it may (the Fetch
    standard, section 2.2.2).
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
