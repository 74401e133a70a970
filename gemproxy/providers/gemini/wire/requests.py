"""The native request: ``GenerateContentRequest`` of the Gemini API, v1beta, as it goes on the wire.

Only what this program sends is here. Field names are Google's; proto3 JSON takes camelCase, and an
unknown name is refused with 400, so nothing may be added that Google does not know.
Source: ai.google.dev/api/generate-content.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import msgspec


class _Message(msgspec.Struct, omit_defaults=True, rename="camel", gc=False, kw_only=True):
    """A protobuf message in JSON: camelCase names, absent where it has its default."""


class Blob(_Message):
    """Media in the request itself; ``data`` is standard base64 without a ``data:`` prefix."""

    mime_type: str
    data: str


class FileData(_Message):
    """Media that Google fetches: a Files API uri, a web address, a YouTube link."""

    file_uri: str
    mime_type: str | None = None


class FunctionCall(_Message):
    """A call that the model made; ``args`` is the text of a JSON object."""

    name: str
    args: msgspec.Raw | None = None
    id: str | None = None


class FunctionResponsePart(_Message):
    """Media that belongs to a function's result (Gemini 3 and later)."""

    inline_data: Blob


class FunctionResponse(_Message):
    """The result of a call; ``response`` is the text of a JSON object."""

    name: str
    response: msgspec.Raw
    id: str | None = None
    parts: list[FunctionResponsePart] | None = None


class MediaResolution(_Message):
    """How closely one piece of media is looked at (Gemini 3 and later)."""

    level: str


class Part(_Message):
    """One payload, and what is said beside it."""

    text: str | None = None
    inline_data: Blob | None = None
    file_data: FileData | None = None
    function_call: FunctionCall | None = None
    function_response: FunctionResponse | None = None
    thought_signature: str | None = None
    media_resolution: MediaResolution | None = None


class Content(_Message):
    """One turn. ``role`` is ``user`` or ``model``, and absent in a system instruction."""

    parts: list[Part]
    role: Literal["user", "model"] | None = None


class FunctionDeclaration(_Message):
    """A function that the model may call; ``parameters_json_schema`` is the text of a schema."""

    name: str
    description: str | None = None
    parameters_json_schema: msgspec.Raw | None = None


class GoogleSearch(_Message):
    """The built-in web search, with nothing to set."""


class Tool(_Message):
    """One kind of tool; all functions stand in one such object."""

    function_declarations: list[FunctionDeclaration] | None = None
    google_search: GoogleSearch | None = None


class FunctionCallingConfig(_Message):
    """``AUTO``, ``ANY`` (must call), ``NONE``, ``VALIDATED`` (may call, arguments are checked)."""

    mode: Literal["AUTO", "ANY", "NONE", "VALIDATED"]
    allowed_function_names: list[str] | None = None


class ToolConfig(_Message):
    """What the model may do with the tools."""

    function_calling_config: FunctionCallingConfig | None = None
    include_server_side_tool_invocations: bool = False


class SafetySetting(_Message):
    """One threshold for one category of harm."""

    category: str
    threshold: str


class ThinkingConfig(_Message):
    """A budget in tokens (0 is off, -1 is the model's own choice) or a level, never both."""

    include_thoughts: bool | None = None
    thinking_budget: int | None = None
    thinking_level: str | None = None


class PrebuiltVoiceConfig(_Message):
    """One of Google's voices by its name."""

    voice_name: str


class VoiceConfig(_Message):
    """The voice of a speech answer."""

    prebuilt_voice_config: PrebuiltVoiceConfig


class SpeechConfig(_Message):
    """How a speech answer sounds."""

    voice_config: VoiceConfig


class ImageConfig(_Message):
    """The shape and the size of an image answer, in Google's words."""

    aspect_ratio: str | None = None
    image_size: str | None = None


class GenerationConfig(_Message):
    """How the answer is made; ``response_json_schema`` is the text of a schema."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    candidate_count: int | None = None
    max_output_tokens: int | None = None
    stop_sequences: list[str] | None = None
    seed: int | None = None
    response_logprobs: bool | None = None
    logprobs: int | None = None
    response_mime_type: str | None = None
    response_json_schema: msgspec.Raw | None = None
    response_modalities: list[str] | None = None
    speech_config: SpeechConfig | None = None
    thinking_config: ThinkingConfig | None = None
    image_config: ImageConfig | None = None


class GenerateContentRequest(_Message):
    """The body of ``generateContent`` and ``streamGenerateContent``."""

    contents: list[Content]
    system_instruction: Content | None = None
    tools: list[Tool] | None = None
    tool_config: ToolConfig | None = None
    safety_settings: list[SafetySetting] | None = None
    generation_config: GenerationConfig | None = None
    cached_content: str | None = None
    service_tier: str | None = None


#: The request as compact JSON.
encode_generate_content: Callable[[GenerateContentRequest], bytes] = msgspec.json.Encoder().encode
