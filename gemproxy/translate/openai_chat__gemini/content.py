"""Translate the content parts of one message."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from gemproxy.api.openai.schema.messages import (
    AudioPart,
    ContentPart,
    FilePart,
    ImagePart,
    MediaURL,
    RefusalPart,
    TextPart,
    VideoPart,
)
from gemproxy.core.errors import InvalidRequest
from gemproxy.providers.gemini.capabilities import ModelFamily
from gemproxy.providers.gemini.wire.requests import Part
from gemproxy.translate.shared.media_parts import (
    audio_part,
    file_part,
    image_part,
    media_part,
    uploaded_part,
)

_DEFAULT_VIDEO = "video/mp4"


def text_parts(content: str | Sequence[TextPart] | None) -> list[Part]:
    """The texts of a message that has only text. Empty texts are omitted."""
    if not content:
        # Gemini may answer 400 for an empty text part.
        return []
    if isinstance(content, str):
        return [Part(text=content)]
    return [Part(text=part.text) for part in content if part.text]


def content_parts(
    content: str | Sequence[ContentPart] | None, path: str, family: ModelFamily
) -> list[Part]:
    """The parts of a user's message or a tool result. Empty texts are omitted.

    ``path`` is the message's ``content`` as a client would name it; an :class:`InvalidRequest`
    names the part within it.
    """
    if not content:
        return []
    if isinstance(content, str):
        return [Part(text=content)]
    parts = []
    for index, part in enumerate(content):
        translated = _TRANSLATIONS[type(part)](part, f"{path}[{index}]", family)
        if translated is not None:
            parts.append(translated)
    return parts


def _text(part: TextPart, _path: str, _family: ModelFamily) -> Part | None:
    return Part(text=part.text) if part.text else None


def _refusal(part: RefusalPart, _path: str, _family: ModelFamily) -> Part | None:
    return Part(text=part.refusal) if part.refusal else None


def _image(part: ImagePart, path: str, family: ModelFamily) -> Part:
    url, detail, place = _media_url(part.image_url, f"{path}.image_url")
    return image_part(url, detail, place, family)


def _video(part: VideoPart, path: str, _family: ModelFamily) -> Part:
    url, _, place = _media_url(part.video_url, f"{path}.video_url")
    return media_part(url, place, fallback=_DEFAULT_VIDEO)


def _media_url(media_url: MediaURL | str, path: str) -> tuple[str, str, str]:
    """The URL without surrounding white space, the detail, and the path of the field."""
    if isinstance(media_url, str):
        return media_url.strip(), "auto", path
    return media_url.url.strip(), media_url.detail or "auto", f"{path}.url"


def _audio(part: AudioPart, path: str, _family: ModelFamily) -> Part:
    return audio_part(part.input_audio.data, part.input_audio.format, f"{path}.input_audio")


def _file(part: FilePart, path: str, _family: ModelFamily) -> Part:
    file, place = part.file, f"{path}.file"
    if file.file_id is not None:
        return uploaded_part(file.file_id, file.filename, file.format, place)
    if file.file_data is not None:
        return file_part(file.file_data, file.filename, file.format, place)
    raise InvalidRequest(f"{place}: expected file_data or file_id.", param=place)


_TRANSLATIONS: dict[type, Callable[[Any, str, ModelFamily], Part | None]] = {
    TextPart: _text,
    RefusalPart: _refusal,
    ImagePart: _image,
    AudioPart: _audio,
    FilePart: _file,
    VideoPart: _video,
}
