"""Which hosts a listener answers for, and whether a web page of another site sends the request.

This is decided from a request's head, before anything else. It prevents two attacks:

- DNS rebinding: a page whose name is made to resolve to this machine has the same origin as the
  listener, to the browser. ``Host`` still holds the page's own name.
- Cross-site requests: any page may send simple requests to any address, and a listener that needs
  no token would serve them. ``Origin`` or ``Sec-Fetch-Site``, which no page can set or omit, name
  the page.

Programs can forge all of these headers; tokens are the protection against them. So a request
without these headers passes.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Address, IPv6Address, ip_address

from gemproxy.core.errors import Forbidden, MisdirectedRequest
from gemproxy.http.routes import READING, is_admin_path

#: Supervisors and load balancers request these under any name or address. They show a web page only
#: that a process listens, which a refused connection would show as well.
LIVENESS = (b"/livez", b"/healthz")
READINESS = b"/readyz"
PROBES = frozenset({*LIVENESS, READINESS})

_Address = IPv4Address | IPv6Address
#: RFC 9110 section 7.2: ``uri-host [":" port]``; the port may be empty.
_AUTHORITY = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^:\[\]]+)(?::([0-9]{0,5}))?")
_ORIGIN = re.compile(r"([a-z][a-z0-9+.-]*)://(.+)")
#: A browser takes a name whose last label is a number as an IPv4 address (URL standard, section
#: 3.5), in any abbreviation; no page can have such a name.
_NUMERIC = re.compile(r"(?:.*\.)?(?:0x[0-9a-f]*|[0-9]+)")
_DEFAULT_PORTS = {"http": "80", "https": "443"}
#: ``Sec-Fetch-Site`` of requests that no other site's page sent. ``same-site`` is not one of them:
#: a site includes all ports, so pages of every other program on this machine are ``same-site``.
_OWN_SITES = frozenset({b"same-origin", b"none"})
_MOST_KNOWN = 64


class Reach(Enum):
    """Who can connect to a listener."""

    LOOPBACK = "programs of this machine, and with them every page in its browsers"
    PUBLIC = "other machines"
    FILE = "whoever may open the Unix socket; no browser can"


@dataclass(frozen=True)
class OriginSettings:
    """The operator's settings.

    ``allowed_hosts`` are in lower case, addresses in their shortest form. ``anonymous`` tells
    whether clients need no token, ``admin_open`` whether the operator needs none.
    """

    allowed_hosts: frozenset[str] = frozenset()
    cors_origins: frozenset[str] = frozenset()
    anonymous: bool = False
    admin_open: bool = False


class OriginGuard:
    """Checks the requests of one listener. Caches hosts that passed."""

    def __init__(self, settings: OriginSettings, reach: Reach = Reach.LOOPBACK) -> None:
        self._reach = reach
        self._known: set[bytes | None] = set()
        self.apply(settings)

    def apply(self, settings: OriginSettings) -> None:
        """Apply other settings."""
        self._settings = settings
        self._asks_everybody = not (settings.anonymous or settings.admin_open)
        self._known.clear()

    def set_reach(self, reach: Reach) -> None:
        """Set who can connect to the listener, after it has been opened."""
        self._reach = reach
        self._known.clear()

    def check(self, method: bytes, path: bytes, values: Mapping[bytes, bytes]) -> None:
        """Raise :class:`MisdirectedRequest` or :class:`Forbidden` for a request that must not pass.

        ``values`` are headers by their names in lower case; ``host`` is the authority of the
        request, also if its target is in absolute form.
        """
        if path in PROBES:
            return
        host = values.get(b"host")
        if host not in self._known:
            check_host(host, self._reach, self._settings.allowed_hosts)
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            self._known.add(host)
        # Programs other than browsers send neither.
        if (b"origin" in values or b"sec-fetch-site" in values) and not self._asks_everybody:
            check_site(method, path, values, self._settings)


def check_host(host: bytes | None, reach: Reach, allowed: AbstractSet[str]) -> None:
    """Raise :class:`MisdirectedRequest` for a request to another host.

    Only HTTP/1.0 allows a request without a host, and browsers always send one.
    """
    if host is None or _answers_for(host, reach, allowed):
        return
    name = host.decode("latin-1")[:100]
    raise MisdirectedRequest(
        f"This listener does not answer for the host {name!r}. Ask for one of its own names, or"
        " add the name to proxy.allowedHosts."
    )


def check_site(
    method: bytes, path: bytes, values: Mapping[bytes, bytes], settings: OriginSettings
) -> None:
    """Raise :class:`Forbidden` for a request of another site's page where no token is needed."""
    is_admin = is_admin_path(path)
    if not (settings.admin_open if is_admin else settings.anonymous):
        return
    origin, site = values.get(b"origin"), values.get(b"sec-fetch-site")
    if not _is_foreign(origin, site, values.get(b"host")):
        return
    if is_admin:
        if _is_dashboard(method, path):
            return
        raise Forbidden(
            "The admin API asks for no token here (proxy.adminAuth), and so it does not serve pages"
            " of another site."
        )
    # A preflight is answered: without CORS headers in the answer the browser blocks the page.
    if method == b"OPTIONS" or _may_call(origin, settings.cors_origins):
        return
    raise Forbidden(
        "This proxy asks for no token, and so it does not serve pages of another site. Add the"
        " page's origin to proxy.corsOrigins, or let clients bring a token (proxy.accessTokens)."
    )


