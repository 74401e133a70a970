"""The chat completion request: its types, and the function that decodes and validates it.

:func:`decode_chat_completion` returns only valid requests: typed, in range, and every tool
result answers a call. Otherwise it raises :class:`InvalidRequest` with the path of the field. See
:mod:`gemproxy.api.openai.schema.parameters` for the support of each parameter.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Annotated, Any, Literal

import msgspec

from gemproxy.api.openai.schema.decode_errors import malformed
from gemproxy.api.openai.schema.messages import Message, NonEmpty
from gemproxy.api.openai.schema.tool_choice import FunctionName, ToolChoice, check_tool_choice
from gemproxy.api.openai.schema.tool_result_matching import pair_results
from gemproxy.core.decoding import DECODE_ERRORS, decode_json
from gemproxy.core.errors import InvalidRequest
from gemproxy.media_bypass import MIN_BYTES, ExtractedMedia, extract

Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
_Penalty = Annotated[float, msgspec.Meta(ge=-2, le=2)]
_AtLeastOne = Annotated[int, msgspec.Meta(ge=1)]


class _Shape(msgspec.Struct, gc=False, frozen=True):
    """A JSON object that a client sent."""


# Tools --------------------------------------------------------------------------------------


class FunctionDefinition(_Shape, frozen=True):
    """A function that the model may call; ``parameters`` is a JSON Schema."""

    name: NonEmpty
    description: str | None = None
    parameters: dict[str, Any] | None = None


class FunctionTool(_Shape, frozen=True, tag_field="type", tag="function"):
    """The one kind of tool that Gemini supports too."""

    function: FunctionDefinition


class CustomTool(_Shape, frozen=True, tag_field="type", tag="custom"):
    """A tool with free-form input; decoded so that the error can name it."""


# Structured output --------------------------------------------------------------------------


class TextFormat(_Shape, frozen=True, tag_field="type", tag="text"):
    """Plain text, the default."""


class JSONObjectFormat(_Shape, frozen=True, tag_field="type", tag="json_object"):
    """JSON of any shape."""


class JSONSchemaSpec(_Shape, frozen=True):
    """The schema of the answer; ``name`` and ``strict`` have no equivalent in Gemini."""

    schema: dict[str, Any] | None = None


class JSONSchemaFormat(_Shape, frozen=True, tag_field="type", tag="json_schema"):
    """JSON that follows a schema."""

    json_schema: JSONSchemaSpec


ResponseFormat = TextFormat | JSONObjectFormat | JSONSchemaFormat

# Other parts --------------------------------------------------------------------------------


class StreamOptions(_Shape, frozen=True):
    """Options of a stream."""

    include_usage: bool | None = None


class VoiceID(_Shape, frozen=True):
    """A voice by its id."""

    id: NonEmpty


class AudioOutput(_Shape, frozen=True):
    """Voice and format of a spoken answer."""

    voice: NonEmpty | VoiceID
    format: str | None = None


class Place(_Shape, frozen=True):
    """The approximate location of a user."""

    city: str | None = None
    region: str | None = None
    country: str | None = None
    timezone: str | None = None


class UserLocation(_Shape, frozen=True):
    """The location for a web search."""

    approximate: Place


class WebSearchOptions(_Shape, frozen=True):
    """Allows a web search."""

    user_location: UserLocation | None = None


# Extensions of Google and of other gateways -------------------------------------------------


class _Options(_Shape, frozen=True, forbid_unknown_fields=True):
    """Google's options, in both spellings of its JSON. Unknown ones are refused by name."""


_Budget = Annotated[int, msgspec.Meta(ge=-1, le=2**31 - 1)]


class GoogleThinkingConfig(_Options, frozen=True):
    """``thinkingConfig``; a budget of -1 is the model's own choice."""

    thinking_budget: _Budget | None = None
    thinking_level: str | None = None
    include_thoughts: bool | None = None
    camel_thinking_budget: _Budget | None = msgspec.field(default=None, name="thinkingBudget")
    camel_thinking_level: str | None = msgspec.field(default=None, name="thinkingLevel")
    camel_include_thoughts: bool | None = msgspec.field(default=None, name="includeThoughts")


class GoogleImageConfig(_Options, frozen=True):
    """``imageConfig``; the words are Google's."""

    aspect_ratio: str | None = None
    image_size: str | None = None
    camel_aspect_ratio: str | None = msgspec.field(default=None, name="aspectRatio")
    camel_image_size: str | None = msgspec.field(default=None, name="imageSize")


