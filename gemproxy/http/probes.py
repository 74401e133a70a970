"""The probes of supervisors and load balancers, which need no token."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from gemproxy.api.base import Route
from gemproxy.api.dialects import Dialect
from gemproxy.http.lifecycle import RequestLifecycle, check_public
from gemproxy.http.origins import LIVENESS, READINESS
from gemproxy.http.request import ProxyRequest
from gemproxy.http.routes import READING, UNKNOWN, Row


class Probes:
    """Liveness and readiness. ``can_serve`` tells whether any key is eligible.

    ``dialect`` encodes the answers to other methods.
    """

    def __init__(
        self, lifecycle: RequestLifecycle, can_serve: Callable[[], bool], dialect: Dialect
    ) -> None:
        self._lifecycle = lifecycle
        self._can_serve = can_serve
        self._dialect = dialect

    def rows(self) -> Iterator[Row]:
        """Yield the rows of the probes for the table of routes."""
        serve = dict.fromkeys(LIVENESS, self._live) | {READINESS: self._ready}
        for path, answer in serve.items():
            route = Route(path.decode("ascii"), READING, self._dialect)
            yield Row(route, self._check, answer)

    def _check(self, request: ProxyRequest, route: Route) -> None:
        if request.method in route.methods:
            check_public(request)
        else:
            self._lifecycle.check_head(request, Route(UNKNOWN, (), self._dialect))

    def _live(self, request: ProxyRequest) -> None:
        """Answer 200: the reactor runs."""
        self._lifecycle.probe(request, 200, b'{"status":"live"}')

    def _ready(self, request: ProxyRequest) -> None:
        """Answer whether some key can serve, and the process is not about to stop."""
        if self._lifecycle.draining or self._lifecycle.leaving:
            status, body = 503, b'{"status":"draining"}'
        elif not self._can_serve():
            status, body = 503, b'{"status":"no key can serve"}'
        else:
            status, body = 200, b'{"status":"ready"}'
        self._lifecycle.probe(request, status, body)
