"""The public API: OpenAI's routes, read, checked and handed on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from urllib.parse import unquote

from klein import Klein
from twisted.internet.defer import Deferred

from gemproxy.call import Call
from gemproxy.catalogue import ModelCatalogue
from gemproxy.dialects.openai.answers import Model, encode_model, encode_model_list
from gemproxy.dialects.translation.model_list import to_openai_models
from gemproxy.errors import InvalidRequest, MethodNotAllowed, ModelNotFound, UnknownURL
from gemproxy.exchange import Exchange
from gemproxy.forwarding import Forwarder
from gemproxy.web.entrance import Entrance
from gemproxy.web.routes import is_admin_path
from gemproxy.web.site import ProxyRequest
from gemproxy.web.work import Work
from gemproxy.web.writing import JSON, RequestWriter

CHAT = "/v1/chat/completions"
MODELS = "/v1/models"
MODEL = "/v1/models/{id}"
#: Bytes. A longer body may take more than 5 ms to translate: 300 KB of tool calls do.
LARGE_BODY = 256 * 1024

_ROUTE_METHODS = {CHAT: ("POST",), MODELS: ("GET",), MODEL: ("GET",)}


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
        entrance: Entrance,
        forwarder: Forwarder,
        catalogue: ModelCatalogue,
        names: ModelNames,
        can_serve: Callable[[], bool],
        key_models: Callable[[], frozenset[str] | None],
        in_thread: Callable[[Callable[[], Call]], Awaitable[Call]],
        admin: Callable[[ProxyRequest], Deferred[None]] | None,
    ) -> None:
        self.names = names
        self._entrance = entrance
        self._forwarder = forwarder
        self._catalogue = catalogue
        self._can_serve = can_serve
        self._key_models = key_models
        self._in_thread = in_thread
        self._admin = admin

    def short_ways(self) -> dict[tuple[bytes, bytes], Callable[[ProxyRequest], object]]:
        """Routes that the site may find without Klein's router: most requests go by these."""
        return {(b"POST", CHAT.encode()): self._chat}

    @app.route(CHAT, methods=["POST"])
    def chat(self, request: ProxyRequest) -> Deferred[None]:
        """``POST /v1/chat/completions``."""
        return self._chat(request).ended()

    def _chat(self, request: ProxyRequest) -> Work:
        def serve(exchange: Exchange, writer: RequestWriter) -> Awaitable[None]:
            check_content_type(request)
            body = request.body()
            if len(body) < LARGE_BODY:
                return self._forwarder.forward(self._forwarder.translate(body, exchange, writer))
            return self._serve_large(partial(self._forwarder.translate, body, exchange, writer))

        return self._entrance.admit(request, CHAT, serve)

    @app.route(MODELS, methods=["GET", "HEAD"])
    def models(self, request: ProxyRequest) -> Deferred[None]:
        """``GET /v1/models``."""

        async def serve(exchange: Exchange, writer: RequestWriter) -> None:
            writer.answer(encode_model_list(await self._models(exchange)))
            exchange.outcome = "success"

        return self._entrance.admit(request, MODELS, serve).ended()

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

        return self._entrance.admit(request, MODEL, serve).ended()

    @app.route("/livez", methods=["GET", "HEAD"])
    @app.route("/healthz", methods=["GET", "HEAD"])
    def live(self, request: ProxyRequest) -> None:
        """``GET /livez``: the reactor turns."""
        self._entrance.tell(request, 200, b'{"status":"live"}')

    @app.route("/readyz", methods=["GET", "HEAD"])
    def ready(self, request: ProxyRequest) -> None:
        """``GET /readyz``: some key can serve, and the process is here to stay."""
        if self._entrance.draining:
            status, body = 503, b'{"status":"draining"}'
        elif not self._can_serve():
            status, body = 503, b'{"status":"no key can serve"}'
        else:
            status, body = 200, b'{"status":"ready"}'
        self._entrance.tell(request, status, body)

    @app.route("/", defaults={"_": ""}, methods=None)
    @app.route("/<path:_>", methods=None)
    def unknown(self, request: ProxyRequest, _: str) -> Deferred[None] | None:
        """Every other path and method."""
        if self._admin is not None and is_admin_path(request.path):
            return self._admin(request)
        path = request.path.decode("latin-1")
        method = request.method.decode("latin-1")
        route = CHAT if path == CHAT else MODELS if path == MODELS else None
        if path.startswith("/v1/models/") and path != "/v1/models/":
            route = MODEL
        if method == "OPTIONS" and self._entrance.settings.cors_origins:
            self._entrance.preflight(request, _ROUTE_METHODS.get(route or "", ()))
            return None

        async def serve(_exchange: Exchange, _writer: RequestWriter) -> None:
            if route is not None:
                raise MethodNotAllowed(
                    f"Not allowed to {method[:20]} on {route}.", allow=_ROUTE_METHODS[route]
                )
            raise UnknownURL(f"Unknown request URL: {method[:20]} {path[:200]}.")

        return self._entrance.admit(request, "unknown", serve).ended()

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


def check_content_type(request: ProxyRequest) -> None:
    """Raise :class:`InvalidRequest` where the body is said to be anything but plain JSON."""
    encoding = request.header(b"content-encoding")
    if encoding is not None and encoding.strip().lower() not in (b"identity", b""):
        raise InvalidRequest(
            f"Content-Encoding {encoding.decode('latin-1')[:40]!r} is not supported;"
            " send the JSON as it is."
        )
    content_type = request.header(b"content-type")
    if content_type == JSON or content_type is None:
        return
    kind = content_type.partition(b";")[0].strip().lower()
    if kind and kind != b"application/json" and not kind.endswith(b"+json"):
        raise InvalidRequest(
            f"Content-Type must be application/json, not {kind.decode('latin-1')[:100]!r}."
        )
