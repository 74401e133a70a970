"""The core's ``Upstream``: prepared requests and treq on one pool, replaced on reload."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import treq
from treq.client import HTTPClient
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.web.client import URI
from twisted.web.http_headers import Headers

from gemproxy.core.interfaces import UpstreamRequest, WholeResponse
from gemproxy.deadlines import Deadlines
from gemproxy.upstream.agent import RequestBody, UpstreamAgent
from gemproxy.upstream.endpoint import UpstreamEndpoint
from gemproxy.upstream.pool import ConnectionPool
from gemproxy.upstream.pooled_response import Collected, PooledResponse, ResponseLimits
from gemproxy.upstream.resolver import Resolver

if TYPE_CHECKING:
    from gemproxy.buffer_list import BufferList
    from gemproxy.config.settings import UpstreamSettings
    from gemproxy.core.interfaces import BodySource

#: Request heads that are kept. Clients choose the names of models, so the number has to be bounded.
_MAX_PATHS = 1000
_PATH = re.compile(rb"[\x21-\x7e]+")


class UpstreamClient:
    """Sends requests to the origin of ``base_url`` over ``pool``, in one of two ways.

    ``fetch`` and ``call`` go through treq's public API. ``send`` is the prepared path, for requests
    that are frequent and differ in model, key and body only: it keeps the bytes of the head for
    each path and writes them to a pooled connection. treq would parse a URL, build ``Headers`` and
    wrap three agents for each of these requests, which costs four times as much as the whole rest
    of a request (docs/decisions/0006 and 0017). Neither way follows redirects, which would
    carry the key elsewhere.
    """

    def __init__(
        self,
        reactor: IReactorTime,
        pool: ConnectionPool,
        base_url: str,
        user_agent: bytes,
        deadlines: Deadlines,
    ) -> None:
        self.pool = pool
        self._reactor: Any = reactor
        self._deadlines = deadlines
        self._base_url = base_url.rstrip("/")
        self._user_agent = user_agent.decode("ascii")
        self._origin = url = URI.fromBytes(base_url.encode("ascii"))
        self._prefix = url.path.rstrip(b"/")
        self._common = (
            b" HTTP/1.1\r\nHost: %b\r\nUser-Agent: %b\r\nAccept-Encoding: identity\r\n"
            b"Content-Type: application/json\r\nX-Goog-Api-Key: " % (url.netloc, user_agent)
        )
        self._heads: dict[bytes, bytes] = {}

    def send(self, request: UpstreamRequest, limits: ResponseLimits) -> Deferred[PooledResponse]:
        """POST ``request`` over the prepared path; wait for status and headers of the response."""
        body = request.body or b""
        head = b"%b%b\r\n%bContent-Length: %d\r\n\r\n" % (
            self._heads.get(request.path) or self._make_head(request.path),
            request.key.reveal().encode("ascii"),
            request.headers,
            len(body),
        )
        return self._exchange(head, body, limits, request.deadline).send()

    async def fetch(
        self, request: UpstreamRequest, limits: ResponseLimits, limit: int
    ) -> WholeResponse:
        """Send ``request`` with treq and read the whole response, at most ``limit`` bytes."""
        agent = self.agent(limits, request.deadline)
        response = await self._request(agent, request)
        body = Collected(limit)
        try:
            await treq.collect(response, body.add)
        except CancelledError:
            # Cancelling what treq.collect returns leaves the connection open.
            agent.abort()
            raise
        # Twisted's ContentDecoderAgent, which treq uses, adds an empty one if there is none.
        response.headers.removeHeader(b"content-encoding")
        headers = {
            name.decode("latin-1").lower(): values[-1].decode("latin-1")
            for name, values in response.headers.getAllRawHeaders()
        }
        return WholeResponse(response.code, headers, body.whole())

    async def call(self, request: UpstreamRequest, limits: ResponseLimits) -> PooledResponse:
        """Send ``request`` with treq; wait for status and headers of the response."""
        agent = self.agent(limits, request.deadline)
        await self._request(agent, request)
        if agent.exchange is None:
            raise RuntimeError("treq did not send the request")
        return agent.exchange

    def _request(self, agent: UpstreamAgent, request: UpstreamRequest) -> Deferred[Any]:
        headers = Headers(
            {"User-Agent": [self._user_agent], "X-Goog-Api-Key": [request.key.reveal()]}
        )
        for line in request.headers.split(b"\r\n")[:-1]:
            name, _, value = line.partition(b": ")
            headers.addRawHeader(name, value)
        body = request.source or request.body
        if body and not headers.hasHeader(b"content-type"):
            headers.addRawHeader(b"Content-Type", b"application/json")
        # An HTTPClient for each call has a cookie jar for each call.
        requested: Deferred[Any] = HTTPClient(agent).request(
            request.method.decode("ascii"),
            self._base_url + request.path.decode("ascii"),
            headers=headers,
            data=None if body is None else RequestBody(body),
            allow_redirects=False,
            unbuffered=True,
            reactor=self._reactor,
        )
        return requested

    def agent(self, limits: ResponseLimits, deadline: float) -> UpstreamAgent:
        """An agent for one call, which has its ``deadline``: treq's timeout ends at the head."""
        return UpstreamAgent(
            self._origin, lambda head, body: self._exchange(head, body, limits, deadline)
        )

    def _exchange(
        self,
        head: bytes,
        body: bytes | BufferList | BodySource,
        limits: ResponseLimits,
        deadline: float,
    ) -> PooledResponse:
        return PooledResponse(
            self.pool, self._reactor.seconds, self._deadlines, head, body, limits, deadline
        )

    def _make_head(self, path: bytes) -> bytes:
        """The request head up to the key. Raises ``ValueError`` if ``path`` could end the line."""
        if not _PATH.fullmatch(path):
            raise ValueError(f"not a path: {path!r}")
        if len(self._heads) >= _MAX_PATHS:
            self._heads.clear()
        head = b"POST %b%b%b" % (self._prefix, path, self._common)
        self._heads[path] = head
        return head


