"""One table of routes: every path of the public API, the admin API, the dashboard and the probes.

Theory of operation. A row says which requests of a path are admitted and what serves them. The
table has three readers:

- the gate finds a request's row by its head (:meth:`RouteTable.find`), so that a request without
  one is refused before its body is read, and in the dialect of its API;
- Klein, whose resource is made of the same rows (:meth:`RouteTable.resource`);
- the site, which serves ``fast`` rows without Klein after one look-up by method and path
  (:meth:`RouteTable.fast_rows`).

A template is matched segment by segment, each percent-decoded, so that a name with a slash is
written with ``%2F``. A ``whole`` row is matched after the whole path was decoded, and its parameter
may hold slashes: the names of models do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias
from urllib.parse import unquote

from klein import Klein
from twisted.internet.defer import Deferred
from twisted.web.resource import IResource

from gemproxy.api.base import Route
from gemproxy.http.coroutine_runner import CoroutineRunner
from gemproxy.http.request import ProxyRequest, decoded_path

#: Answers a request; its result ends when the answer is complete.
Serve: TypeAlias = Callable[[ProxyRequest], "Deferred[None] | CoroutineRunner | None"]
READING = (b"GET", b"HEAD")
#: The template of a path without a row.
UNKNOWN = "unknown"


@dataclass(frozen=True)
class Row:
    """One route: the check of its requests' heads, and the function that serves them.

    ``check`` raises :class:`~gemproxy.core.errors.ProxyError` for a request that is refused.
    """

    route: Route
    check: Callable[[ProxyRequest, Route], None]
    serve: Serve
    fast: bool = False
    whole: bool = False


class RouteTable:
    """See the module. The first row that matches is used."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self.rows = tuple(rows)
        self._segments = [(row.route.template.split("/"), row) for row in self.rows]

    def find(self, request: ProxyRequest) -> Row | None:
        """Return the row of the request's path and set ``request.parameter``.

        Raises :class:`~gemproxy.core.errors.ProxyError` for a path that cannot be decoded.
        """
        decoded = decoded_path(request).split("/")
        segments = [unquote(each) for each in request.path.decode("utf-8", "replace").split("/")]
        for template, row in self._segments:
            value = _match(template, decoded if row.whole else segments, whole=row.whole)
            if value is not None:
                request.parameter = value
                return row
        return None

    def fast_rows(self) -> dict[tuple[bytes, bytes], Row]:
        """Return the rows that need no router, by method and path."""
        return {
            (method, row.route.template.encode("ascii")): row
            for row in self.rows
            if row.fast
            for method in row.route.methods
        }

    def fast_routes(self) -> dict[tuple[bytes, bytes], Serve]:
        """Return the functions that serve ``fast`` rows, for the site."""
        return {key: row.serve for key, row in self.fast_rows().items()}

    def resource(self, otherwise: Serve) -> IResource:
        """Return a resource that serves all rows, and every other path with ``otherwise``."""
        app = Klein()
        # A name may contain two slashes in a row, or begin with one. Werkzeug would redirect the
        # former, and does not match the latter.
        app.url_map.merge_slashes = False
        converters = app.url_map.converters
        traits = {"regex": ".+", "part_isolating": False}
        converters["name"] = type("NameConverter", (converters["path"],), traits)
        for row in self.rows:
            methods = [each.decode("ascii") for each in row.route.methods]
            app.route(_pattern(row), methods=methods, endpoint=row.route.template)(_wait(row.serve))
        app.route("/", defaults={"_": ""}, methods=None, endpoint="/")(_wait(otherwise))
        app.route("/<path:_>", methods=None, endpoint="/*")(_wait(otherwise))
        return app.resource()


def is_admin_path(path: bytes) -> bool:
    """Whether the undecoded path of a request belongs to the admin API."""
    return path == b"/admin" or path.startswith(b"/admin/")


def _wait(serve: Serve) -> Callable[..., Deferred[None] | None]:
    """Return ``serve`` for Klein, which waits for a Deferred and reads the parameter itself."""

    def wait(request: Any, **_: str) -> Deferred[None] | None:
        served = serve(request)
        return served.ended() if isinstance(served, CoroutineRunner) else served

    return wait


def _pattern(row: Row) -> str:
    """Return the template in the syntax of werkzeug, which matches decoded paths."""
    return row.route.template.replace("{", "<name:").replace("}", ">")


def _match(template: list[str], segments: list[str], *, whole: bool) -> str | None:
    """Return the parameter's value, "" if there is none, ``None`` if the path does not match."""
    if whole and len(segments) > len(template):
        last = len(template) - 1
        segments = [*segments[:last], "/".join(segments[last:])]
    if len(template) != len(segments):
        return None
    value = ""
    for expected, given in zip(template, segments, strict=True):
        if expected.startswith("{") and given:
            value = given
        elif expected != given:
            return None
    return value
