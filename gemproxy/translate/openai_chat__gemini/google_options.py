"""Options that only Gemini has: the ``google`` object beside OpenAI's parameters.

Google's JSON accepts snake_case and camelCase, and so do its options here. An option may be in
several places: ``extra_body.google`` has priority over ``google``, and that over the top level.
"""

from __future__ import annotations

import re
from typing import Any, Generic, NamedTuple, TypeVar

from gemproxy.api.openai.schema.requests import (
    ChatCompletionRequest,
    GoogleImageConfig,
    GoogleOptions,
    GoogleSafetySetting,
    GoogleThinkingConfig,
)
from gemproxy.core.errors import InvalidRequest
from gemproxy.providers.gemini.wire.requests import ImageConfig, SafetySetting

_CACHED_CONTENT = re.compile(r"(?:cachedContents/)?(?P<id>[A-Za-z0-9_-]+)")

_T = TypeVar("_T")


class Placed(NamedTuple, Generic[_T]):
    """An option, and the path under which the client sent it."""

    value: _T
    path: str


class Options(NamedTuple):
    """The options of a request, each from the place with the highest priority."""

    thinking_config: Placed[GoogleThinkingConfig] | None = None
    safety_settings: Placed[list[GoogleSafetySetting]] | None = None
    cached_content: Placed[str] | None = None
    image_config: Placed[GoogleImageConfig] | None = None


_NOTHING = Options()


def google_options(request: ChatCompletionRequest) -> Options:
    """The options of the request from all places.

    The SDK merges its ``extra_body`` into the top level, so that ``extra_body={"google": …}``
    arrives as ``google`` and Google's documented double nesting as ``extra_body.google``.
    """
    nested = request.extra_body.google if request.extra_body is not None else None
    if nested is None and request.google is None and request.image_config is None:
        return _NOTHING
    found: dict[str, Placed[Any]] = {}
    if request.image_config is not None:
        found["image_config"] = Placed(request.image_config, "image_config")
    for options, path in ((request.google, "google"), (nested, "extra_body.google")):
        if options is not None:
            found |= _members(options, path)
    return Options(**found)


def _members(options: GoogleOptions, path: str) -> dict[str, Placed[Any]]:
    members = {name: either(options, path, name) for name in Options._fields}
    return {name: placed for name, placed in members.items() if placed.value is not None}


def either(
    options: GoogleOptions | GoogleThinkingConfig | GoogleImageConfig, path: str, name: str
) -> Placed[Any]:
    """The member of the snake_case ``name``, in the spelling that the client chose.

    Raises :class:`InvalidRequest` if both are given.
    """
    snake, camel = getattr(options, name), getattr(options, f"camel_{name}")
    if camel is None:
        return Placed(snake, f"{path}.{name}")
    first, *others = name.split("_")
    place = f"{path}.{first}{''.join(map(str.capitalize, others))}"
    if snake is not None:
        raise InvalidRequest(f"{place}: sent twice, also as {path}.{name}.", param=place)
    return Placed(camel, place)


def safety_settings(google: Options) -> list[SafetySetting] | None:
    """The safety settings in Gemini's shape."""
    if google.safety_settings is None or not google.safety_settings.value:
        return None
    settings = google.safety_settings.value
    return [SafetySetting(category=each.category, threshold=each.threshold) for each in settings]


def image_config(google: Options) -> ImageConfig | None:
    """Aspect ratio and size of images; Google checks whether the model has them."""
    if google.image_config is None:
        return None
    config, path = google.image_config
    made = ImageConfig(
        aspect_ratio=either(config, path, "aspect_ratio").value,
        image_size=either(config, path, "image_size").value,
    )
    return None if made == ImageConfig() else made


def cached_content(google: Options, request: ChatCompletionRequest) -> str | None:
    """The name of the cached prompt, ``cachedContents/ID``.

    Raises :class:`InvalidRequest` if the request has what must be in the cache instead:
    Gemini answers 400 for a cached prompt together with instructions or tools.
    """
    if google.cached_content is None:
        return None
    name, path = google.cached_content
    if (match := _CACHED_CONTENT.fullmatch(name)) is None:
        raise InvalidRequest(f"{path}: expected a name like cachedContents/ID.", param=path)
    if request.tools or request.functions or request.web_search_options is not None:
        raise InvalidRequest(
            f"{path}: tools cannot be combined with cached content; cache them with it.",
            param=path,
        )
    return f"cachedContents/{match['id']}"
