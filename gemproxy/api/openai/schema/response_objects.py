"""Answers of the Responses API: output items, the response object, and lists of items.

The shapes follow the official SDK's types (openai-python ``types/responses``, 3.57). Fields that
OpenAI always sends are always here, ``null`` included.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from gemproxy.api.openai.schema.answers import TokenLogprob
from gemproxy.api.openai.schema.responses import RawRequest, ResponsesRequest


class _Object(msgspec.Struct, frozen=True, gc=False):
    """A JSON object for the client."""


# Output items -------------------------------------------------------------------------------


class URLAnnotation(_Object, frozen=True, kw_only=True):
    """Offsets are characters of the part's text, the end is exclusive."""

    type: str = "url_citation"
    start_index: int
    end_index: int
    title: str
    url: str


class FileAnnotation(_Object, frozen=True, kw_only=True):
    """A cited file by name."""

    type: str = "file_citation"
    #: The place in the text is not known.
    index: int = 0
    file_id: str = ""
    filename: str


Annotation = URLAnnotation | FileAnnotation


class OutputText(_Object, frozen=True, kw_only=True):
    """The text of a message."""

    type: str = "output_text"
    text: str
    annotations: Sequence[Annotation] = ()
    logprobs: Sequence[TokenLogprob] = ()


class Refusal(_Object, frozen=True, kw_only=True):
    """Why there is no text."""

    type: str = "refusal"
    refusal: str


class MessageItem(_Object, frozen=True, kw_only=True):
    """A message of the model."""

    type: str = "message"
    id: str
    role: str = "assistant"
    status: str
    content: Sequence[OutputText | Refusal]


class SummaryText(_Object, frozen=True, kw_only=True):
    """A section of the model's thoughts."""

    type: str = "summary_text"
    text: str


class ReasoningItem(_Object, frozen=True, kw_only=True):
    """The model's thoughts; ``encrypted_content`` carries the signature of what follows."""

    type: str = "reasoning"
    id: str
    summary: Sequence[SummaryText]
    encrypted_content: str | UnsetType = UNSET


class FunctionCallItem(_Object, frozen=True, kw_only=True):
    """A call of a function; ``arguments`` is the text of a JSON object."""

    type: str = "function_call"
    id: str
    call_id: str
    name: str
    namespace: str | UnsetType = UNSET
    arguments: str
    status: str


class CustomToolCallItem(_Object, frozen=True, kw_only=True):
    """A call of a custom tool, whose input is any text."""

    type: str = "custom_tool_call"
    id: str
    call_id: str
    name: str
    namespace: str | UnsetType = UNSET
    input: str


class SearchSource(_Object, frozen=True, kw_only=True):
    """A page that the search found."""

    type: str = "url"
    url: str


class SearchAction(_Object, frozen=True, kw_only=True):
    """What was searched for."""

    type: str = "search"
    query: str
    queries: list[str] | UnsetType = UNSET
    sources: list[SearchSource] | UnsetType = UNSET


class WebSearchItem(_Object, frozen=True, kw_only=True):
    """A search that Google made."""

    type: str = "web_search_call"
    id: str
    status: str
    action: SearchAction


class CodeLogs(_Object, frozen=True, kw_only=True):
    """What the code printed."""

    type: str = "logs"
    logs: str


class CodeItem(_Object, frozen=True, kw_only=True):
    """Code that Google ran."""

    type: str = "code_interpreter_call"
    id: str
    status: str
    code: str
    container_id: str
    outputs: Sequence[CodeLogs] | None


class ImageItem(_Object, frozen=True, kw_only=True):
    """An image that the model made, in base64."""

    type: str = "image_generation_call"
    id: str
    status: str
    result: str | None
    output_format: str | UnsetType = UNSET


OutputItem = (
    MessageItem
    | ReasoningItem
    | FunctionCallItem
    | CustomToolCallItem
    | WebSearchItem
    | CodeItem
    | ImageItem
)

# The response object ------------------------------------------------------------------------


class InputTokensDetails(_Object, frozen=True, kw_only=True):
    """Kinds of input tokens."""

    cached_tokens: int
    cache_write_tokens: int = 0


class OutputTokensDetails(_Object, frozen=True, kw_only=True):
    """Kinds of output tokens."""

    reasoning_tokens: int


class ResponseUsage(_Object, frozen=True, kw_only=True):
    """Token counts of a response."""

    input_tokens: int
    input_tokens_details: InputTokensDetails
    output_tokens: int
    output_tokens_details: OutputTokensDetails
    total_tokens: int


class ResponseError(_Object, frozen=True, kw_only=True):
    """Why a response failed."""

    code: str
    message: str


class _Echo(_Object, frozen=True, kw_only=True):
    """What a response repeats of its request, with OpenAI's defaults."""

    background: bool = False
    instructions: str | None
    max_output_tokens: int | None
    max_tool_calls: int | None
    metadata: msgspec.Raw | UnsetType
    model: str
    parallel_tool_calls: bool
    previous_response_id: str | None
    prompt_cache_key: str | None
    reasoning: msgspec.Raw | UnsetType
    safety_identifier: str | None
    store: bool
    temperature: float
    text: msgspec.Raw | UnsetType
    tool_choice: msgspec.Raw | UnsetType
    tools: msgspec.Raw | UnsetType
    top_logprobs: int
    top_p: float
    truncation: str
    user: str | None


