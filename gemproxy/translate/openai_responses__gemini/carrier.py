"""``encrypted_content`` of a reasoning item carries the signature of what follows it.

Clients send reasoning items back as they came. The content names the model, because the signature
of another model would be refused.
"""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode

import msgspec

from gemproxy.translate.shared.function_calls import usable_signature

_VERSION = "gp1."


def carry(signature: str, model: str) -> str:
    """The ``encrypted_content`` for a signature of ``model``, the upstream's name."""
    return _VERSION + urlsafe_b64encode(msgspec.json.encode((model, signature))).decode("ascii")


def carried_signature(content: str | None, model: str) -> str | None:
    """The signature; ``None`` for that of another model, or of another provider's item."""
    if content is None or not content.startswith(_VERSION):
        return None
    try:
        of_model, signature = _decode(urlsafe_b64decode(content[len(_VERSION) :].encode("ascii")))
    except (ValueError, msgspec.MsgspecError):
        return None
    return usable_signature(signature) if of_model == model else None


_decode = msgspec.json.Decoder(tuple[str, str]).decode
