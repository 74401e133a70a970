"""The OpenAI error envelope (platform.openai.com ``guides/error-codes``).

All four keys are always there; the official SDKs read them as ``e.message``, ``e.type``,
``e.param`` and ``e.code``.
"""

from __future__ import annotations

import msgspec

from gemproxy.core.errors import ProxyError


class ErrorObject(msgspec.Struct, frozen=True):
    """What stands under ``error``."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorEnvelope(msgspec.Struct, frozen=True):
    """A whole error body."""

    error: ErrorObject


def encode_error(error: ProxyError) -> bytes:
    """The JSON body of an error response."""
    return _ENCODER.encode(
        ErrorEnvelope(ErrorObject(error.message, error.type, error.param, error.code))
    )


def encode_error_event(error: ProxyError) -> bytes:
    """The last event of a stream that failed after it had begun.

    The official SDKs raise on an event whose object has an ``error``; no ``[DONE]`` follows it.
    """
    return b"data: %b\n\n" % encode_error(error)


_ENCODER = msgspec.json.Encoder()
