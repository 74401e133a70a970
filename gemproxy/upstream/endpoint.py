"""Where to connect: directly or through a proxy, with TLS that is verified."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from OpenSSL import SSL
from twisted.internet._sslverify import IOpenSSLTrustRoot
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.error import TimeoutError  # noqa: A004
from twisted.internet.interfaces import (
    IProtocol,
    IProtocolFactory,
    IReactorTime,
    IStreamClientEndpoint,
)
from twisted.internet.ssl import optionsForClientTLS, platformTrust
from twisted.python.failure import Failure
from zope.interface import implementer

from gemproxy.errors import ConfigError, Fault
from gemproxy.upstream.connection import UpstreamConnection
from gemproxy.upstream.tunnel import TunnelEndpoint

if TYPE_CHECKING:
    from gemproxy.config.settings import UpstreamSettings

_DEFAULT_PORTS = {"http": 80, "https": 443}


def upstream_endpoint(reactor: Any, settings: UpstreamSettings) -> IStreamClientEndpoint:
    """The way to ``settings.base_url``.

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
            f"[{host}]:{port}" if ":" in host else f"{host}:{port}",
            timeout,
        )
    else:
        endpoint = HostnameEndpoint(reactor, host, port, timeout=timeout)
    if url.scheme == "http":
        return endpoint
    trust = _trust_in(settings.ca_file) if settings.ca_file else platformTrust()
    secured = wrapClientTLS(optionsForClientTLS(host, trustRoot=trust), endpoint)
    return HandshakeEndpoint(reactor, secured, timeout)


@implementer(IStreamClientEndpoint)
class HandshakeEndpoint:
    """Connects to ``endpoint``, which speaks TLS, and waits ``timeout`` seconds for its handshake.

    Twisted's connects as soon as TCP does, and a peer that is silent then would keep a request
    until its first-byte timeout.
    """

    def __init__(
        self, reactor: IReactorTime, endpoint: IStreamClientEndpoint, timeout: float
    ) -> None:
        self._reactor = reactor
        self._endpoint = endpoint
        self._timeout = timeout

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """A connection that is secured. Fails with ``TimeoutError`` or what TLS says."""
        connecting: Deferred[Any] = self._endpoint.connect(protocolFactory)
        return connecting.addCallback(self._secured)

    def _secured(self, connection: UpstreamConnection) -> Deferred[IProtocol]:
        def expired(_failure: object, seconds: float) -> Failure:
            return Failure(TimeoutError(string=f"no TLS handshake in {seconds} s"))

        return connection.when_secured().addTimeout(self._timeout, self._reactor, expired)


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