_NULL = b"null"
_DEFAULTS = {
    "metadata": msgspec.Raw(b"{}"),
    "reasoning": msgspec.Raw(b'{"effort":null,"summary":null}'),
    "text": msgspec.Raw(b'{"format":{"type":"text"}}'),
    "tool_choice": msgspec.Raw(b'"auto"'),
    "tools": msgspec.Raw(b"[]"),
}


class ResponseFrame:
    """Encodes the response object of one request in its states.

    ``echo`` is the result of :func:`encode_echo`. Times are epoch seconds.
    """

    __slots__ = ("_head", "_tail", "created", "id")

    def __init__(self, identity: str, created: int, echo: bytes) -> None:
        self.id = identity
        self.created = created
        self._head = b'{"id":%b,"object":"response","created_at":%d,' % (_encode(identity), created)
        self._tail = echo

    def encode(
        self, status: str, output: bytes = b"[]", *, error: ResponseError | None = None
    ) -> bytes:
        """An object that is not complete; ``output`` is the text of a list of items."""
        start, end = self.around(status, error=error)
        return start + output + end

    def around(
        self,
        status: str,
        *,
        usage: ResponseUsage | None = None,
        tier: str | None = None,
        incomplete: str | None = None,
        error: ResponseError | None = None,
        completed_at: int | None = None,
    ) -> tuple[bytes, bytes]:
        """The text before the list of items, and that after it."""
        start = (
            b'%b"completed_at":%b,"status":"%b","error":%b,"incomplete_details":%b,"output":'
            % (
                self._head,
                _NULL if completed_at is None else b"%d" % completed_at,
                status.encode("ascii"),
                _NULL if error is None else _encode(error),
                _NULL if incomplete is None else b'{"reason":"%b"}' % incomplete.encode("ascii"),
            )
        )
        end = b',"usage":%b,"service_tier":%b%b' % (
            _NULL if usage is None else _encode(usage),
            b'"default"' if tier is None else _encode(tier),
            self._tail,
        )
        return start, end


def encode_echo(request: ResponsesRequest, raw: RawRequest, *, store: bool) -> bytes:
    """What every state of the response repeats of its request, as the end of the object.

    ``store`` tells whether the response is stored.
    """
    echo = _Echo(
        instructions=request.instructions,
        max_output_tokens=request.max_output_tokens,
        max_tool_calls=request.max_tool_calls,
        metadata=_given(raw, "metadata"),
        model=request.model,
        parallel_tool_calls=request.parallel_tool_calls is not False,
        previous_response_id=request.previous_response_id,
        prompt_cache_key=request.prompt_cache_key,
        reasoning=_given(raw, "reasoning"),
        safety_identifier=request.safety_identifier,
        store=store,
        temperature=1.0 if request.temperature is None else request.temperature,
        text=_given(raw, "text"),
        tool_choice=_given(raw, "tool_choice"),
        tools=_given(raw, "tools"),
        top_logprobs=request.top_logprobs or 0,
        top_p=1.0 if request.top_p is None else request.top_p,
        truncation=request.truncation or "disabled",
        user=request.user,
    )
    return b"," + _encode(echo)[1:]


def _given(raw: RawRequest, name: str) -> msgspec.Raw:
    """The client's text of the field; null is as if it were absent."""
    text = getattr(raw, name)
    if text is UNSET:
        return _DEFAULTS[name]
    written = bytes(text)
    if written == _NULL:
        return _DEFAULTS[name]
    # A line feed would end the line of an event.
    broken = b"\n" in written or b"\r" in written
    return msgspec.Raw(msgspec.json.format(written, indent=-1)) if broken else text


# Other answers ------------------------------------------------------------------------------


class DeletedResponse(_Object, frozen=True, kw_only=True):
    """The answer to DELETE."""

    id: str
    object: str = "response"
    deleted: bool = True


class ItemList(_Object, frozen=True, kw_only=True):
    """A page of a list of items."""

    object: str = "list"
    data: list[Any]
    first_id: str | None
    last_id: str | None
    has_more: bool


class InputTokens(_Object, frozen=True, kw_only=True):
    """The answer to ``POST /v1/responses/input_tokens``."""

    object: str = "response.input_tokens"
    input_tokens: int


_encode = msgspec.json.Encoder().encode

#: Any of the objects here as compact JSON.
encode_object: Callable[[Any], bytes] = _encode


def encode_plain_message(identity: str, text: str, status: str) -> bytes:
    """The list of items of an answer that is one text without annotations."""
    return (
        b'[{"type":"message","id":"%b","role":"assistant","status":"%b","content":'
        b'[{"type":"output_text","text":%b,"annotations":[],"logprobs":[]}]}]'
        % (identity.encode("ascii"), status.encode("ascii"), _encode(text))
    )
