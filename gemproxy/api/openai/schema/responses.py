"""The request of the Responses API: its types, and the function that decodes and validates it.

Items, their parts and tools are of some thirty types that share most of their fields, and a user's
message may come without a type. So each is one struct with all fields that are used here; the
translation looks at ``type``. Unknown fields are ignored, and ``null`` is accepted where the SDK
allows it. Source: ``openai.types.responses``, version 3.57.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from gemproxy.api.openai.schema.decode_errors import malformed
from gemproxy.api.openai.schema.messages import NonEmpty
from gemproxy.api.openai.schema.requests import Effort
from gemproxy.core.decoding import DECODE_ERRORS, decode_json
from gemproxy.core.errors import InvalidRequest
from gemproxy.media_bypass import MIN_BYTES, NOTHING, ExtractedMedia, extract

_MOST_METADATA = 16
#: The values of ``include``; those beyond the first three have no effect.
INCLUDE_SOURCES = "web_search_call.action.sources"
INCLUDE_LOGPROBS = "message.output_text.logprobs"
_INCLUDED = (
    "reasoning.encrypted_content",
    INCLUDE_SOURCES,
    INCLUDE_LOGPROBS,
    "web_search_call.results",
    "file_search_call.results",
    "code_interpreter_call.outputs",
    "computer_call_output.output.image_url",
    "message.input_image.image_url",
)


class _Shape(msgspec.Struct, gc=False, frozen=True):
    """A JSON object that a client sent."""


# Items --------------------------------------------------------------------------------------


class InputAudio(_Shape, frozen=True, kw_only=True):
    """Audio as base64, or as a ``data:`` URL with its own type."""

    data: NonEmpty
    format: str | None = None


class ItemPart(_Shape, frozen=True, kw_only=True):
    """A part of a message or of a function's result, by its ``type``."""

    type: str
    text: str | None = None
    refusal: str | None = None
    image_url: str | None = None
    detail: str | None = None
    file_id: str | None = None
    file_data: str | None = None
    file_url: str | None = None
    filename: str | None = None
    input_audio: InputAudio | None = None


class ToolFormat(_Shape, frozen=True, kw_only=True):
    """The format of a custom tool's input."""

    type: str = "text"
    syntax: str | None = None
    definition: str | None = None


class Location(_Shape, frozen=True, kw_only=True):
    """The approximate location of a user."""

    city: str | None = None
    region: str | None = None
    country: str | None = None
    timezone: str | None = None


class ToolItem(_Shape, frozen=True, kw_only=True):
    """A tool, by its ``type``; a namespace has ``tools``."""

    type: str
    name: str | None = None
    description: str | None = None
    parameters: dict[str, Any] | None = None
    format: ToolFormat | None = None
    tools: list[ToolItem] | None = None
    external_web_access: bool | None = None
    user_location: Location | None = None


class Item(_Shape, frozen=True, kw_only=True):
    """An item of the input. Without a type it is a message of ``role``."""

    type: str | None = None
    role: str | None = None
    id: str | None = None
    content: str | list[ItemPart] | None = None
    call_id: str | None = None
    name: str | None = None
    namespace: str | None = None
    arguments: Any = None
    input: str | None = None
    output: str | list[ItemPart] | None = None
    encrypted_content: str | None = None
    tools: list[ToolItem] | None = None
    result: str | None = None

    @property
    def kind(self) -> str:
        """The type; ``message`` is the one that may be missing."""
        return self.type or "message"


# Options ------------------------------------------------------------------------------------


class Format(_Shape, frozen=True, kw_only=True):
    """``text.format``: text, JSON, or JSON with a schema."""

    type: Literal["text", "json_object", "json_schema"]
    schema: dict[str, Any] | None = None


class TextOptions(_Shape, frozen=True, kw_only=True):
    """``text``."""

    format: Format | None = None


class ReasoningOptions(_Shape, frozen=True, kw_only=True):
    """``reasoning``."""

    effort: Effort | None = None
    summary: str | None = None
    generate_summary: str | None = None


class ChosenTool(_Shape, frozen=True, kw_only=True):
    """A tool of ``tool_choice.tools``."""

    type: str
    name: str | None = None
    namespace: str | None = None


class ChosenTools(_Shape, frozen=True, kw_only=True):
    """``tool_choice`` as an object."""

    type: str
    name: str | None = None
    namespace: str | None = None
    mode: Literal["auto", "required"] | None = None
    tools: list[ChosenTool] | None = None


