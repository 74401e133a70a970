"""The names of endpoints as operators see them in usage, records and settings of clients."""

from __future__ import annotations

#: The name of refused routes.
NOT_OFFERED = "other"
#: By the beginning of the route; the first that fits counts.
_BY_BEGINNING = (
    ("/v1/chat/", "chat"),
    ("/v1/responses", "responses"),
    ("/v1/messages", "messages"),
    ("/v1/embeddings", "embeddings"),
    ("/v1/models", "models"),
)
_NAMES: dict[str, str] = {}
#: Routes are templates, so there are few; this bounds them all the same.
_MOST_NAMES = 1024


def endpoint_name(route: str) -> str:
    """The endpoint of a route's template."""
    name = _NAMES.get(route)
    if name is None:
        if len(_NAMES) >= _MOST_NAMES:
            _NAMES.clear()
        name = _NAMES[route] = _name(route)
    return name


def _name(route: str) -> str:
    # Native templates begin with /{version}/ or /upload/.
    if not route.startswith("/v1/"):
        return "native" if route.startswith("/") else NOT_OFFERED
    return next((name for begin, name in _BY_BEGINNING if route.startswith(begin)), NOT_OFFERED)
