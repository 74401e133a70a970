"""One table of routes: every path of the public API, the admin API, the dashboard and the probes.

Theory of operation. A row says which requests of a path are admitted and what serves them. The
table has three readers:

- the gate finds a request's row by its head (:meth:`RouteTable.find`), so that a request without
  one is refused before its body is read, and in the dialect of its API;
- Klein, whose resource is made of the rows that are not ``fast`` (:meth:`RouteTable.resource`);
- the site, which serves ``fast`` rows without Klein. Those whose path is fixed and belongs to one
  dialect take one look-up by method and path (:meth:`RouteTable.fast_rows`). For the others the
  table remembers the rows that a path matches, because a client asks for few models.

A template is matched segment by segment, each percent-decoded, so that a name with a slash is
written with ``%2F``. The path of a ``whole`` route is decoded first, and its parameters may hold
slashes: the names of models do. Of several rows with the same path, the one in the dialect of the
request is used.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias
from urllib.parse import unquote

from klein import Klein
from twisted.internet.defer import Deferred
from twisted.web.resource import IResource

from gemproxy.api.base import Route
from gemproxy.api.dialects import dialect_by_path
from gemproxy.http.coroutine_runner import CoroutineRunner
from gemproxy.http.request import ProxyRequest, decoded_path

#: Answers a request; its result ends when the answer is complete.
Serve: TypeAlias = Callable[[ProxyRequest], "Deferred[None] | CoroutineRunner | None"]
READING = (b"GET", b"HEAD")
#: The template of a path without a row.
UNKNOWN = "unknown"
#: The values of ``{version}``: the versions of Gemini's API.
VERSIONS: Final = frozenset({"v1", "v1beta", "v1alpha"})
#: Paths whose rows are remembered, and the bytes of the longest of them.
_MOST_KNOWN: Final = 1024
_LONGEST_KNOWN: Final = 200
_PARAMETER: Final = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True)
class Row:
    """One route: the check of its requests' heads, and the function that serves them.

    ``check`` raises :class:`~gemproxy.core.errors.ProxyError` for a request that is refused. A
    ``fast`` row is served without Klein.
    """

    route: Route
    check: Callable[[ProxyRequest, Route], None]
    serve: Serve
    fast: bool = False


class RouteTable:
    """See the module. The first row that matches in the dialect of the request is used."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self.rows = tuple(rows)
        self._patterns = [(_pattern(row.route), row) for row in self.rows]
        self._known: dict[bytes, list[_Match]] = {}
        #: The results of :meth:`find` for these paths, by path, method and dialect.
        self._found: dict[tuple[bytes, bytes, str], _Match] = {}

    def find(self, request: ProxyRequest) -> Row | None:
        """Return the row of the request's path and dialect, and note it in the request.

        Sets ``request.parameters`` and ``request.serve``. Raises
        :class:`~gemproxy.core.errors.ProxyError` for a path that cannot be decoded.
        """
        dialect, method = request.dialect, request.method
        asked = (request.path, method, dialect.name if dialect is not None else "")
        found = self._found.get(asked)
        if found is not None:
            row, request.parameters = found
            if row.fast:
                request.serve = row.serve
            return row
        matches = [
            each
            for each in self._matches(request)
            if dialect is None or each[0].route.dialect.name == dialect.name
        ]
        if not matches:
            return None
        for row, parameters in matches:
            if method in row.route.methods:
                request.parameters = parameters
                if row.fast:
                    request.serve = row.serve
                if request.path in self._known:
                    self._found[asked] = row, parameters
                return row
        # The request will be refused; the refusal names the methods of all these rows.
        methods = tuple(dict.fromkeys(each for row, _ in matches for each in row.route.methods))
        row, request.parameters = matches[0]
        return replace(row, route=replace(row.route, methods=methods))

    def methods(self, request: ProxyRequest) -> tuple[str, ...]:
        """Return the methods of the request's path in any dialect, for a preflight."""
        allowed = (row.route.allow for row, _ in self._matches(request))
        return tuple(dict.fromkeys(method for methods in allowed for method in methods))

    def _is_exact(self, route: Route) -> bool:
        """Whether the path of ``route`` is fixed and tells the dialect."""
        path, dialect = route.template, route.dialect.name
        if "{" in path:
            return False
        return dialect_by_path(path.encode("ascii")) == dialect or all(
            row.route.dialect.name == dialect or pattern.fullmatch(path) is None
            for pattern, row in self._patterns
        )

    def _matches(self, request: ProxyRequest) -> list[_Match]:
        """Return the rows that match the request's path, with its parameters."""
        path = request.path
        known = self._known.get(path)
        if known is not None:
            return known
        decoded = decoded_path(request)
        segments = "\n".join(map(unquote, path.decode("utf-8", "replace").split("/")))
        matches: list[_Match] = []
        for pattern, row in self._patterns:
            match = pattern.fullmatch(decoded if row.route.whole else segments)
            if match is not None:
                matches.append((row, match.groupdict()))
        if any("verb" in row.route.values for row, _ in matches):
            # The path of a known call is not the name of a model, whatever the method.
            matches = [each for each in matches if "{verb}" in each[0].route.template]
        if matches and len(path) <= _LONGEST_KNOWN:
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
                self._found.clear()
            self._known[path] = matches
        return matches

    def fast_rows(self) -> dict[tuple[bytes, bytes], Row]:
        """Return the rows that are found by method and path alone."""
        return {
            (method, row.route.template.encode("ascii")): row
            for row in self.rows
            if row.fast and self._is_exact(row.route)
            for method in row.route.methods
        }

    def fast_routes(self) -> dict[tuple[bytes, bytes], Serve]:
        """Return the functions that serve these rows, for the site."""
        return {key: row.serve for key, row in self.fast_rows().items()}

    def resource(self, otherwise: Serve) -> IResource:
        """Return a resource for the rows that are not ``fast``.

        It serves every other path with ``otherwise``.
        """
        app = Klein()
        # A name may contain two slashes in a row, or begin with one. Werkzeug would redirect the
        # former, and does not match the latter.
        app.url_map.merge_slashes = False
        converters = app.url_map.converters
        traits = {"regex": ".+", "part_isolating": False}
        converters["name"] = type("NameConverter", (converters["path"],), traits)
        for row in self.rows:
            if row.fast:
                continue
            methods = [each.decode("ascii") for each in row.route.methods]
            # Two rows may have the same path and other methods.
            endpoint = f"{' '.join(methods)} {row.route.template}"
            app.route(_rule(row), methods=methods, endpoint=endpoint)(_wait(row.serve))
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


def _rule(row: Row) -> str:
    """Return the template in the syntax of werkzeug, which matches decoded paths."""
    return row.route.template.replace("{", "<name:").replace("}", ">")


#: A row and the parameters of a path that it matches.
_Match: TypeAlias = tuple[Row, Mapping[str, str]]


def _pattern(route: Route) -> re.Pattern[str]:
    """Return the template as a pattern of decoded paths.

    The segments of a route that is not ``whole`` are divided by line feeds, which no path holds, so
    that a parameter may hold slashes but no second segment.
    """
    pattern = ""
    for place, part in enumerate(_PARAMETER.split(route.template)):
        if place % 2 == 0:
            literal = part if route.whole else part.replace("/", "\n")
            pattern += re.escape(literal)
            continue
        values = route.values.get(part) or (VERSIONS if part == "version" else None)
        value = r"[^\n]+" if values is None else "|".join(map(re.escape, sorted(values)))
        pattern += f"(?P<{part}>{value})"
    return re.compile(pattern)
