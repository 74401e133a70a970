"""Make parts of media that a client sends: images, audio, video and files.

Each dialect names the same things by other fields; ``path`` is the client's name for the field.
Raises :class:`InvalidRequest` for media that Gemini cannot take.
"""

from __future__ import annotations

from typing import Final

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
_DEFAULT_IMAGE: Final = "image/jpeg"


def media_part(url: str, path: str, *, fallback: str | None) -> Part:
    """Media by a data URL or another one; ``fallback`` is the type if the latter shows none."""
    if media.is_data_url(url):
        blob = media.parse_data_url(url, path)
        media.checked_image(blob.mime_type, path)
        return Part(inline_data=blob)
    remote = media.remote_media(url, path, fallback=fallback)
    media.checked_image(remote.mime_type, path)
    return Part(file_data=remote)


def image_part(url: str, detail: str | None, path: str, family: ModelFamily) -> Part:
    """An image by its URL, with OpenAI's ``detail``."""
    found = media_part(url, path, fallback=_DEFAULT_IMAGE)
    if isinstance(found.inline_data, Blob) and not found.inline_data.mime_type.startswith("image/"):
        raise InvalidRequest(
            f"{path}: expected an image, got {found.inline_data.mime_type}.", param=path
        )
    return with_detail(found, detail, family)


def with_detail(part: Part, detail: str | None, family: ModelFamily) -> Part:
    """Set the resolution for OpenAI's ``detail`` of an image."""
    if detail in _RESOLUTIONS and family.rich_parts:
        part.media_resolution = _RESOLUTIONS[detail]
    return part


def audio_part(data: str, audio_format: str | None, path: str) -> Part:
    """Audio as base64 or as a data URL; ``path`` is that of the object with both fields."""
    data = data.strip()
    if not media.is_data_url(data):
        mime_type = media.audio_type(audio_format, f"{path}.format")
        data = media.checked_base64(data, f"{path}.data")
        return Part(inline_data=Blob(mime_type=mime_type, data=data))
    blob = media.parse_data_url(data, f"{path}.data")
    if blob.mime_type == media.UNKNOWN_TYPE:
        blob.mime_type = media.audio_type(audio_format, f"{path}.format")
    elif blob.mime_type == "audio/mpeg":
        blob.mime_type = media.AUDIO_TYPES["mp3"]
    return Part(inline_data=blob)


def file_part(data: str, filename: str | None, mime_type: str | None, path: str) -> Part:
    """A file by ``file_data``; ``path`` is that of the object with the fields."""
    data = data.strip()
    if media.is_data_url(data):
        blob = media.parse_data_url(data, f"{path}.file_data")
    else:
        kind = stated_type(filename, mime_type, path)
        if kind is None:
            raise InvalidRequest(
                f"{path}.filename: the kind of file is not known; give a filename with a common"
                " extension, or send file_data as a data URL.",
                param=f"{path}.filename",
            )
        blob = Blob(mime_type=kind, data=media.checked_base64(data, f"{path}.file_data"))
    media.checked_image(blob.mime_type, f"{path}.file_data")
    return Part(inline_data=blob)


def uploaded_part(file_id: str, filename: str | None, mime_type: str | None, path: str) -> Part:
    """A file of the Files API by ``file_id``; ``path`` is that of the object with the fields."""
    uploaded = media.uploaded_file(file_id.strip(), f"{path}.file_id")
    uploaded.mime_type = uploaded.mime_type or stated_type(filename, mime_type, path)
    return Part(file_data=uploaded)


def stated_type(filename: str | None, mime_type: str | None, path: str) -> str | None:
    """The MIME type that the client states, or that the name of the file shows."""
    if mime_type and "/" in mime_type:
        return media.known_type(mime_type, f"{path}.format")
    return media.type_by_name(filename or "")
