"""The messages of a chat completion request, as the official SDK's types describe them.

Unknown fields are ignored: SDKs often add fields. ``null`` is accepted wherever the SDK allows it.
Source: ``openai.types.chat``, version 3.54.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

NonEmpty = Annotated[str, msgspec.Meta(min_length=1)]


class _Shape(msgspec.Struct, gc=False, frozen=True):
    """A JSON object that a client sent."""


# Content parts ------------------------------------------------------------------------------


class TextPart(_Shape, frozen=True, tag_field="type", tag="text"):
    """Plain text."""

    text: str


class RefusalPart(_Shape, frozen=True, tag_field="type", tag="refusal"):
    """The model's refusal."""

    refusal: str


class MediaURL(_Shape, frozen=True):
    """The URL of media: a ``data:`` URL, or one that Google fetches."""

    url: NonEmpty
    detail: Literal["auto", "low", "high", "original"] | None = None


class ImagePart(_Shape, frozen=True, tag_field="type", tag="image_url"):
    """An image; many clients send a bare string, which OpenAI does not document."""

    image_url: MediaURL | NonEmpty


class VideoPart(_Shape, frozen=True, tag_field="type", tag="video_url"):
    """A video; a common extension of other gateways."""

    video_url: MediaURL | NonEmpty


class InputAudio(_Shape, frozen=True):
    """Audio as base64, or as a ``data:`` URL with its own type.

    OpenAI documents ``wav`` and ``mp3``; Gemini accepts the others too.
    """

    data: NonEmpty
    format: str | None = None


class AudioPart(_Shape, frozen=True, tag_field="type", tag="input_audio"):
    """A piece of audio."""

    input_audio: InputAudio


class File(_Shape, frozen=True):
    """A file by its contents or by the id of an upload; ``format`` is a MIME type (litellm)."""

    file_data: NonEmpty | None = None
    file_id: NonEmpty | None = None
    filename: str | None = None
    format: str | None = None


class FilePart(_Shape, frozen=True, tag_field="type", tag="file"):
    """A file of any kind."""

    file: File


ContentPart = TextPart | ImagePart | AudioPart | FilePart | VideoPart | RefusalPart
Text = str | list[TextPart]

# Function calls -----------------------------------------------------------------------------


class GoogleCallExtra(_Shape, frozen=True):
    """Google's own extension of a call, as its compatibility endpoint writes it."""

    thought_signature: str | None = None


class ExtraContent(_Shape, frozen=True):
    """The envelope of vendors' extensions."""

    google: GoogleCallExtra | None = None


class CalledFunction(_Shape, frozen=True):
    """A function's name and arguments: JSON in a string, or what some clients send instead."""

    name: NonEmpty
    arguments: Any = ""
    extra_content: ExtraContent | None = None


class ToolCall(_Shape, frozen=True):
    """One call of an assistant message. ``id`` may be empty: older gateways sent none."""

    id: str
    function: CalledFunction | None = None
    type: Literal["function", "custom"] = "function"
    extra_content: ExtraContent | None = None


# Messages -----------------------------------------------------------------------------------


class SystemMessage(_Shape, frozen=True, tag_field="role", tag="system"):
    """Instructions."""

    content: Text


class DeveloperMessage(_Shape, frozen=True, tag_field="role", tag="developer"):
    """Instructions, by OpenAI's newer name."""

    content: Text


class UserMessage(_Shape, frozen=True, tag_field="role", tag="user"):
    """A message of the user."""

    content: str | list[ContentPart]


class AssistantMessage(_Shape, frozen=True, tag_field="role", tag="assistant"):
    """An earlier answer. ``images`` are those that this program returned, in any form."""

    content: str | list[ContentPart] | None = None
    images: Any = None
    refusal: str | None = None
    tool_calls: list[ToolCall] | None = None
    function_call: CalledFunction | None = None


class ToolMessage(_Shape, frozen=True, tag_field="role", tag="tool"):
    """The result of a call. Many clients send ``name``, which OpenAI does not document."""

    tool_call_id: str
    content: str | list[ContentPart] | None = None
    name: str | None = None


class FunctionMessage(_Shape, frozen=True, tag_field="role", tag="function"):
    """The result of a legacy ``function_call``."""

    name: NonEmpty
    content: str | None = None


Message = (
    UserMessage
    | AssistantMessage
    | SystemMessage
    | DeveloperMessage
    | ToolMessage
    | FunctionMessage
)
Result = ToolMessage | FunctionMessage
