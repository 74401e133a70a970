"""Images that the model made: they come back in its turns and need their signatures.

``gemini-3-pro-image`` and later image models sign their images, and a follow-up ("bluer") needs the
image. Clients return it as ``images`` of an assistant's message, or as ``image_url`` parts. An
image has no id, so its signature is stored under a digest of its base64. If none is known, Google's
documented dummy takes its place. Source: ai.google.dev, thought signatures;
danny-avila/LibreChat#11591, langchain-google#1431.
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import blake2b
from typing import Any

from gemproxy.api.openai.schema.messages import AssistantMessage, ImagePart
from gemproxy.media_bypass import ExtractedMedia
from gemproxy.providers.gemini.capabilities import ModelFamily
from gemproxy.providers.gemini.wire.requests import Part
from gemproxy.translate.openai_chat__gemini.content import content_parts
from gemproxy.translate.shared.function_calls import DUMMY_SIGNATURE, media_of
from gemproxy.translate.shared.signatures import RememberedCall, SignatureStore

#: Prefix that no id of a call has.
_PREFIX = "image:"
#: Characters; a longer signature would evict those of many calls.
_LONGEST_SIGNATURE = 4 * 1024 * 1024


def remember_image(
    data: str, signature: str, signatures: SignatureStore, aside: ExtractedMedia
) -> None:
    """Store the signature of an image. ``data`` may be a placeholder of ``aside``."""
    if len(signature) <= _LONGEST_SIGNATURE:
        signatures.remember(_key(data, aside), RememberedCall(signature, issued_upstream=False))


def model_parts(
    message: AssistantMessage,
    path: str,
    *,
    family: ModelFamily,
    signatures: SignatureStore,
    distrust: bool,
    aside: ExtractedMedia,
) -> list[Part]:
    """The content and the images of an assistant's message; ``path`` is the message's.

    Raises :class:`~gemproxy.core.errors.InvalidRequest` for parts that cannot be translated.
    """
    parts = content_parts(message.content, f"{path}.content", family)
    seen = {_key_of(part, aside) for part in parts if _is_image(part)}
    for place, image in _images(message.images):
        for part in content_parts([image], f"{path}.images[{place}]", family):
            # Some clients repeat ``images`` in ``content``.
            if (key := _key_of(part, aside)) not in seen:
                seen.add(key)
                parts.append(part)
    for part in parts:
        if _is_image(part):
            known = None if distrust else signatures.recall(_key_of(part, aside))
            if known is not None and known.signature:
                part.thought_signature = known.signature
            elif family.signs_images:
                part.thought_signature = DUMMY_SIGNATURE
    return parts


def _images(images: Any) -> Iterator[tuple[int, ImagePart]]:
    """The items of ``images`` that have this program's form, or are bare URLs."""
    for place, image in enumerate(images if isinstance(images, list) else ()):
        url = image.get("image_url") if isinstance(image, dict) else image
        if isinstance(url, dict):
            url = url.get("url")
        if isinstance(url, str) and url:
            yield place, ImagePart(url)


def _is_image(part: Part) -> bool:
    medium = media_of(part)
    return medium is not None and (medium.mime_type or "").startswith("image/")


def _key_of(part: Part, aside: ExtractedMedia) -> str:
    blob = part.inline_data
    if blob is not None:
        return _key(blob.data, aside)
    return f"{_PREFIX}{part.file_data.file_uri}" if part.file_data is not None else ""


def _key(data: str, aside: ExtractedMedia) -> str:
    return f"{_PREFIX}{blake2b(aside.data(data), digest_size=16).hexdigest()}"
