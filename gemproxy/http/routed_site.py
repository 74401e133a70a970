"""A site with a table of routes, and its gate."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from twisted.internet.interfaces import IReactorTime

from gemproxy.api.base import Route
from gemproxy.api.dialects import DialectChoice
from gemproxy.core.errors import ProxyError, UnknownURL
from gemproxy.http.connection_limits import ConnectionLimits
from gemproxy.http.lifecycle import RequestLifecycle, check_public, check_size
from gemproxy.http.origins import OriginGuard
from gemproxy.http.request import ProxyRequest
from gemproxy.http.routes import UNKNOWN, RouteTable, Row, is_admin_path
from gemproxy.http.site import ProxySite


class AdminGate(Protocol):
    """Checks requests to paths under ``/admin``."""

    def check_unknown(self, request: ProxyRequest) -> None:
        """Refuse a path without a row. Raises :class:`ProxyError`."""

    def reject(self, request: ProxyRequest, error: ProxyError) -> None:
        """Answer a request that was refused before it was served."""


def routed_site(
    reactor: IReactorTime,
    rows: Iterable[Row],
    lifecycle: RequestLifecycle | None,
    admin: AdminGate | None,
    dialects: DialectChoice,
    guard: OriginGuard | None = None,
    limits: ConnectionLimits | None = None,
) -> ProxySite:
    """Return a site that serves ``rows``: of the public API, the admin API or both.

    ``lifecycle`` answers for paths without a row, ``admin`` for those under ``/admin``; if one is
    ``None`` the other answers for all.
    """
    routes = RouteTable(rows)
    gate = _RoutedGate(routes, lifecycle, admin, dialects)
    site = ProxySite(routes.resource(gate.serve_unrouted), reactor, gate, dialects, guard, limits)
    site.fast_routes = routes.fast_routes()
    return site


class _RoutedGate:
    """See :class:`~gemproxy.http.gate.RequestGate`. A request is checked by its row."""

    def __init__(
        self,
        routes: RouteTable,
        lifecycle: RequestLifecycle | None,
        admin: AdminGate | None,
        dialects: DialectChoice,
    ) -> None:
        self._routes = routes
        self._fast = routes.fast_rows()
        self._lifecycle = lifecycle
        self._admin = admin
        self._dialects = dialects
        #: Only requests of the public API reserve anything. Bound here to save each of them a call.
        self.release: Callable[[ProxyRequest], None] = (
            _release_nothing if lifecycle is None else lifecycle.release
        )

    def check_head(self, request: ProxyRequest) -> None:
        row = self._fast.get((request.method, request.path))
        if row is None:
            if request.method == b"OPTIONS" and self._is_preflight(request):
                check_public(request)
                return
            request.dialect = self._dialects.of(request.uri, request.values)
            row = self._routes.find(request)
        if row is not None:
            row.check(request, row.route)
        elif (admin := self._admin_of(request)) is not None:
            admin.check_unknown(request)
        elif self._lifecycle is not None:
            unknown = Route(UNKNOWN, (), request.dialect or self._dialects.of(b"", {}))
            self._lifecycle.check_head(request, unknown)

    def check_body_size(self, request: ProxyRequest, size: int) -> None:
        if request.has_place and self._lifecycle is not None:
            self._lifecycle.check_body_size(request, size)
        else:
            check_size(request, size)

    def reject(self, request: ProxyRequest, error: ProxyError) -> None:
        gate = self._admin_of(request) or self._lifecycle
        if gate is not None:
            gate.reject(request, error)

    def serve_unrouted(self, request: ProxyRequest) -> None:
        """Answer an admitted request without a row: a browser's preflight."""
        if self._lifecycle is not None and self._is_preflight(request):
            self._lifecycle.preflight(request, self._routes.methods(request))
        else:
            self.reject(request, UnknownURL("Unknown request URL."))

    def _is_preflight(self, request: ProxyRequest) -> bool:
        return (
            request.method == b"OPTIONS"
            and self._lifecycle is not None
            and bool(self._lifecycle.settings.cors_origins)
            and self._admin_of(request) is None
        )

    def _admin_of(self, request: ProxyRequest) -> AdminGate | None:
        """Return the admin gate if it is responsible for the request, else ``None``."""
        is_admin = self._lifecycle is None or is_admin_path(request.path)
        return self._admin if is_admin else None


def _release_nothing(_: ProxyRequest) -> None:
    """Nothing was reserved."""
