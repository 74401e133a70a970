"""Answers in the Anthropic dialect: messages, and the events of their streams.

The shapes follow the official SDK's types (``anthropic.types``, version 2.14). Fields that
Anthropic always sends are always here, ``null`` included.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec import UNSET, UnsetType

_encode = msgspec.json.Encoder().encode

#: The input of a call whose arguments follow.
NO_INPUT: Final = msgspec.Raw(b"{}")
MESSAGE_STOP: Final = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'


# Content ------------------------------------------------------------------------------------


class WebSearchCitation(
    msgspec.Struct, frozen=True, gc=False, tag_field="type", tag="web_search_result_location"
):
    """A page that a text relies on; ``cited_text`` is the part of the text that does."""

    url: str
    title: str
    cited_text: str
    encrypted_index: str = ""


class Text(msgspec.Struct, gc=False, tag_field="type", tag="text"):
    """Text. ``citations`` is absent without any: the AI SDK refuses ``null``."""

    text: str
    citations: list[WebSearchCitation] | UnsetType = UNSET


class Thinking(msgspec.Struct, gc=False, tag_field="type", tag="thinking"):
    """Thoughts, and the signature of what follows."""

    thinking: str
    signature: str


class ToolUse(msgspec.Struct, frozen=True, gc=False, tag_field="type", tag="tool_use"):
    """A call; ``input`` is the text of a JSON object."""

    id: str
    name: str
    input: msgspec.Raw


class ServerToolUse(msgspec.Struct, frozen=True, gc=False, tag_field="type", tag="server_tool_use"):
    """A web search that Google made."""

    id: str
    name: str
    input: dict[str, Any]


class WebSearchResult(
    msgspec.Struct, frozen=True, gc=False, tag_field="type", tag="web_search_result"
):
    """A page that was found; Google gives neither content nor age."""

    url: str
    title: str
    encrypted_content: str = ""
    page_age: None = None


class WebSearchToolResult(
    msgspec.Struct, frozen=True, gc=False, tag_field="type", tag="web_search_tool_result"
):
    """The pages that a web search found."""

    tool_use_id: str
    content: list[WebSearchResult]


Block = Text | Thinking | ToolUse | ServerToolUse | WebSearchToolResult


# The message --------------------------------------------------------------------------------


class OutputTokensDetails(msgspec.Struct, frozen=True, gc=False):
    """Kinds of output tokens."""

    thinking_tokens: int


class ServerToolUsage(msgspec.Struct, frozen=True, gc=False):
    """Uses of server tools."""

    web_search_requests: int
    web_fetch_requests: int = 0


class Usage(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Token counts; ``input_tokens`` excludes those that came from a cache."""

    input_tokens: int
    cache_creation_input_tokens: int = 0
    cache_read_input_tokens: int
    output_tokens: int
    output_tokens_details: OutputTokensDetails
    server_tool_use: ServerToolUsage | None = None
    service_tier: str = "standard"


class RefusalDetails(msgspec.Struct, frozen=True, gc=False, tag_field="type", tag="refusal"):
    """Why the answer was withheld."""

    explanation: str
    category: None = None


class Message(msgspec.Struct, frozen=True, gc=False, kw_only=True, tag_field="type", tag="message"):
    """A whole answer, or its beginning in a stream."""

    id: str
    role: str = "assistant"
    model: str
    content: list[Block]
    stop_reason: str | None
    stop_sequence: None = None
    stop_details: RefusalDetails | None = None
    usage: Usage


class TokenCount(msgspec.Struct, frozen=True, gc=False):
    """The answer of ``count_tokens``."""

    input_tokens: int


class MessageDelta(msgspec.Struct, frozen=True, gc=False):
    """The end of a streamed message."""

    stop_reason: str
    stop_sequence: None = None
    stop_details: RefusalDetails | None = None


# Events -------------------------------------------------------------------------------------


def message_start(message: Message) -> bytes:
    """The first event of a stream."""
    return b'event: message_start\ndata: {"type":"message_start","message":%b}\n\n' % _encode(
        message
    )


def block_start(index: int, block: Block) -> bytes:
    """The begin of a block, which is empty yet."""
    return (
        b"event: content_block_start\n"
        b'data: {"type":"content_block_start","index":%d,"content_block":%b}\n\n'
        % (index, _encode(block))
    )


def text_delta(index: int, text: str) -> bytes:
    """More of a text."""
    # Nearly every event is one of these, so no object is made for it.
    return (
        b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,'
        b'"delta":{"type":"text_delta","text":%b}}\n\n' % (index, _encode(text))
    )


def thinking_delta(index: int, thinking: str) -> bytes:
    """More thoughts."""
    return _delta(index, b'"type":"thinking_delta","thinking":%b' % _encode(thinking))


def signature_delta(index: int, signature: str) -> bytes:
    """The signature of a thinking block: its last delta."""
    return _delta(index, b'"type":"signature_delta","signature":%b' % _encode(signature))


def input_json_delta(index: int, arguments: str) -> bytes:
    """The arguments of a call."""
    return _delta(index, b'"type":"input_json_delta","partial_json":%b' % _encode(arguments))


def citations_delta(index: int, citation: WebSearchCitation) -> bytes:
    """A source of a text."""
    return _delta(index, b'"type":"citations_delta","citation":%b' % _encode(citation))


def _delta(index: int, delta: bytes) -> bytes:
    return (
        b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,'
        b'"delta":{%b}}\n\n' % (index, delta)
    )


def block_stop(index: int) -> bytes:
    """The end of a block."""
    return b'event: content_block_stop\ndata: {"type":"content_block_stop","index":%d}\n\n' % index


def message_delta(delta: MessageDelta, usage: Usage) -> bytes:
    """The end of the message, with the final counts."""
    return b'event: message_delta\ndata: {"type":"message_delta","delta":%b,"usage":%b}\n\n' % (
        _encode(delta),
        _encode(usage),
    )


def encode_message(message: Message) -> bytes:
    """The JSON of a whole message."""
    return _encode(message)


def encode_count(count: TokenCount) -> bytes:
    """The JSON of a count of tokens."""
    return _encode(count)
