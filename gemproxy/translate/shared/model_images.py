"""Images that the model made: they come back in its turns and need their signatures.

``gemini-3-pro-image`` and later image models sign their images, and a follow-up ("bluer") needs the
image. An image has no id, so its signature is stored under a digest of its base64. If none is
known, Google's documented dummy takes its place. Source: ai.google.dev, thought signatures;
danny-avila/LibreChat#11591, langchain-google#1431.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

from gemproxy.media_bypass import ExtractedMedia
from gemproxy.providers.gemini.capabilities import ModelFamily
from gemproxy.providers.gemini.wire.requests import Part
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


def sign_images(
    parts: Sequence[Part],
    *,
    family: ModelFamily,
    signatures: SignatureStore,
    distrust: bool,
    aside: ExtractedMedia,
) -> None:
    """Give the images among the parts of a model's turn their signatures, or the dummy."""
    for part in parts:
        if is_image(part):
            known = None if distrust else signatures.recall(image_key(part, aside))
            if known is not None and known.signature:
                part.thought_signature = known.signature
            elif family.signs_images:
                part.thought_signature = DUMMY_SIGNATURE


def is_image(part: Part) -> bool:
    """Whether the part is an image."""
    medium = media_of(part)
    return medium is not None and (medium.mime_type or "").startswith("image/")


def image_key(part: Part, aside: ExtractedMedia) -> str:
    """A digest of the image, under which its signature is stored."""
    blob = part.inline_data
    if blob is not None:
        return _key(blob.data, aside)
    return f"{_PREFIX}{part.file_data.file_uri}" if part.file_data is not None else ""


def _key(data: str, aside: ExtractedMedia) -> str:
    return f"{_PREFIX}{blake2b(aside.data(data), digest_size=16).hexdigest()}"
