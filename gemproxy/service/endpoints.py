"""Where the daemon listens: Twisted's endpoints for the settings, with TLS, and their addresses."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Final

from twisted.internet.endpoints import TCP4ServerEndpoint, TCP6ServerEndpoint, serverFromString
from twisted.internet.interfaces import IProtocolFactory, IStreamServerEndpoint
from twisted.protocols.haproxy import proxyEndpoint

from gemproxy.config import endpoints
from gemproxy.config.settings import ProxySettings
from gemproxy.core.errors import ConfigError, Fault
from gemproxy.http.origins import reach_of
from gemproxy.http.site import ProxySite
from gemproxy.http.tls import strengthen, tls_factory
from gemproxy.service.handed_over import HandedOver
from gemproxy.service.unix_sockets import UnixSockets

_BACKLOG: Final = 1024


def server_endpoint(
    reactor: Any, proxy: ProxySettings, handed: HandedOver
) -> IStreamServerEndpoint:
    """Where the public API listens."""
    if proxy.endpoint is not None:
        return described_endpoint(reactor, proxy.endpoint, "proxy.endpoint", handed)
    kind: Callable[..., IStreamServerEndpoint] = (
        TCP6ServerEndpoint if ":" in proxy.host else TCP4ServerEndpoint
    )
    return kind(reactor, proxy.port, _BACKLOG, proxy.host)


def described_endpoint(
    reactor: Any, description: str, setting: str, handed: HandedOver
) -> IStreamServerEndpoint:
    """The endpoint of a description; ``systemd:`` names one of the sockets ``handed`` over.

    Raises :class:`ConfigError` where it cannot be opened.
    """
    kind, *rest = parts = endpoints.split_description(description)
    try:
        if kind == "systemd":
            return handed.endpoint(reactor, parts)
        if kind == "haproxy" and rest[:1] == ["systemd"]:
            wrapped: IStreamServerEndpoint = proxyEndpoint(handed.endpoint(reactor, rest))
            return wrapped
        endpoint: IStreamServerEndpoint = serverFromString(
            UnixSockets(reactor), endpoints.with_socket_mode(description)
        )
    except Exception as error:
        reason = f"cannot be opened: {error}"
        raise ConfigError((Fault("proxy.yaml", 0, setting, reason),)) from error
    if kind == "ssl":
        strengthen(endpoint)
    return endpoint


def with_tls(factory: IProtocolFactory, proxy: ProxySettings) -> IProtocolFactory:
    """``factory`` with TLS, if a certificate is configured."""
    if proxy.tls is None:
        return factory
    return tls_factory(factory, proxy.tls.cert_file, proxy.tls.key_file)


def url_of(port: Any, scheme: str) -> str:
    """The base URL for a client; ``unix:`` and the path if there is no URL."""
    host: Any = port.getHost()
    if not hasattr(host, "port"):
        return f"unix:{os.fsdecode(host.name or b'')}"
    name = f"[{host.host}]" if ":" in host.host else host.host
    return f"{scheme}://{name}:{host.port}"


def set_reach(port: Any, site: ProxySite) -> Any:
    """Set who can connect to ``site``, which listens on ``port``."""
    if site.guard is not None:
        site.guard.set_reach(reach_of(getattr(port.getHost(), "host", None)))
    return port
