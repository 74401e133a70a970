"""Render what OpenAI's dialect has no field for: images, audio, and code that Google ran."""

from __future__ import annotations

import re
from base64 import b64decode, b64encode

from gemproxy.api.openai.schema.answers import Image, ImageURL
from gemproxy.core.errors import UnusableAnswer
from gemproxy.providers.gemini.wire.answers import Blob, CodeExecutionResult, ExecutableCode

_OUTCOMES = {1: "OUTCOME_OK", 2: "OUTCOME_FAILED", 3: "OUTCOME_DEADLINE_EXCEEDED"}
_LANGUAGES = {1: "PYTHON"}


def is_image(blob: Blob) -> bool:
    """Whether the media is an image."""
    return (blob.mime_type or "").startswith("image/")


def is_audio(blob: Blob) -> bool:
    """Whether the media is audio."""
    return (blob.mime_type or "").startswith("audio/")


def image(blob: Blob, index: int) -> Image:
    """An item of ``message.images``, as OpenRouter and litellm write it."""
    url = f"data:{blob.mime_type};base64,{blob.data or ''}"
    return Image(index=index, image_url=ImageURL(url))


def joined_audio(blobs: list[Blob]) -> str:
    """The base64 of several pieces of audio; raw PCM can simply be joined.

    Raises :exc:`UnusableAnswer` if a piece is no base64.
    """
    if len(blobs) == 1:
        return blobs[0].data or ""
    try:
        sound = b"".join(b64decode(blob.data or "") for blob in blobs)
    except ValueError as error:
        raise UnusableAnswer(f"the sound cannot be read: {error}") from error
    return b64encode(sound).decode("ascii")


def executable_code(code: ExecutableCode) -> str:
    """The code as a Markdown block."""
    language = code.language
    name = _LANGUAGES.get(language, "") if isinstance(language, int) else language or ""
    return _fenced(code.code or "", "" if name == "LANGUAGE_UNSPECIFIED" else name.lower())


def execution_result(result: CodeExecutionResult) -> str:
    """The output of the code as a Markdown block, preceded by its outcome unless that is OK."""
    outcome = result.outcome
    name = _OUTCOMES.get(outcome, str(outcome)) if isinstance(outcome, int) else outcome
    output = result.output or ""
    return _fenced(output if name in (None, "OUTCOME_OK") else f"{name}\n{output}", "")


def _fenced(text: str, language: str) -> str:
    """``text`` between fences longer than any in it."""
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    end = "" if text.endswith("\n") else "\n"
    return f"\n{fence}{language}\n{text}{end}{fence}\n"
