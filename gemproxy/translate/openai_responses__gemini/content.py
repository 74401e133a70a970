"""Translate the parts of an item's content."""

from __future__ import annotations

from collections.abc import Sequence

from gemproxy.api.openai.schema.responses import ItemPart
from gemproxy.core.errors import InvalidRequest
from gemproxy.providers.gemini.capabilities import ModelFamily
from gemproxy.providers.gemini.wire.requests import Part
from gemproxy.translate.shared.media_parts import (
    audio_part,
    file_part,
    image_part,
    media_part,
    uploaded_part,
    with_detail,
)

_TEXTS = frozenset({"input_text", "output_text", "text", "summary_text", "reasoning_text"})
_TYPES = ("input_text", "output_text", "refusal", "input_image", "input_file", "input_audio")


def text_parts(content: str | Sequence[ItemPart] | None) -> list[Part]:
    """The texts only. Empty ones are omitted: Gemini may answer 400 for an empty text part."""
    if not content:
        return []
    if isinstance(content, str):
        return [Part(text=content)]
    return [Part(text=text) for part in content if (text := part.text or part.refusal)]


def content_parts(
    content: str | Sequence[ItemPart] | None, path: str, family: ModelFamily
) -> list[Part]:
    """The parts of a message or of a function's result. Empty texts are omitted.

    ``path`` is the client's name of the content. Raises :class:`InvalidRequest` for parts that
    Gemini cannot take.
    """
    if not content:
        return []
    if isinstance(content, str):
        return [Part(text=content)]
    parts = []
    for index, part in enumerate(content):
        translated = _translated(part, f"{path}[{index}]", family)
        if translated is not None:
            parts.append(translated)
    return parts


def _translated(part: ItemPart, path: str, family: ModelFamily) -> Part | None:
    if part.type in _TEXTS:
        return Part(text=part.text) if part.text else None
    if part.type == "refusal":
        return Part(text=part.refusal) if part.refusal else None
    if part.type in {"input_image", "computer_screenshot"}:
        return _image(part, path, family)
    if part.type == "input_file":
        return _file(part, path)
    if part.type == "input_audio" and part.input_audio is not None:
        audio = part.input_audio
        return audio_part(audio.data, audio.format, f"{path}.input_audio")
    raise InvalidRequest(
        f"{path}.type: invalid value '{part.type[:60]}', expected one of {', '.join(_TYPES)}.",
        param=f"{path}.type",
    )


def _image(part: ItemPart, path: str, family: ModelFamily) -> Part:
    if part.file_id:
        uploaded = uploaded_part(part.file_id, None, None, path)
        return with_detail(uploaded, part.detail, family)
    if not part.image_url:
        raise InvalidRequest(f"{path}: expected image_url or file_id.", param=path)
    return image_part(part.image_url.strip(), part.detail, f"{path}.image_url", family)


def _file(part: ItemPart, path: str) -> Part:
    if part.file_id:
        return uploaded_part(part.file_id, part.filename, None, path)
    if part.file_data:
        return file_part(part.file_data, part.filename, None, path)
    if part.file_url:
        return media_part(part.file_url.strip(), f"{path}.file_url", fallback="application/pdf")
    raise InvalidRequest(f"{path}: expected file_data, file_url or file_id.", param=path)