class GoogleSafetySetting(_Shape, frozen=True):
    """A safety setting; the words are Google's."""

    category: NonEmpty
    threshold: NonEmpty


class GoogleOptions(_Options, frozen=True):
    """``google``: options that only Gemini has."""

    thinking_config: GoogleThinkingConfig | None = None
    safety_settings: list[GoogleSafetySetting] | None = None
    cached_content: NonEmpty | None = None
    image_config: GoogleImageConfig | None = None
    camel_thinking_config: GoogleThinkingConfig | None = msgspec.field(
        default=None, name="thinkingConfig"
    )
    camel_safety_settings: list[GoogleSafetySetting] | None = msgspec.field(
        default=None, name="safetySettings"
    )
    camel_cached_content: NonEmpty | None = msgspec.field(default=None, name="cachedContent")
    camel_image_config: GoogleImageConfig | None = msgspec.field(default=None, name="imageConfig")


class ExtraBody(_Shape, frozen=True):
    """``extra_body`` that arrives as a field: Google's documented double nesting."""

    google: GoogleOptions | None = None


class Thinking(_Shape, frozen=True):
    """Anthropic's and litellm's way to ask for thinking."""

    type: Literal["enabled", "disabled", "adaptive"] = "enabled"
    budget_tokens: _Budget | None = None


class Reasoning(_Shape, frozen=True):
    """OpenRouter's way to ask for thinking."""

    effort: Effort | None = None
    enabled: bool | None = None
    max_tokens: _Budget | None = None
    exclude: bool | None = None


class ChatCompletionRequest(_Shape, frozen=True, kw_only=True):
    """``POST /v1/chat/completions``. A parameter that is not here is ignored on purpose."""

    model: NonEmpty
    messages: Annotated[list[Message], msgspec.Meta(min_length=1)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: Annotated[float, msgspec.Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    n: Annotated[int, msgspec.Meta(ge=1, le=8)] | None = None
    stop: str | Annotated[list[str], msgspec.Meta(max_length=4)] | None = None
    max_tokens: _AtLeastOne | None = None
    max_completion_tokens: _AtLeastOne | None = None
    seed: int | None = None
    frequency_penalty: _Penalty | None = None
    presence_penalty: _Penalty | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, msgspec.Meta(ge=0, le=20)] | None = None
    tools: list[FunctionTool | CustomTool] | None = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    functions: list[FunctionDefinition] | None = None
    function_call: Literal["none", "auto"] | FunctionName | None = None
    response_format: ResponseFormat | None = None
    reasoning_effort: Effort | None = None
    modalities: list[Literal["text", "audio", "image"]] | None = None
    audio: AudioOutput | None = None
    service_tier: (
        Literal["auto", "default", "standard", "flex", "scale", "priority", "fast"] | None
    ) = None
    web_search_options: WebSearchOptions | None = None
    #: Names the conversation, so that its requests prefer the same key. Ignored unless it is text.
    prompt_cache_key: Any = None
    # Not OpenAI's:
    session_id: Any = None
    google: GoogleOptions | None = None
    extra_body: ExtraBody | None = None
    thinking: Thinking | None = None
    reasoning: Reasoning | None = None
    image_config: GoogleImageConfig | None = None
    top_k: _AtLeastOne | None = None


class LargeChatCompletionRequest(ChatCompletionRequest, frozen=True, kw_only=True):
    """A request whose media was replaced by placeholders before decoding."""

    aside: ExtractedMedia


_decoder = msgspec.json.Decoder(ChatCompletionRequest)


def decode_chat_completion(body: bytes) -> ChatCompletionRequest:
    """The request that ``body`` holds.

    Raises :class:`InvalidRequest` for a body that is not JSON or UTF-8, nested too deeply, has a
    field that is missing, of a wrong type or out of range, or a tool result without its call.
    ``param`` is the field's path in OpenAI's style, such as ``messages[2].content``.

    Large media is not copied: the request refers to it in ``body``.
    """
    if len(body) >= MIN_BYTES:
        rest, aside = extract(body)
        if aside.pieces:
            with suppress(
                InvalidRequest
            ):  # Decode the whole body to get the position of the mistake.
                request = _decode(rest)
                return LargeChatCompletionRequest(**msgspec.structs.asdict(request), aside=aside)
    return _decode(body)


def _decode(body: bytes) -> ChatCompletionRequest:
    try:
        request = decode_json(_decoder, body)
    except DECODE_ERRORS as error:
        raise malformed(error) from None
    if request.tool_choice is not None:
        check_tool_choice(request.tool_choice)
    pair_results(request.messages)
    return request