def reach_of(host: str | None) -> Reach:
    """Return who can connect to a listener at the address ``host``, ``None`` for a Unix socket."""
    if host is None:
        return Reach.FILE
    address = _address(host.partition("%")[0])
    return Reach.LOOPBACK if address is not None and address.is_loopback else Reach.PUBLIC


def _answers_for(host: bytes, reach: Reach, allowed: AbstractSet[str]) -> bool:
    if reach is Reach.FILE or (reach is Reach.PUBLIC and not allowed):
        return True
    parts = _split(host.decode("latin-1"))
    if parts is None:
        return False
    name = parts[0]
    if name == "localhost" or name in allowed:
        return True
    address = _address(name)
    # Unlike a name, an address cannot be rebound. A listener on loopback sees another address only
    # if something forwards requests to it.
    return address is not None and (reach is Reach.PUBLIC or address.is_loopback)


def _split(authority: str) -> tuple[str, str] | None:
    """Return host and port. The host is in lower case, an address in its shortest form."""
    match = _AUTHORITY.fullmatch(authority)
    if match is None:
        return None
    host, port = match[1].lower(), match[2] or ""
    if not host.startswith("["):
        host = host.removesuffix(".")
    address = _address(host)
    if address is None and host.startswith("["):
        return None
    return str(address or host), port


def _address(host: str) -> _Address | None:
    """Return ``host`` as an address, if it is one, with or without brackets."""
    try:
        if host.startswith("["):
            address: _Address = IPv6Address(host[1:-1])
        elif ":" not in host and _NUMERIC.fullmatch(host):
            address = IPv4Address(socket.inet_aton(host))
        else:
            address = ip_address(host)
    except (ValueError, OSError):
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _is_foreign(origin: bytes | None, site: bytes | None, host: bytes | None) -> bool:
    """Whether the browser says that a page of another origin sent the request."""
    if site is not None and site not in _OWN_SITES:
        return True
    return origin is not None and not _is_same(origin, host)


def _is_same(origin: bytes, host: bytes | None) -> bool:
    """Whether a page of ``origin`` was loaded from ``host``.

    The scheme is ignored, because a proxy before us may terminate TLS.
    """
    match = _ORIGIN.fullmatch(origin.decode("latin-1").lower())
    if match is None or host is None:
        return False  # For example "null".
    usual = _DEFAULT_PORTS.get(match[1], "")
    page, asked = _split(match[2]), _split(host.decode("latin-1"))
    if page is None or asked is None:
        return False
    return page[0] == asked[0] and (page[1] or usual) == (asked[1] or usual)


def _may_call(origin: bytes | None, cors_origins: frozenset[str]) -> bool:
    if "*" in cors_origins:
        return True
    return origin is not None and origin.decode("latin-1") in cors_origins


def _is_dashboard(method: bytes, path: bytes) -> bool:
    """Whether a file of the dashboard is read: any page may link to it, since it holds no data."""
    return method in READING and (
        path in {b"/admin", b"/admin/"} or path.startswith(b"/admin/page/")
    )
