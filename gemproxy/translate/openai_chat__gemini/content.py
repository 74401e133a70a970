"""Translate the content parts of one message."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from gemproxy.api.openai.schema.messages import (
    AudioPart,
    ContentPart,
    File,
    FilePart,
    ImagePart,
    MediaURL,
    RefusalPart,
    TextPart,
    VideoPart,
)
from gemproxy.core.errors import InvalidRequest
from gemproxy.providers.gemini.capabilities import ModelFamily
from gemproxy.providers.gemini.wire.requests import Blob, MediaResolution, Part
from gemproxy.translate.shared import media

#: OpenAI's ``detail`` as a resolution of one part; ``auto`` is left to the model.
_RESOLUTIONS = {
    "low": MediaResolution(level="MEDIA_RESOLUTION_LOW"),
    "high": MediaResolution(level="MEDIA_RESOLUTION_HIGH"),
    "original": MediaResolution(level="MEDIA_RESOLUTION_ULTRA_HIGH"),
}
_DEFAULT_IMAGE = "image/jpeg"
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
    found = _found(url, place, fallback=_DEFAULT_IMAGE)
    if isinstance(found.inline_data, Blob) and not found.inline_data.mime_type.startswith("image/"):
        raise InvalidRequest(
            f"{place}: expected an image, got {found.inline_data.mime_type}.", param=place
        )
    if detail in _RESOLUTIONS and family.rich_parts:
        found.media_resolution = _RESOLUTIONS[detail]
    return found


def _video(part: VideoPart, path: str, _family: ModelFamily) -> Part:
    url, _, place = _media_url(part.video_url, f"{path}.video_url")
    return _found(url, place, fallback=_DEFAULT_VIDEO)


def _media_url(media_url: MediaURL | str, path: str) -> tuple[str, str, str]:
    """The URL without surrounding white space, the detail, and the path of the field."""
    if isinstance(media_url, str):
        return media_url.strip(), "auto", path
    return media_url.url.strip(), media_url.detail or "auto", f"{path}.url"


def _found(url: str, path: str, *, fallback: str) -> Part:
    if media.is_data_url(url):
        blob = media.parse_data_url(url, path)
        media.checked_image(blob.mime_type, path)
        return Part(inline_data=blob)
    remote = media.remote_media(url, path, fallback=fallback)
    media.checked_image(remote.mime_type, path)
    return Part(file_data=remote)


def _audio(part: AudioPart, path: str, _family: ModelFamily) -> Part:
    audio, place = part.input_audio, f"{path}.input_audio"
    data = audio.data.strip()
    if not media.is_data_url(data):
        mime_type = media.audio_type(audio.format, f"{place}.format")
        data = media.checked_base64(data, f"{place}.data")
        return Part(inline_data=Blob(mime_type=mime_type, data=data))
    blob = media.parse_data_url(data, f"{place}.data")
    if blob.mime_type == media.UNKNOWN_TYPE:
        blob.mime_type = media.audio_type(audio.format, f"{place}.format")
    elif blob.mime_type == "audio/mpeg":
        blob.mime_type = media.AUDIO_TYPES["mp3"]
    return Part(inline_data=blob)


def _file(part: FilePart, path: str, _family: ModelFamily) -> Part:
    file, place = part.file, f"{path}.file"
    if file.file_id is not None:
        uploaded = media.uploaded_file(file.file_id.strip(), f"{place}.file_id")
        uploaded.mime_type = uploaded.mime_type or _stated_type(file, place)
        return Part(file_data=uploaded)
    if file.file_data is not None:
        blob = _file_blob(file, file.file_data.strip(), place)
        media.checked_image(blob.mime_type, f"{place}.file_data")
        return Part(inline_data=blob)
    raise InvalidRequest(f"{place}: expected file_data or file_id.", param=place)


def _file_blob(file: File, data: str, path: str) -> Blob:
    if media.is_data_url(data):
        return media.parse_data_url(data, f"{path}.file_data")
    mime_type = _stated_type(file, path)
    if mime_type is None:
        raise InvalidRequest(
            f"{path}.filename: the kind of file is not known; give a filename with a common"
            " extension, or send file_data as a data URL.",
            param=f"{path}.filename",
        )
    return Blob(mime_type=mime_type, data=media.checked_base64(data, f"{path}.file_data"))


def _stated_type(file: File, path: str) -> str | None:
    if file.format and "/" in file.format:
        return media.known_type(file.format, f"{path}.format")
    return media.type_by_name(file.filename or "")


_TRANSLATIONS: dict[type, Callable[[Any, str, ModelFamily], Part | None]] = {
    TextPart: _text,
    RefusalPart: _refusal,
    ImagePart: _image,
    AudioPart: _audio,
    FilePart: _file,
    VideoPart: _video,
}
