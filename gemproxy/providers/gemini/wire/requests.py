"""Wire types of the native request: ``GenerateContentRequest`` of the Gemini API, v1beta.

They have only the fields that this program sends. Field names are Google's in camelCase, as proto3
JSON has them. Google rejects unknown names with 400.
Source: ai.google.dev/api/generate-content.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import msgspec


class _Message(msgspec.Struct, omit_defaults=True, rename="camel", gc=False, kw_only=True):
    """A protobuf message in JSON: camelCase names; fields with their default are omitted."""


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
    """The resolution at which the model reads one piece of media (Gemini 3 and later)."""

    level: str


class Part(_Message):
    """One payload and its side fields."""

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
    """The built-in web search, which has no settings."""


class UrlContext(_Message):
    """Reading pages whose addresses the prompt names, which has no settings."""


class CodeExecution(_Message):
    """Running code on Google's side, which has no settings."""


class Tool(_Message):
    """One kind of tool; all functions are in one such object."""

    function_declarations: list[FunctionDeclaration] | None = None
    google_search: GoogleSearch | None = None
    url_context: UrlContext | None = None
    code_execution: CodeExecution | None = None


class FunctionCallingConfig(_Message):
    """``AUTO``, ``ANY`` (must call), ``NONE``, ``VALIDATED`` (may call, arguments are checked)."""

    mode: Literal["AUTO", "ANY", "NONE", "VALIDATED"]
    allowed_function_names: list[str] | None = None


class ToolConfig(_Message):
    """How the model may use the tools."""

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
    """The voice settings of a speech response."""

    voice_config: VoiceConfig


class ImageConfig(_Message):
    """Aspect ratio and size of an image response, in Google's terms."""

    aspect_ratio: str | None = None
    image_size: str | None = None


class GenerationConfig(_Message):
    """Generation parameters; ``response_json_schema`` is the text of a schema."""

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


class CountedRequest(GenerateContentRequest, kw_only=True):
    """A request whose tokens are counted; ``model`` is the model of the path, with ``models/``."""

    model: str


class CountTokensRequest(_Message):
    """The body of ``countTokens``, in the form that counts tools and instructions as well."""

    generate_content_request: CountedRequest


#: The request as compact JSON.
encode_generate_content: Callable[[GenerateContentRequest], bytes] = msgspec.json.Encoder().encode
#: The same for ``countTokens``.
encode_count_tokens: Callable[[CountTokensRequest], bytes] = msgspec.json.Encoder().encode