class ResponsesRequest(_Shape, frozen=True, kw_only=True):
    """``POST /v1/responses``. A parameter that is not here is ignored on purpose."""

    model: NonEmpty
    input: str | list[Item] = ""
    instructions: str | None = None
    max_output_tokens: Annotated[int, msgspec.Meta(ge=1)] | None = None
    temperature: Annotated[float, msgspec.Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    top_logprobs: Annotated[int, msgspec.Meta(ge=0, le=20)] | None = None
    tools: list[ToolItem] | None = None
    tool_choice: str | ChosenTools | None = None
    parallel_tool_calls: bool | None = None
    max_tool_calls: int | None = None
    text: TextOptions | None = None
    reasoning: ReasoningOptions | None = None
    include: list[str] | None = None
    store: bool | None = None
    previous_response_id: str | None = None
    conversation: Any = None
    prompt: Any = None
    background: bool | None = None
    truncation: Literal["auto", "disabled"] | None = None
    stream: bool | None = None
    metadata: dict[str, str] | None = None
    service_tier: str | None = None
    prompt_cache_key: str | None = None
    safety_identifier: str | None = None
    user: str | None = None

    def includes(self, what: str) -> bool:
        """Whether the client asked for ``what`` beside the usual answer."""
        return self.include is not None and what in self.include

    @property
    def logprobs(self) -> bool:
        """Whether the client asked for log probabilities."""
        return self.includes(INCLUDE_LOGPROBS)


class RawRequest(msgspec.Struct, frozen=True, gc=False):
    """The texts of the fields that answers echo and that are stored, as the client wrote them.

    They are views of the body.
    """

    input: msgspec.Raw | UnsetType = UNSET
    tools: msgspec.Raw | UnsetType = UNSET
    tool_choice: msgspec.Raw | UnsetType = UNSET
    text: msgspec.Raw | UnsetType = UNSET
    reasoning: msgspec.Raw | UnsetType = UNSET
    metadata: msgspec.Raw | UnsetType = UNSET


class DecodedRequest(msgspec.Struct, frozen=True):
    """A valid request; ``raw`` has the texts of some of its fields."""

    request: ResponsesRequest
    raw: RawRequest
    aside: ExtractedMedia = NOTHING


_decoder = msgspec.json.Decoder(ResponsesRequest)
_raw_decoder = msgspec.json.Decoder(RawRequest)
_items_decoder = msgspec.json.Decoder(list[Item])
_raws_decoder = msgspec.json.Decoder(list[msgspec.Raw])


def decode_responses(body: bytes) -> DecodedRequest:
    """The request that ``body`` holds.

    Raises :class:`InvalidRequest` for a body that is not JSON or UTF-8, nested too deeply, or has a
    field that is missing, of a wrong type or out of range. ``param`` is the field's path, such as
    ``input[2].content``. Large media is not copied: the request refers to it in ``body``.
    """
    if len(body) >= MIN_BYTES:
        rest, aside = extract(body)
        if aside.pieces:
            # Decode the whole body to get the position of a mistake.
            with suppress(InvalidRequest):
                return DecodedRequest(_decode(rest), _raw_decoder.decode(body), aside)
    return DecodedRequest(_decode(body), _raw_decoder.decode(body))


def decode_items(text: bytes) -> list[Item]:
    """Items that were stored as a JSON array. Raises :class:`InvalidRequest`."""
    try:
        return _items_decoder.decode(text)
    except DECODE_ERRORS as error:
        raise malformed(error) from None


def raw_items(text: bytes | msgspec.Raw) -> list[msgspec.Raw]:
    """The texts of the items of a JSON array."""
    return _raws_decoder.decode(text)


def _decode(body: bytes) -> ResponsesRequest:
    try:
        request = decode_json(_decoder, body)
    except DECODE_ERRORS as error:
        raise malformed(error) from None
    if request.include:
        _check_included(request.include)
    if request.metadata is not None and len(request.metadata) > _MOST_METADATA:
        raise InvalidRequest(
            f"metadata: at most {_MOST_METADATA} pairs, got {len(request.metadata)}.",
            param="metadata",
        )
    _refuse_unsupported(request)
    return request


def _check_included(included: list[str]) -> None:
    for index, each in enumerate(included):
        if each not in _INCLUDED:
            raise InvalidRequest(
                f"include[{index}]: invalid value '{each[:60]}', expected one of"
                f" {', '.join(_INCLUDED)}.",
                param=f"include[{index}]",
            )


def _refuse_unsupported(request: ResponsesRequest) -> None:
    for name, why in (
        ("conversation", "conversations are not stored here; use previous_response_id"),
        ("prompt", "there are no stored prompts here; send the input itself"),
    ):
        if getattr(request, name) is not None:
            raise _unsupported(name, why)
    if request.background:
        raise _unsupported("background", "nothing runs in the background; use stream")


def _unsupported(name: str, why: str) -> InvalidRequest:
    return InvalidRequest(f"{name}: {why}.", param=name, reason="unsupported_parameter")
