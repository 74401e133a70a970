"""Answers in the OpenAI dialect: chat completions, their chunks, and the list of models.

The shapes follow the official SDK's types (openai-python ``types/chat``). Fields that OpenAI
always sends are always here, ``null`` included; the others are left out where they are unset.
``reasoning_content``, ``images`` and ``extra_content`` are common extensions that SDKs keep as
extra fields.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec
from msgspec import UNSET, UnsetType

DONE = b"data: [DONE]\n\n"


class GoogleExtra(msgspec.Struct, frozen=True, gc=False):
    """Google's own extension, as its OpenAI-compatible endpoint writes it."""

    thought_signature: str


class ExtraContent(msgspec.Struct, frozen=True, gc=False):
    """Extensions by vendor."""

    google: GoogleExtra


class FunctionText(msgspec.Struct, frozen=True, gc=False):
    """A call's function; ``arguments`` is the text of a JSON object."""

    name: str
    arguments: str


class ToolCall(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A function call; ``index`` only in a stream."""

    index: int | UnsetType = UNSET
    id: str
    type: str = "function"
    function: FunctionText
    extra_content: ExtraContent | UnsetType = UNSET


class ImageURL(msgspec.Struct, frozen=True, gc=False):
    """A ``data:`` URL."""

    url: str


class Image(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An image that the model made."""

    index: int
    type: str = "image_url"
    image_url: ImageURL


class Audio(msgspec.Struct, frozen=True, gc=False):
    """Audio that the model made; ``data`` is base64 of the type ``mime_type``.

    In a stream only the first piece has the other fields: clients concatenate strings.
    """

    data: str
    id: str | UnsetType = UNSET
    expires_at: int | UnsetType = UNSET
    transcript: str | UnsetType = UNSET
    mime_type: str | UnsetType = UNSET


class URLCitation(msgspec.Struct, frozen=True, gc=False):
    """Offsets are characters of the message's content, the end is exclusive."""

    start_index: int
    end_index: int
    title: str
    url: str


class Annotation(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A source of the content; ``index`` only in a stream."""

    index: int | UnsetType = UNSET
    type: str = "url_citation"
    url_citation: URLCitation


class FileCitation(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A cited file by name, as in OpenAI's Responses API.

    ``index`` is its place among the annotations.
    """

    index: int = 0
    type: str = "file_citation"
    filename: str
    #: Google tells none.
    file_id: str = ""


def annotated(
    cited: Iterable[URLCitation | FileCitation], *, streamed: bool
) -> list[Annotation | FileCitation]:
    """The ``annotations`` of a message; in a stream each has its ``index``."""
    return [
        msgspec.structs.replace(each, index=place)
        if isinstance(each, FileCitation)
        else Annotation(index=place if streamed else UNSET, url_citation=each)
        for place, each in enumerate(cited)
    ]


class TopLogprob(msgspec.Struct, frozen=True, gc=False):
    """One of the most likely tokens."""

    token: str
    logprob: float
    bytes: list[int]


class TokenLogprob(msgspec.Struct, frozen=True, gc=False):
    """A token of the content."""

    token: str
    logprob: float
    bytes: list[int]
    top_logprobs: list[TopLogprob]


class Logprobs(msgspec.Struct, frozen=True, gc=False):
    """Log probabilities of a choice."""

    content: list[TokenLogprob]
    refusal: None = None


class PromptTokensDetails(msgspec.Struct, frozen=True, gc=False):
    """Kinds of input tokens."""

    cached_tokens: int
    audio_tokens: int
    image_tokens: int
    text_tokens: int


class CompletionTokensDetails(msgspec.Struct, frozen=True, gc=False):
    """Kinds of output tokens."""

    reasoning_tokens: int
    audio_tokens: int
    image_tokens: int
    accepted_prediction_tokens: int = 0
    rejected_prediction_tokens: int = 0


class Usage(msgspec.Struct, frozen=True, gc=False):
    """Token counts of a completion."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails
    completion_tokens_details: CompletionTokensDetails


class Message(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The message of a choice."""

    role: str = "assistant"
    content: str | None
    refusal: str | None
    reasoning_content: str | UnsetType = UNSET
    tool_calls: list[ToolCall] | UnsetType = UNSET
    function_call: FunctionText | UnsetType = UNSET
    images: list[Image] | UnsetType = UNSET
    audio: Audio | UnsetType = UNSET
    annotations: list[Annotation | FileCitation] | UnsetType = UNSET


class Choice(msgspec.Struct, frozen=True, gc=False):
    """One of the answers."""

    index: int
    message: Message
    logprobs: Logprobs | None
    finish_reason: str


class ChatCompletion(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A unary answer."""

    id: str
    object: str = "chat.completion"
    created: int
    model: str
    choices: list[Choice]
    usage: Usage
    service_tier: str | UnsetType = UNSET
    system_fingerprint: None = None


class Delta(msgspec.Struct, frozen=True, gc=False):
    """What a chunk adds to the message of its choice."""

    role: str | UnsetType = UNSET
    content: str | UnsetType = UNSET
    refusal: str | UnsetType = UNSET
    reasoning_content: str | UnsetType = UNSET
    tool_calls: list[ToolCall] | UnsetType = UNSET
    function_call: FunctionText | UnsetType = UNSET
    images: list[Image] | UnsetType = UNSET
    audio: Audio | UnsetType = UNSET
    annotations: list[Annotation | FileCitation] | UnsetType = UNSET


class Model(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An entry of the list of models."""

    id: str
    object: str = "model"
    created: int
    owned_by: str = "google"


class ModelList(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The list of models."""

    object: str = "list"
    data: list[Model]


_encode = msgspec.json.Encoder().encode

#: The body of a unary answer.
encode_completion: Callable[[ChatCompletion], bytes] = _encode


def encode_model(model: Model) -> bytes:
    """The body of ``GET /v1/models/{id}``."""
    return _encode(model)


def encode_model_list(models: list[Model]) -> bytes:
    """The body of ``GET /v1/models``."""
    return _encode(ModelList(data=models))


class ChunkEncoder:
    """Encodes the chunks of one stream as events; their common part is encoded once.

    With ``include_usage`` each chunk except that of :meth:`usage` has ``"usage": null``, as OpenAI
    documents it.
    """

    def __init__(
        self, completion_id: str, created: int, model: str, *, tier: str | None, include_usage: bool
    ) -> None:
        self._head = (
            b'data: {"id":%b,"object":"chat.completion.chunk","created":%d,"model":%b,%b'
            b'"system_fingerprint":null,"choices":['
            % (
                _encode(completion_id),
                created,
                _encode(model),
                b'"service_tier":%b,' % _encode(tier) if tier else b"",
            )
        )
        self._tail = b',"usage":null}\n\n' if include_usage else b"}\n\n"
        self._open_tail = b',"logprobs":null,"finish_reason":null}]' + self._tail
        self._text_tail = b"}" + self._open_tail
        self._first_text_head = self._text_head(0)

    def text(self, index: int, text: str) -> bytes:
        """A chunk that adds to the content. Called for nearly every event, so it has to be fast."""
        head = self._first_text_head if index == 0 else self._text_head(index)
        return head + _encode(text) + self._text_tail

    def delta(
        self,
        index: int,
        delta: Delta,
        *,
        finish_reason: str | None = None,
        logprobs: Logprobs | None = None,
    ) -> bytes:
        """A chunk of any other kind."""
        return b'%b{"index":%d,"delta":%b,"logprobs":%b,"finish_reason":%b}]%b' % (
            self._head,
            index,
            _encode(delta),
            _encode(logprobs),
            _encode(finish_reason),
            self._tail,
        )

    def usage(self, usage: Usage) -> bytes:
        """The chunk with the usage and without choices."""
        return b'%b],"usage":%b}\n\n' % (self._head, _encode(usage))

    def _text_head(self, index: int) -> bytes:
        return b'%b{"index":%d,"delta":{"content":' % (self._head, index)
