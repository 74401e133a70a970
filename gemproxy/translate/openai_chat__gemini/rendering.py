"""Render what OpenAI's dialect has no field for: images and audio."""

from __future__ import annotations

from base64 import b64decode, b64encode

from gemproxy.api.openai.schema.answers import Image, ImageURL
from gemproxy.core.errors import UnusableAnswer
from gemproxy.providers.gemini.wire.answers import Blob


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
