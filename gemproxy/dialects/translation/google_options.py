"""What only Gemini has: the ``google`` object that a client may send beside OpenAI's parameters."""

from __future__ import annotations

import re
from typing import NamedTuple

from gemproxy.dialects.gemini.requests import SafetySetting
from gemproxy.dialects.openai.requests import ChatCompletionRequest, GoogleOptions
from gemproxy.errors import InvalidRequest

_CACHED_CONTENT = re.compile(r"(?:cachedContents/)?(?P<id>[A-Za-z0-9_-]+)")


class PlacedOptions(NamedTuple):
    """The options, and the path under which the client sent them."""

    options: GoogleOptions
    path: str


_NOTHING = PlacedOptions(GoogleOptions(), "google")


def google_options(request: ChatCompletionRequest) -> PlacedOptions:
    """The options of the request, wherever they stand.

    The SDK merges its ``extra_body`` into the top level, so that ``extra_body={"google": …}``
    arrives as ``google`` and Google's documented double nesting as ``extra_body.google``.
    """
    nested = request.extra_body.google if request.extra_body is not None else None
    if nested is None:
        return _NOTHING if request.google is None else PlacedOptions(request.google, "google")
    if request.google is not None:
        raise InvalidRequest("google: sent twice, also as extra_body.google.", param="google")
    return PlacedOptions(nested, "extra_body.google")


def safety_settings(google: PlacedOptions) -> list[SafetySetting] | None:
    """The safety settings in Gemini's shape."""
    settings = google.options.safety_settings
    if not settings:
        return None
    return [SafetySetting(category=each.category, threshold=each.threshold) for each in settings]


def cached_content(google: PlacedOptions, request: ChatCompletionRequest) -> str | None:
    """The name of the cached prompt, ``cachedContents/ID``.

    Raises :class:`InvalidRequest` where the request has what must stand in the cache instead:
    Gemini answers 400 for a cached prompt together with instructions or tools.
    """
    name = google.options.cached_content
    if name is None:
        return None
    path = f"{google.path}.cached_content"
    if (match := _CACHED_CONTENT.fullmatch(name)) is None:
        raise InvalidRequest(f"{path}: expected a name like cachedContents/ID.", param=path)
    if request.tools or request.functions or request.web_search_options is not None:
        raise InvalidRequest(
            f"{path}: tools cannot be combined with cached content; cache them with it.",
            param=path,
        )
    return f"cachedContents/{match['id']}"
