"""Images of an assistant's message, which clients return in several forms.

They come back as ``images`` of the message, or as ``image_url`` parts; see
``translate.shared.model_images`` for their signatures.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gemproxy.api.openai.schema.messages import AssistantMessage, ImagePart
from gemproxy.media_bypass import ExtractedMedia
from gemproxy.providers.gemini.capabilities import ModelFamily
from gemproxy.providers.gemini.wire.requests import Part
from gemproxy.translate.openai_chat__gemini.content import content_parts
from gemproxy.translate.shared.model_images import image_key, is_image, sign_images
from gemproxy.translate.shared.signatures import SignatureStore


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
    seen = {image_key(part, aside) for part in parts if is_image(part)}
    for place, image in _images(message.images):
        for part in content_parts([image], f"{path}.images[{place}]", family):
            # Some clients repeat ``images`` in ``content``.
            if (key := image_key(part, aside)) not in seen:
                seen.add(key)
                parts.append(part)
    sign_images(parts, family=family, signatures=signatures, distrust=distrust, aside=aside)
    return parts


def _images(images: Any) -> Iterator[tuple[int, ImagePart]]:
    """The items of ``images`` that have this program's form, or are bare URLs."""
    for place, image in enumerate(images if isinstance(images, list) else ()):
        url = image.get("image_url") if isinstance(image, dict) else image
        if isinstance(url, dict):
            url = url.get("url")
        if isinstance(url, str) and url:
            yield place, ImagePart(url)
