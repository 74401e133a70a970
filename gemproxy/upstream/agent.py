"""The HTTP client for one upstream: treq on an agent that knows its host beforehand.

What twisted.web and treq work out anew for every request (the parsed URL, the endpoint, cookies,
redirects, content decoding) is the same for each of ours or must not happen at all: a redirect
would carry the key to another host.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from OpenSSL import SSL
from treq.client import HTTPClient
from treq.cookies import IndexableCookieJar
from treq.response import _Response
from twisted.internet._sslverify import IOpenSSLTrustRoot
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.interfaces import IConsumer, IStreamClientEndpoint
from twisted.internet.ssl import optionsForClientTLS, platformTrust
from twisted.python.components import proxyForInterface
from twisted.python.failure import Failure
from twisted.web._newclient import Request, RequestTransmissionFailed, ResponseNeverReceived
from twisted.web.client import URI
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IBodyProducer, IResponse
from zope.interface import implementer

from gemproxy.errors import ConfigError, Fault
from gemproxy.upstream.connections import ConnectionPool, HandshakeEndpoint, UpstreamConnection
from gemproxy.upstream.tunnel import TunnelEndpoint

if TYPE_CHECKING:
    from gemproxy.config.settings import UpstreamSettings

_NO_COOKIES = IndexableCookieJar()
_DEFAULT_PORTS = {"http": 80, "https": 443}


@implementer(IBodyProducer)
class BytesProducer:
    """A request body that is in memory already."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self.length = len(body)

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        consumer.write(self._body)
        return succeed(None)

    def pauseProducing(self) -> None:
        """Nothing is left to hold back."""

    def resumeProducing(self) -> None:
        """Nothing was held back."""

    def stopProducing(self) -> None:
        """Nothing is left to stop."""


class ConnectedResponse(proxyForInterface(IResponse, "original")):  # type: ignore[misc]
    """A response that knows the connection it comes by."""

    def __init__(self, original: IResponse, connection: UpstreamConnection) -> None:
        super().__init__(original)
        self.connection = connection


@implementer(IAgent)
class UpstreamAgent:
    """Sends requests to the one host of ``base_url`` over the connections of ``pool``."""

    def __init__(self, pool: ConnectionPool, base_url: str) -> None:
        self._pool = pool
        self._uri = URI.fromBytes(base_url.encode("ascii"))
        #: The ``Host`` header's value.
        self.netloc: bytes = self._uri.netloc
        #: The path of ``base_url``, which stands before each request's own.
        self.path_prefix: bytes = self._uri.path.rstrip(b"/")

    def request(
        self,
        method: bytes,
        uri: bytes,
        headers: Headers | None = None,
        bodyProducer: IBodyProducer | None = None,
    ) -> Deferred[IResponse]:
        """``uri`` is the path with its query. Nothing is sent to any other host."""

        def issue() -> Request:
            # The public way parses the URI anew each time.
            request: Request = Request._construct(
                method, uri, headers, bodyProducer, persistent=True, parsedURI=self._uri
            )
            return request

        return self._send(issue, fresh=False)

    def _send(self, issue: Callable[[], Request], *, fresh: bool) -> Deferred[IResponse]:
        def use(connection: UpstreamConnection) -> Deferred[Any]:
            connection.used, stale_possible = True, connection.used
            response: Deferred[Any] = connection.request(issue())
            response.addCallback(ConnectedResponse, connection)
            if stale_possible:
                response.addErrback(once_more)
            return response

        def once_more(failure: Failure) -> Any:
            # The upstream closed a kept-alive connection just as it was used again, and has seen
            # nothing of the request: that is nobody's failure, and safe to send anew.
            failure.trap(ResponseNeverReceived, RequestTransmissionFailed)
            error: Any = failure.value
            if any(reason.check(CancelledError) for reason in error.reasons):
                return failure
            return self._send(issue, fresh=True)

        return self._pool.acquire(fresh=fresh).addCallback(use)


class UpstreamClient(HTTPClient):
    """treq's client, without what must not happen on the way to the upstream.

    No cookies, no redirects (they would carry the key elsewhere), no content decoding, and no
    buffering of the body.
    """

    def request(  # type: ignore[override]
        self, method: bytes, url: bytes, *, headers: Headers, data: bytes | None = None
    ) -> Deferred[Any]:
        """``url`` is the path with its query."""
        body = None if data is None else BytesProducer(data)
        sent: Deferred[Any] = self._agent.request(method, url, headers, body)
        return sent.addCallback(_without_cookies)


def _without_cookies(response: IResponse) -> _Response:
    return _Response(response, _NO_COOKIES)


@implementer(IOpenSSLTrustRoot)
class _PlatformAndFile:
    """The platform's certificate authorities, and those of one file besides."""

    def __init__(self, ca_file: Path) -> None:
        self._ca_file = ca_file

    def _addCACertsToContext(self, context: SSL.Context) -> None:
        platformTrust()._addCACertsToContext(context)
        context.load_verify_locations(str(self._ca_file))


def _trust_in(ca_file: Path) -> _PlatformAndFile:
    """The platform's roots and those of ``ca_file``, tried now and not with the first request."""
    try:
        SSL.Context(SSL.TLS_METHOD).load_verify_locations(str(ca_file))
    except SSL.Error:
        fault = Fault(str(ca_file), 0, "upstream.caFile", "expected certificates in PEM form")
        raise ConfigError((fault,)) from None
    return _PlatformAndFile(ca_file)


def upstream_endpoint(reactor: Any, settings: UpstreamSettings) -> IStreamClientEndpoint:
    """Where to connect for ``settings.base_url``: directly or through a proxy, TLS verified.

    Raises :class:`ConfigError` where ``settings.ca_file`` cannot be used.
    """
    url = urlsplit(settings.base_url)
    host, port = url.hostname or "", url.port or _DEFAULT_PORTS[url.scheme]
    timeout = settings.connect_timeout_seconds
    endpoint: IStreamClientEndpoint
    if settings.http_proxy:
        proxy = urlsplit(settings.http_proxy)
        endpoint = TunnelEndpoint(
            reactor,
            HostnameEndpoint(reactor, proxy.hostname or "", proxy.port or 3128, timeout=timeout),
            f"{host}:{port}",
            timeout,
        )
    else:
        endpoint = HostnameEndpoint(reactor, host, port, timeout=timeout)
    if url.scheme == "http":
        return endpoint
    trust = _trust_in(settings.ca_file) if settings.ca_file else platformTrust()
    secured = wrapClientTLS(optionsForClientTLS(host, trustRoot=trust), endpoint)
    return HandshakeEndpoint(reactor, secured, timeout)
