"""Paths and what serves them, as a table that can be read by a stranger and asked by the gate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar
from urllib.parse import unquote

_T = TypeVar("_T")


@dataclass(frozen=True)
class Found(Generic[_T]):
    """A path's entry: its template, what serves each method, and the value of its parameter."""

    template: str
    methods: Mapping[str, _T]
    value: str

    @property
    def allow(self) -> tuple[str, ...]:
        """For the header ``Allow``; whoever serves GET serves HEAD (RFC 9110 section 9.3.2)."""
        return (*self.methods, *(("HEAD",) if "GET" in self.methods else ()))

    def action(self, method: str) -> _T | None:
        """What serves ``method``; ``None`` where nothing does."""
        return self.methods.get("GET" if method == "HEAD" else method)


class RouteTable(Generic[_T]):
    """Templates such as ``/admin/keys/{keyId}/enable``, with at most one parameter each.

    A parameter is one segment of the path, percent-decoded, and not empty. A name with a slash is
    written with ``%2F``. Of several templates that fit the first one counts.
    """

    def __init__(self, routes: Mapping[str, Mapping[str, _T]]) -> None:
        self._routes = [
            (template, template.split("/"), methods) for template, methods in routes.items()
        ]

    def find(self, path: str) -> Found[_T] | None:
        """The entry for ``path`` as it stood in the request, without its query."""
        segments = [unquote(segment) for segment in path.split("/")]
        for template, pattern, methods in self._routes:
            value = _match(pattern, segments)
            if value is not None:
                return Found(template, methods, value)
        return None


def is_admin_path(path: bytes) -> bool:
    """Whether a request's path, as it came, belongs to the admin API."""
    return path == b"/admin" or path.startswith(b"/admin/")


def _match(pattern: list[str], segments: list[str]) -> str | None:
    """The parameter's value, empty where there is none; ``None`` where the path is another."""
    if len(pattern) != len(segments):
        return None
    value = ""
    for expected, given in zip(pattern, segments, strict=True):
        if expected.startswith("{") and given:
            value = given
        elif expected != given:
            return None
    return value
