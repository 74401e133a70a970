"""Thought signatures inside what clients of other dialects keep and send back.

Messages has a thinking block's ``signature``, Responses ``encrypted_content`` of a reasoning item.
Each carries the signature of what follows it, with the model that made it: another model would
refuse it. Both come back unchanged. In another form they are from somewhere else, and nothing is
read from them.
"""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Final

import msgspec

from gemproxy.translate.shared.function_calls import usable_signature

_VERSION: Final = "gp1."


def carry(signature: str, model: str) -> str:
    """The text that carries ``signature`` of ``model``, the upstream's name, as it is."""
    return f"{_VERSION}{model}.{signature}"


def carry_encoded(signature: str, model: str) -> str:
    """The same in base64, since clients expect that ``encrypted_content`` looks so."""
    return _VERSION + urlsafe_b64encode(msgspec.json.encode((model, signature))).decode("ascii")


def carried(text: str | None, model: str) -> str | None:
    """The signature in ``text`` of either form, if ``model`` made it."""
    if text is None or not text.startswith(_VERSION):
        return None
    made_by, point, signature = text[len(_VERSION) :].rpartition(".")
    if not point:
        try:
            made_by, signature = _decode(urlsafe_b64decode(signature.encode("ascii")))
        except (ValueError, msgspec.MsgspecError):
            return None
    return usable_signature(signature) if made_by == model else None


_decode = msgspec.json.Decoder(tuple[str, str]).decode