def _connection_settings(settings: UpstreamSettings) -> tuple[object, ...]:
    """The settings that are built into connections; the others are read for each request."""
    return (
        settings.base_url,
        settings.ca_file,
        settings.http_proxy,
        settings.http_proxy_user,
        settings.http_proxy_password,
        settings.connect_timeout_seconds,
        settings.connection_max_age_seconds,
        settings.keepalive_seconds,
        settings.max_connections_per_host,
    )


def _limits(settings: UpstreamSettings) -> ResponseLimits:
    return ResponseLimits(settings.first_byte_timeout_seconds, settings.idle_timeout_seconds)


class GeminiUpstream:
    """Gemini over HTTP. ``start`` before the first request, ``stop`` after the last."""

    def __init__(
        self,
        reactor: Any,
        settings: UpstreamSettings,
        user_agent: str,
        resolver: Resolver | None = None,
    ) -> None:
        self._reactor = reactor
        self._settings, self._limits = settings, _limits(settings)
        self._user_agent = user_agent.encode("ascii")
        self._deadlines = Deadlines(reactor)
        self._resolver = resolver or Resolver(reactor, settings.connection_max_age_seconds)
        self._started = False
        self._client = self._make_client(settings)

    def start(self) -> None:
        """Start to close idle connections."""
        self._started = True
        self._client.pool.start()

    def stop(self) -> None:
        """Close the connections."""
        self._started = False
        self._client.pool.stop()
        self._deadlines.stop()

    def apply(self, settings: UpstreamSettings) -> None:
        """Apply new settings, from the next request on.

        If they change how the upstream is reached, new connections are made, and each old one
        closes when its request ends. Raises :class:`~gemproxy.core.errors.ConfigError` for a trust
        root that cannot be used; then nothing has changed.
        """
        if _connection_settings(settings) != _connection_settings(self._settings):
            old, self._client = self._client, self._make_client(settings)
            if self._started:
                self._client.pool.start()
                old.pool.stop()
        self._resolver.max_age = settings.connection_max_age_seconds
        self._settings, self._limits = settings, _limits(settings)

    def refresh_addresses(self) -> None:
        """Ask the name servers again, and close the present connections after their requests.

        An operator asks for a reload when something on the way to the upstream has changed.
        """
        self._resolver.forget()
        self._client.pool.retire()

    def send(self, request: UpstreamRequest) -> Deferred[PooledResponse]:
        """See :meth:`gemproxy.core.interfaces.Upstream.send`."""
        if request.is_prepared:
            return self._client.send(request, self._limits)
        return Deferred.fromCoroutine(self._client.call(request, self._limits))

    def fetch(self, request: UpstreamRequest, limit: int) -> Deferred[WholeResponse]:
        """See :meth:`gemproxy.core.interfaces.Upstream.fetch`."""
        return Deferred.fromCoroutine(self._client.fetch(request, self._limits, limit))

    def _make_client(self, settings: UpstreamSettings) -> UpstreamClient:
        pool = ConnectionPool(
            self._reactor,
            UpstreamEndpoint(self._reactor, settings, self._resolver),
            settings.max_connections_per_host,
            max_age=settings.connection_max_age_seconds,
            keepalive=settings.keepalive_seconds,
        )
        return UpstreamClient(
            self._reactor, pool, settings.base_url, self._user_agent, self._deadlines
        )
