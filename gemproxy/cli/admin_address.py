"""Find the address and token of the running daemon's admin API.

Only ``proxy.yaml`` is read, and only mistakes in the settings that are needed here count: an
operator with a broken ``keys.yaml``, or without access to the keys, can still ask the daemon.
"""

from __future__ import annotations

import argparse
import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from gemproxy.cli.exits import ExitStatus, Refused
from gemproxy.config import endpoints
from gemproxy.config.credentials import KnownSecrets
from gemproxy.config.loading import locate, read_sections
from gemproxy.config.reading import FileReader
from gemproxy.core.errors import ConfigError, Fault

if TYPE_CHECKING:
    from argparse import ArgumentParser

    from gemproxy.config.settings import ProxySettings
    from gemproxy.secret import Secret

#: The settings that are needed; mistakes in others do not matter.
_NEEDED = re.compile(
    r"(proxy(\.(host|port|endpoint|adminEndpoint|adminAuth|adminToken\w*|tls(\..*)?))?)?"
)
_PORTS = {"http": 80, "https": 443}
#: Addresses for a server that listens on all interfaces.
_ANY = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - nobody listens here
_LOOPBACKS = {"tcp": "127.0.0.1", "tcp4": "127.0.0.1", "tcp6": "::1", "ssl": "127.0.0.1"}


@dataclass(frozen=True)
class AdminAddress:
    """A host and its port, or the path of a Unix socket.

    ``certificate`` is a PEM file whose certificates are trusted when ``tls`` is spoken.
    """

    host: str = "localhost"
    port: int = 0
    unix: str | None = None
    tls: bool = False
    certificate: Path | None = None

    @property
    def is_local(self) -> bool:
        """Whether only this machine can be at the other end."""
        return self.unix is not None or endpoints.is_loopback(self.host)

    def __str__(self) -> str:
        if self.unix is not None:
            return f"unix:{self.unix}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http{'s' if self.tls else ''}://{host}:{self.port}"


@dataclass(frozen=True)
class AdminAccess:
    """Address and token. ``token`` is ``None`` if the daemon needs none."""

    address: AdminAddress
    token: Secret | None
    #: The file that names both, for messages.
    file: Path


def add_url_argument(parser: ArgumentParser, *, default: object = None) -> None:
    """The option ``--url``."""
    parser.add_argument(
        "--url",
        metavar="URL",
        default=default,
        help="where the admin API is, when the configuration cannot tell: http://HOST:PORT, "
        "https://HOST:PORT or unix:PATH",
    )


def add_late_options(parser: ArgumentParser) -> None:
    """The options of a command may also follow its action; those before it stay valid."""
    later = argparse.SUPPRESS
    parser.add_argument("--json", action="store_true", default=later, help=later)
    parser.add_argument("--config", metavar="FILE", default=later, help=later)
    add_url_argument(parser, default=later)


def find_access(config: str | None, url: str | None) -> AdminAccess:
    """Find address and token; the arguments are ``--config`` and ``--url``.

    Raises :class:`ConfigError`, or :class:`Refused` if the address cannot be found.
    """
    path = locate(config, "GEMPROXY_CONFIG", "proxy.yaml", os.environ)
    proxy = _read_proxy(path)
    return AdminAccess(address_of(proxy, url), proxy.admin_token, path)


def address_of(proxy: ProxySettings, url: str | None = None) -> AdminAddress:
    """The address by these settings, or by ``url``. Raises :class:`Refused`."""
    certificate = proxy.tls.cert_file if proxy.tls else None
    if url is not None:
        return _at_url(url, certificate)
    if proxy.admin_endpoint is not None:
        # The certificate of the public listener.
        return _at_endpoint("proxy.adminEndpoint", proxy.admin_endpoint)
    if proxy.endpoint is not None:
        address = _at_endpoint("proxy.endpoint", proxy.endpoint)
    else:
        address = _at_port("proxy.port", proxy.host, proxy.port)
    return replace(address, tls=True, certificate=certificate) if certificate else address


def _read_proxy(path: Path) -> ProxySettings:
    known = KnownSecrets()
    reader = FileReader(path, os.environ)
    proxy: ProxySettings = read_sections(reader, known)["proxy"]
    faults = tuple(reader.faults.found(known.values()))
    if proxy.admin_auth == "required" and proxy.admin_token is None:
        raise ConfigError(faults or (Fault(str(path), 0, "proxy.adminToken", "is missing"),))
    hindering = tuple(fault for fault in faults if _NEEDED.fullmatch(fault.path))
    if hindering:
        raise ConfigError(hindering)
    return proxy


def _at_url(url: str, certificate: Path | None) -> AdminAddress:
    if url.startswith("unix:") and len(url) > len("unix:"):
        return AdminAddress(
            unix=url.removeprefix("unix:"), tls=bool(certificate), certificate=certificate
        )
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise _wrong_url() from None
    if parts.scheme not in _PORTS or not parts.hostname or "@" in parts.netloc:
        raise _wrong_url()
    if parts.path not in {"", "/"} or parts.query or parts.fragment:
        raise _wrong_url()
    tls = parts.scheme == "https"
    return AdminAddress(
        parts.hostname,
        port or _PORTS[parts.scheme],
        tls=tls,
        certificate=certificate if tls else None,
    )


def _wrong_url() -> Refused:
    # The URL is not repeated: it may contain a password.
    return Refused(
        "--url: expected http://HOST:PORT, https://HOST:PORT or unix:PATH", ExitStatus.USAGE
    )


def _at_endpoint(setting: str, description: str) -> AdminAddress:
    kind, *rest = endpoints.split_description(description)
    named = dict(part.split("=", 1) for part in rest if "=" in part)
    first = rest[0] if rest and "=" not in rest[0] else None
    if kind == "unix":
        path = first or named.get("address")
        if path:
            return AdminAddress(unix=path)
    if kind in _LOOPBACKS:
        port = first or named.get("port", "0")
        host = named.get("interface") or _LOOPBACKS[kind]
        address = _at_port(setting, host, int(port))
        if kind == "ssl":
            # The names and the default of twisted.internet.endpoints' ssl:.
            certificate = named.get("certKey") or named.get("privateKey", "server.pem")
            return replace(address, tls=True, certificate=Path(certificate))
        return address
    raise _unknown(setting, f"is {description}")


def _at_port(setting: str, host: str, port: int) -> AdminAddress:
    if not port:
        raise _unknown(setting, "is 0, any free port")
    return AdminAddress(_ANY.get(host.strip("[]"), host.strip("[]")), port)


def _unknown(setting: str, what: str) -> Refused:
    return Refused(
        f"{setting} {what}, which does not tell where the daemon is; "
        "say it with --url http://HOST:PORT"
    )
