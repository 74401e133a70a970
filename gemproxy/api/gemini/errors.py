"""Errors as Gemini's own clients know them (google.rpc.Status as JSON).

The SDKs read ``error.code``, ``error.message`` and ``error.status``; gemini-cli reads the
``details`` as well, and waits as long as ``RetryInfo`` says. What Google said itself is repeated as
it said it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, Final

import msgspec

from gemproxy.api.dialects import GEMINI_NAME, Dialect, EncodedError
from gemproxy.api.errors import headers_of, status_of
from gemproxy.core.errors import ProxyError

_TYPE: Final = "type.googleapis.com/google.rpc."
#: The domain of the reasons in ``ErrorInfo``. Google's own are of ``googleapis.com``.
DOMAIN: Final = "gemproxy"

_STATUSES: Final = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    405: "UNIMPLEMENTED",
    409: "ABORTED",
    413: "INVALID_ARGUMENT",
    421: "INVALID_ARGUMENT",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    500: "INTERNAL",
    501: "UNIMPLEMENTED",
    502: "UNAVAILABLE",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


class ErrorObject(msgspec.Struct, frozen=True):
    """The value of ``error`` in the body."""

    code: int
    message: str
    status: str
    details: list[dict[str, Any]]


class ErrorEnvelope(msgspec.Struct, frozen=True):
    """A whole error body."""

    error: ErrorObject


class _Code(msgspec.Struct, frozen=True):
    code: int


class _GooglesError(msgspec.Struct, frozen=True):
    """An error body of Google's."""

    error: _Code


def encode_error(error: ProxyError) -> EncodedError:
    """The whole answer for ``error``."""
    body = _googles(error, is_array=False) or _object(error)
    return EncodedError(status_of(error), headers_of(error), body)


def encode_error_event(error: ProxyError) -> bytes:
    """The last event of a stream that failed after it had begun."""
    said = _googles(error, is_array=False)
    # On one line, as an event has to be.
    line = msgspec.json.format(said, indent=-1) if said else _object(error)
    return b"data: %b\r\n\r\n" % line


def encode_error_array(error: ProxyError) -> EncodedError:
    """The whole answer where the client expects the array of a stream."""
    body = _googles(error, is_array=True) or b"[%b]" % _object(error)
    return EncodedError(status_of(error), headers_of(error), body)


#: The dialect, for routes.
GEMINI: Final = Dialect(
    GEMINI_NAME,
    lambda error, _: encode_error(error),
    lambda error, _: encode_error_event(error),
)
#: The same for streams without ``alt=sse``. Nothing can be said within an array that has begun.
GEMINI_ARRAY: Final = replace(
    GEMINI,
    answer=lambda error, _: encode_error_array(error),
    event=lambda _error, _: b"",
    heartbeat=b"",
    media_type=b"application/json; charset=UTF-8",
)


def _googles(error: ProxyError, *, is_array: bool) -> bytes:
    """Google's own body, as it came, if it says the same in the form that is wanted; else empty."""
    said = error.upstream_body
    if not said:
        return b""
    try:
        found = _GOOGLES_ARRAY.decode(said)[0] if is_array else _GOOGLES.decode(said)
    except (msgspec.DecodeError, RecursionError):
        return b""  # A page of something on the way.
    return said if found.error.code == status_of(error) else b""


def _object(error: ProxyError) -> bytes:
    return _ENCODER.encode(_envelope(error))


def _envelope(error: ProxyError) -> ErrorEnvelope:
    code = status_of(error)
    status = _STATUSES.get(code) or ("INTERNAL" if code >= 500 else "INVALID_ARGUMENT")
    return ErrorEnvelope(ErrorObject(code, error.message, status, _details(error)))


def _details(error: ProxyError) -> list[dict[str, Any]]:
    reason = error.word.upper()
    details: list[dict[str, Any]] = [
        {"@type": f"{_TYPE}ErrorInfo", "reason": reason, "domain": DOMAIN}
    ]
    if error.param is not None:
        violation = {"field": error.param, "description": error.message}
        details.append({"@type": f"{_TYPE}BadRequest", "fieldViolations": [violation]})
    if error.retry_after is not None:
        delay = f"{max(0.001, error.retry_after):.3f}".rstrip("0").rstrip(".")
        details.append({"@type": f"{_TYPE}RetryInfo", "retryDelay": f"{delay}s"})
    return details


_ENCODER = msgspec.json.Encoder()
_GOOGLES = msgspec.json.Decoder(_GooglesError)
_GOOGLES_ARRAY = msgspec.json.Decoder(Annotated[list[_GooglesError], msgspec.Meta(min_length=1)])
