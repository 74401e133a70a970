"""The core's ``Upstream`` on treq: one way to the upstream at a time, changed on reload."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from treq.client import HTTPClient
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.web.client import URI

from gemproxy.core.interfaces import UpstreamRequest
from gemproxy.upstream.agent import UpstreamAgent
from gemproxy.upstream.deadlines import Deadlines
from gemproxy.upstream.endpoint import UpstreamEndpoint
from gemproxy.upstream.names import Names
from gemproxy.upstream.pool import ConnectionPool
from gemproxy.upstream.pooled_response import Limits, PooledResponse

if TYPE_CHECKING:
    from gemproxy.config.settings import UpstreamSettings

#: Request lines are as many as models are asked for; clients choose their names.
_MOST_PATHS = 1000
_PATH = re.compile(rb"[\x21-\x7e]+")
#: Methods whose requests say that they have no body.
_EXPECT_BODY = frozenset({b"POST", b"PUT", b"PATCH"})


class UpstreamClient(HTTPClient):
    """treq's client on the upstream's agent, with a straight way for the core's calls.

    ``exchange`` does what ``request`` does without what is the same for each of these calls, or
    must not happen to them: URLs, cookies, redirects (to another host they would carry the key
    along), content decoding.
    """

    def __init__(
        self,
        reactor: IReactorTime,
        pool: ConnectionPool,
        base_url: str,
        user_agent: bytes,
        deadlines: Deadlines,
    ) -> None:
        super().__init__(UpstreamAgent(pool, base_url))
        self.pool = pool
        self._seconds = reactor.seconds
        self._deadlines = deadlines
        url = URI.fromBytes(base_url.encode("ascii"))
        self._prefix = url.path.rstrip(b"/")
        self._common = (
            b" HTTP/1.1\r\nHost: %b\r\nUser-Agent: %b\r\nAccept-Encoding: identity\r\n"
            b"Content-Type: application/json\r\nX-Goog-Api-Key: " % (url.netloc, user_agent)
        )
        self._beginnings: dict[tuple[bytes, bytes], bytes] = {}

    def exchange(self, request: UpstreamRequest, limits: Limits) -> Deferred[PooledResponse]:
        """Send ``request``; wait for status and headers of its answer."""
        method, path, body = request.method, request.path, request.body
        beginning = self._beginnings.get((method, path)) or self._begin(method, path)
        key = request.key.reveal().encode("ascii")
        if body is not None:
            head = b"%b%b\r\nContent-Length: %d\r\n\r\n" % (beginning, key, len(body))
        elif method in _EXPECT_BODY:
            head = b"%b%b\r\nContent-Length: 0\r\n\r\n" % (beginning, key)
        else:
            head = b"%b%b\r\n\r\n" % (beginning, key)
        return PooledResponse(
            self.pool,
            self._seconds,
            self._deadlines,
            head,
            body or b"",
            limits,
            request.deadline,
        ).send()

    def _begin(self, method: bytes, path: bytes) -> bytes:
        """The request up to the key. Raises ``ValueError`` where ``path`` could say more."""
        if not _PATH.fullmatch(path):
            raise ValueError(f"not a path: {path!r}")
        if len(self._beginnings) >= _MOST_PATHS:
            self._beginnings.clear()
        beginning = b"%b %b%b%b" % (method, self._prefix, path, self._common)
        self._beginnings[method, path] = beginning
        return beginning


def _reach(settings: UpstreamSettings) -> tuple[object, ...]:
    """What of the settings is built into connections; the rest is looked up at each request."""
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


def _limits(settings: UpstreamSettings) -> Limits:
    return Limits(settings.first_byte_timeout_seconds, settings.idle_timeout_seconds)


class GeminiUpstream:
    """Gemini over HTTP. ``start`` before the first request, ``stop`` after the last."""

    def __init__(
        self,
        reactor: Any,
        settings: UpstreamSettings,
        user_agent: str,
        names: Names | None = None,
    ) -> None:
        self._reactor = reactor
        self._settings, self._limits = settings, _limits(settings)
        self._user_agent = user_agent.encode("ascii")
        self._deadlines = Deadlines(reactor)
        self._names = names or Names(reactor, settings.connection_max_age_seconds)
        self._started = False
        self._client = self._make_client(settings)

    def start(self) -> None:
        """Begin to look after idle connections."""
        self._started = True
        self._client.pool.start()

    def stop(self) -> None:
        """Close the connections."""
        self._started = False
        self._client.pool.stop()
        self._deadlines.stop()

    def apply(self, settings: UpstreamSettings) -> None:
        """Take over new settings, from the next request on.

        Where they change how the upstream is reached, new connections are made, and each old one
        closes when its request ends. Raises :class:`~gemproxy.core.errors.ConfigError` for a
        trust root that cannot be used; then nothing has changed.
        """
        if _reach(settings) != _reach(self._settings):
            old, self._client = self._client, self._make_client(settings)
            if self._started:
                self._client.pool.start()
                old.pool.stop()
        self._names.max_age = settings.connection_max_age_seconds
        self._settings, self._limits = settings, _limits(settings)

    def look_up_again(self) -> None:
        """Ask the name servers anew, and let the present connections end with their requests.

        For an operator who asks for a reload after something on the way has changed.
        """
        self._names.forget()
        self._client.pool.retire()

    def send(self, request: UpstreamRequest) -> Deferred[PooledResponse]:
        """See :meth:`gemproxy.core.interfaces.Upstream.send`."""
        return self._client.exchange(request, self._limits)

    def _make_client(self, settings: UpstreamSettings) -> UpstreamClient:
        pool = ConnectionPool(
            self._reactor,
            UpstreamEndpoint(self._reactor, settings, self._names),
            settings.max_connections_per_host,
            max_age=settings.connection_max_age_seconds,
            keepalive=settings.keepalive_seconds,
        )
        return UpstreamClient(
            self._reactor, pool, settings.base_url, self._user_agent, self._deadlines
        )
