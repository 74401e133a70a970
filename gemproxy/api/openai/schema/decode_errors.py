"""The values and fields of OpenAI's enumerations and option objects, for errors that list them."""

from __future__ import annotations

from collections.abc import Mapping

from gemproxy.core import decode_errors
from gemproxy.core.errors import InvalidRequest

_ROLES = ("system", "developer", "user", "assistant", "tool", "function")
_EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
_TASK_TYPES = (
    "RETRIEVAL_QUERY",
    "RETRIEVAL_DOCUMENT",
    "SEMANTIC_SIMILARITY",
    "CLASSIFICATION",
    "CLUSTERING",
    "CODE_RETRIEVAL_QUERY",
    "QUESTION_ANSWERING",
    "FACT_VERIFICATION",
)

#: The values of each enumeration, by the path without indexes.
_CHOICES: dict[str, tuple[str, ...]] = {
    "messages.role": _ROLES,
    "messages.content.type": ("text", "image_url", "input_audio", "file", "video_url", "refusal"),
    "messages.content.image_url.detail": ("auto", "low", "high", "original"),
    "messages.content.input_audio.format": ("wav", "mp3", "aiff", "aac", "ogg", "flac"),
    "messages.tool_calls.type": ("function",),
    "tools.type": ("function",),
    "tool_choice.allowed_tools.tools.type": ("function",),
    "function_call": ("none", "auto"),
    "response_format.type": ("text", "json_object", "json_schema"),
    "reasoning_effort": _EFFORTS,
    "reasoning.effort": _EFFORTS,
    "modalities": ("text", "audio"),
    "service_tier": ("auto", "default", "flex", "scale", "priority", "fast"),
    "thinking.type": ("enabled", "disabled", "adaptive"),
    "encoding_format": ("float", "base64"),
    "task_type": _TASK_TYPES,
    "google.task_type": _TASK_TYPES,
    "google.taskType": _TASK_TYPES,
    "extra_body.google.task_type": _TASK_TYPES,
    "extra_body.google.taskType": _TASK_TYPES,
}

_THINKING_OPTIONS = ("thinking_budget", "thinking_level", "include_thoughts")
_IMAGE_OPTIONS = ("aspect_ratio", "image_size")
#: The members of Google's option objects in a chat, by the last name of their path.
_OPTIONS: Mapping[str, tuple[str, ...]] = {
    "google": ("thinking_config", "safety_settings", "cached_content", "image_config"),
    "thinking_config": _THINKING_OPTIONS,
    "thinkingConfig": _THINKING_OPTIONS,
    "image_config": _IMAGE_OPTIONS,
    "imageConfig": _IMAGE_OPTIONS,
}


def malformed(
    error: Exception, options: Mapping[str, tuple[str, ...]] = _OPTIONS
) -> InvalidRequest:
    """The client's error for an exception of the JSON decoder; see ``core.decode_errors``."""
    return decode_errors.malformed(error, options, _CHOICES)
