"""Errors as Anthropic's clients know them (docs.anthropic.com ``api/errors``).

The SDKs choose the class of their exception by the status. Claude Code repeats a 429 and a 529
with growing waits.
"""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import UNSET, UnsetType

from gemproxy.api.anthropic.schema.requests import THREAD_UNSUPPORTED
from gemproxy.api.dialects import ANTHROPIC_NAME, Dialect, EncodedError
from gemproxy.api.errors import headers_of, status_of
from gemproxy.api.rate_limits import anthropic_limit_headers
from gemproxy.core.errors import ProxyError, UpstreamTrouble, UpstreamUnavailable

#: Anthropic's status for a service without capacity, where others have 503.
OVERLOADED: Final = 529

_TYPES: Final = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    OVERLOADED: "overloaded_error",
}
#: Anthropic's codes among the reasons of errors, and those by which a program can tell what a
#: client may not do. The others are of no use to its clients.
_ERROR_CODES: Final = frozenset(
    {THREAD_UNSUPPORTED, "address_not_allowed", "endpoint_not_allowed", "model_not_allowed"}
)


class ErrorDetails(msgspec.Struct, frozen=True):
    """What a client may act on without a person."""

    error_code: str


class ErrorObject(msgspec.Struct, frozen=True):
    """The value of ``error`` in the body."""

    type: str
    message: str
    details: ErrorDetails | UnsetType = UNSET


class ErrorEnvelope(msgspec.Struct, frozen=True, tag_field="type", tag="error"):
    """A whole error body, and the data of an ``error`` event."""

    error: ErrorObject
    request_id: str


def encode_error(error: ProxyError, request_id: str) -> EncodedError:
    """The whole answer for ``error``."""
    status = _status(error)
    return EncodedError(status, headers_of(error), _body(error, status, request_id))


def encode_error_event(error: ProxyError, request_id: str) -> bytes:
    """The last event of a stream that failed after it had begun."""
    return b"event: error\ndata: %b\n\n" % _body(error, _status(error), request_id)


#: The dialect, for routes.
ANTHROPIC: Final = Dialect(
    ANTHROPIC_NAME,
    encode_error,
    encode_error_event,
    heartbeat=b'event: ping\ndata: {"type":"ping"}\n\n',
    id_header=b"request-id",
    limit_headers=anthropic_limit_headers,
)


def _status(error: ProxyError) -> int:
    if isinstance(error, UpstreamUnavailable) and error.trouble is UpstreamTrouble.UNAVAILABLE:
        return OVERLOADED
    return status_of(error)


def _body(error: ProxyError, status: int, request_id: str) -> bytes:
    kind = _TYPES.get(status) or ("api_error" if status >= 500 else "invalid_request_error")
    details = ErrorDetails(error.reason) if error.reason in _ERROR_CODES else UNSET
    return _ENCODER.encode(ErrorEnvelope(ErrorObject(kind, error.message, details), request_id))


_ENCODER = msgspec.json.Encoder()
