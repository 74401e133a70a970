"""The requests of the Messages API: their types, and the functions that decode them.

:func:`decode_messages` and :func:`decode_count_tokens` return typed requests in range. Otherwise
they raise :class:`InvalidRequest` with the path of the field. ``docs/messages.md`` has the support
of each parameter.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec

from gemproxy.api.anthropic.schema.blocks import Message, NonEmpty, TextBlock
from gemproxy.core import decode_errors
from gemproxy.core.decoding import DECODE_ERRORS, decode_json
from gemproxy.core.errors import InvalidRequest
from gemproxy.media_bypass import MIN_BYTES, NOTHING, ExtractedMedia, extract

#: The reason by which the SDKs know that they have to send the whole conversation.
THREAD_UNSUPPORTED: Final = "thread_unsupported_request"
Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
_Budget = Annotated[int, msgspec.Meta(ge=-1, le=2**31 - 1)]


class _Shape(msgspec.Struct, gc=False, frozen=True):
    """A JSON object that a client sent."""


# Tools --------------------------------------------------------------------------------------


class UserLocation(_Shape, frozen=True):
    """The approximate location of a user, for a web search."""

    city: str | None = None
    region: str | None = None
    country: str | None = None
    timezone: str | None = None


class ToolDefinition(_Shape, frozen=True):
    """A tool of any type; ``type`` is ``None`` or ``custom`` for a function of the client's.

    Tools that Anthropic defines have their version in the type, such as ``web_search_20250305``.
    """

    name: NonEmpty | None = None
    type: str | None = None
    description: str | None = None
    input_schema: dict[str, Any] | None = None
    user_location: UserLocation | None = None


class ToolChoice(_Shape, frozen=True):
    """What the model may or must do."""

    type: Literal["auto", "any", "tool", "none"]
    name: NonEmpty | None = None
    disable_parallel_tool_use: bool | None = None


# Options ------------------------------------------------------------------------------------


class Thinking(_Shape, frozen=True):
    """Whether the model thinks, and whether its thoughts are shown.

    ``between_tools`` and ``adaptive`` leave it to the model. ``updates`` is Claude Code's.
    """

    type: Literal["enabled", "disabled", "adaptive", "between_tools"]
    budget_tokens: _Budget | None = None
    display: Literal["summarized", "omitted", "updates"] | None = None


class JSONFormat(_Shape, frozen=True):
    """JSON that follows a schema."""

    type: Literal["json_schema"]
    schema: dict[str, Any]


class OutputConfig(_Shape, frozen=True):
    """Effort and format of the answer."""

    effort: Effort | None = None
    format: JSONFormat | None = None


class Metadata(_Shape, frozen=True):
    """Names the user; Claude Code writes its session there. It chooses the key, no more."""

    user_id: str | None = None


class Prompt(_Shape, frozen=True, kw_only=True):
    """What both requests have. A parameter that is not here is ignored on purpose."""

    model: NonEmpty
    messages: Annotated[list[Message], msgspec.Meta(min_length=1)]
    system: str | list[TextBlock] | None = None
    tools: list[ToolDefinition] | None = None
    tool_choice: ToolChoice | None = None
    thinking: Thinking | None = None
    output_config: OutputConfig | None = None
    #: The older place of ``output_config.format``.
    output_format: JSONFormat | None = None
    mcp_servers: list[Any] | None = None
    metadata: Metadata | None = None
    #: A conversation that the server holds; refused, so that clients send the whole of it.
    thread: Any = None


class MessagesRequest(Prompt, frozen=True, kw_only=True):
    """``POST /v1/messages``."""

    max_tokens: Annotated[int, msgspec.Meta(ge=1)]
    stream: bool | None = None
    temperature: Annotated[float, msgspec.Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    top_k: Annotated[int, msgspec.Meta(ge=0)] | None = None
    stop_sequences: list[str] | None = None


class CountTokensRequest(Prompt, frozen=True, kw_only=True):
    """``POST /v1/messages/count_tokens``."""


_Request = TypeVar("_Request", MessagesRequest, CountTokensRequest)

_BLOCKS = (
    "text",
    "image",
    "document",
    "search_result",
    "thinking",
    "redacted_thinking",
    "tool_use",
    "tool_result",
)
#: The values of each enumeration, by the path without indexes.
_CHOICES: Final[dict[str, tuple[str, ...]]] = {
    "messages.role": ("user", "assistant", "system"),
    "messages.content.type": _BLOCKS,
    "messages.content.content.type": ("text", "image", "document", "search_result"),
    "messages.content.source.type": ("base64", "url", "file", "text", "content"),
    "system.type": ("text",),
    "tool_choice.type": ("auto", "any", "tool", "none"),
    "thinking.type": ("enabled", "disabled", "adaptive", "between_tools"),
    "thinking.display": ("summarized", "omitted"),
    "output_config.effort": ("low", "medium", "high", "xhigh", "max"),
    "output_config.format.type": ("json_schema",),
    "output_format.type": ("json_schema",),
}

_messages_decoder = msgspec.json.Decoder(MessagesRequest)
_count_decoder = msgspec.json.Decoder(CountTokensRequest)


def decode_messages(body: bytes) -> tuple[MessagesRequest, ExtractedMedia]:
    """The request that ``body`` holds, and the media that was taken out of it.

    Raises :class:`InvalidRequest` for a body that is not JSON or UTF-8, is nested too deeply, or
    has a field that is missing, of a wrong type or out of range. ``param`` is the field's path,
    such as ``messages[2].content``.

    Large media is not copied: the request refers to it in ``body``.
    """
    return _decode(_messages_decoder, body)


def decode_count_tokens(body: bytes) -> tuple[CountTokensRequest, ExtractedMedia]:
    """As :func:`decode_messages`, for the count of a prompt's tokens."""
    return _decode(_count_decoder, body)


def _decode(
    decoder: msgspec.json.Decoder[_Request], body: bytes
) -> tuple[_Request, ExtractedMedia]:
    if len(body) >= MIN_BYTES:
        rest, aside = extract(body)
        if aside.pieces:
            # Decode the whole body to get the position of a mistake.
            with suppress(InvalidRequest):
                return _checked(decoder, rest), aside
    return _checked(decoder, body), NOTHING


def _checked(decoder: msgspec.json.Decoder[_Request], body: bytes) -> _Request:
    try:
        request = decode_json(decoder, body)
    except DECODE_ERRORS as error:
        raise decode_errors.malformed(error, choices=_CHOICES) from None
    if request.mcp_servers:
        raise InvalidRequest(
            "mcp_servers: MCP servers are not supported here; connect to them in the client.",
            param="mcp_servers",
        )
    if request.thread is not None:
        raise InvalidRequest(
            "thread: conversations are not held here; send all messages, without thread.",
            param="thread",
            reason=THREAD_UNSUPPORTED,
        )
    return request
