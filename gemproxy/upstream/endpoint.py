"""Connect to the upstream, directly or through a proxy, with verified TLS."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from OpenSSL import SSL
from twisted.internet._sslverify import IOpenSSLTrustRoot
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.error import TimeoutError  # noqa: A004
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.internet.ssl import optionsForClientTLS, platformTrust
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from zope.interface import implementer

from gemproxy.core.errors import ConfigError, Fault
from gemproxy.upstream.connection import UpstreamConnection
from gemproxy.upstream.dialing import AddressesEndpoint
from gemproxy.upstream.resolver import Address, Resolver
from gemproxy.upstream.tunnel import TunnelEndpoint, basic

if TYPE_CHECKING:
    from gemproxy.config.settings import UpstreamSettings

_DEFAULT_PORTS = {"http": 80, "https": 443}
_PROXY_PORT = 3128
#: Inner timeouts are this much longer than the whole, whose error text is more precise.
_MARGIN_SECONDS = 5.0
#: Addresses in the text of an error.
_MAX_LISTED = 3


@implementer(IStreamClientEndpoint)
class UpstreamEndpoint:
    """Connects to ``settings.base_url``; ``resolver`` looks up addresses.

    ``connectTimeoutSeconds`` holds for all of it, from the name look-up to the TLS handshake. The
    constructor raises :class:`ConfigError` if ``settings.ca_file`` cannot be used.
    """

    def __init__(self, reactor: Any, settings: UpstreamSettings, resolver: Resolver) -> None:
        url = urlsplit(settings.base_url)
        host, port = url.hostname or "", url.port or _DEFAULT_PORTS[url.scheme]
        self._reactor = reactor
        self._resolver = resolver
        self._timeout = settings.connect_timeout_seconds
        self._host, self._port = host, port
        self._target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self._authorization = b""
        self._through_proxy = settings.http_proxy is not None
        if settings.http_proxy is not None:
            proxy = urlsplit(settings.http_proxy)
            self._host, self._port = proxy.hostname or "", proxy.port or _PROXY_PORT
            password = settings.http_proxy_password
            if settings.http_proxy_user is not None:
                self._authorization = basic(
                    settings.http_proxy_user, "" if password is None else password.reveal()
                )
        self._tls: Any = None
        if url.scheme == "https":
            trust = _trust_in(settings.ca_file) if settings.ca_file else platformTrust()
            self._tls = optionsForClientTLS(host, trustRoot=trust)

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """Return a connection that is ready for a request.

        Fails with ``TimeoutError``, whose text says which step took too long, or with the error of
        the failed step.
        """
        stage = _Stage(f"the look-up of the name {self._host}")

        def expired(_failure: object, seconds: float) -> Failure:
            return Failure(TimeoutError(string=f"{stage.name} took longer than {seconds:g} s"))

        connecting: Deferred[IProtocol] = Deferred.fromCoroutine(
            self._connect(protocolFactory, stage)
        )
        return connecting.addTimeout(self._timeout, self._reactor, expired)

    async def _connect(self, factory: Any, stage: _Stage) -> IProtocol:
        addresses = _literal(self._host) or await self._resolver.addresses(
            self._host, self._timeout / 2
        )
        stage.name = f"TCP to {self._host} port {self._port}{_listed(self._host, addresses)}"
        if self._through_proxy:
            after_tcp = f"the HTTP proxy's answer to CONNECT {self._target}"
        else:
            after_tcp = "the TLS handshake"
        endpoint: IStreamClientEndpoint = AddressesEndpoint(
            self._reactor,
            addresses,
            self._port,
            self._timeout + _MARGIN_SECONDS,
            lambda: stage.enter(after_tcp),
        )
        if self._through_proxy:
            endpoint = TunnelEndpoint(
                self._reactor,
                endpoint,
                self._target,
                self._timeout + _MARGIN_SECONDS,
                self._authorization,
            )
        if self._tls is None:
            plain: IProtocol = await endpoint.connect(factory)
            return plain
        secured: Any = await endpoint.connect(TLSMemoryBIOFactory(self._tls, True, factory))
        stage.name = "the TLS handshake"
        connection: UpstreamConnection = secured.wrappedProtocol
        await connection.when_secured()
        return connection


class _Stage:
    """The current step of a connection attempt, for the text of a timeout."""

    def __init__(self, name: str) -> None:
        self.name = name

    def enter(self, name: str) -> None:
        self.name = name


def _listed(host: str, addresses: list[Address]) -> str:
    named = [address for _, address in addresses if address != host]
    more = ", …" if len(named) > _MAX_LISTED else ""
    return f" ({', '.join(named[:_MAX_LISTED])}{more})" if named else ""


def _literal(host: str) -> list[Address]:
    """The address if ``host`` is one; empty if it is a name."""
    if isIPAddress(host):
        return [(socket.AF_INET, host)]
    if isIPv6Address(host):
        return [(socket.AF_INET6, host)]
    return []


@implementer(IOpenSSLTrustRoot)
class _PlatformAndFile:
    """The platform's certificate authorities and those of one file."""

    def __init__(self, ca_file: Path) -> None:
        self._ca_file = ca_file

    def _addCACertsToContext(self, context: SSL.Context) -> None:
        platformTrust()._addCACertsToContext(context)
        context.load_verify_locations(str(self._ca_file))


def _trust_in(ca_file: Path) -> _PlatformAndFile:
    """The platform's roots and those of ``ca_file``, which is loaded now to find mistakes early."""
    try:
        SSL.Context(SSL.TLS_METHOD).load_verify_locations(str(ca_file))
    except SSL.Error:
        fault = Fault(str(ca_file), 0, "upstream.caFile", "expected certificates in PEM form")
        raise ConfigError((fault,)) from None
    return _PlatformAndFile(ca_file)
