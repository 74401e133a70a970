"""The names of endpoints as operators see them in usage, records and settings of clients."""

from __future__ import annotations

#: By the beginning of the route; the first that fits counts.
_BY_BEGINNING = (
    ("/v1/chat/", "chat"),
    ("/v1/responses", "responses"),
    ("/v1/messages", "messages"),
    ("/v1/embeddings", "embeddings"),
    ("/v1/images/", "images"),
    ("/v1/audio/", "audio"),
    ("/v1/batches", "batches"),
)
_BY_FOLDER = {"/v1/files": "files", "/v1/models": "models"}
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
    for beginning, name in _BY_BEGINNING:
        if route.startswith(beginning):
            return name
    # Native paths are /v1beta/…, /upload/… and those of both versions with a colon.
    if ":" in route or not route.startswith("/v1/"):
        return "native" if route.startswith("/") else "other"
    return _BY_FOLDER.get("/".join(route.split("/")[:3]), "other")
