"""Errors as OpenAI's clients know them (platform.openai.com ``guides/error-codes``).

One table gives each type of error its HTTP status and the ``type`` and ``code`` of the envelope.
All four keys of the envelope are always there; the official SDKs read them as ``e.message``,
``e.type``, ``e.param`` and ``e.code``. The admin API answers in the same form.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import msgspec

from gemproxy.core import errors
from gemproxy.core.errors import ProxyError, UpstreamTrouble
from gemproxy.core.interfaces import EncodedError, ErrorEncoder

#: Seconds of a ``Retry-After`` that openai-node still obeys; it ignores longer ones and asks again
#: at once. (openai-python gives up above 120 seconds.)
LONGEST_RETRY_AFTER: Final = 60.0


class _Form(NamedTuple):
    status: int
    type: str
    #: Used if the error has no ``reason``.
    code: str | None = None


_REQUEST: Final = "invalid_request_error"
_RATE: Final = "rate_limit_error"
_SERVER: Final = "server_error"

_FORMS: Final[dict[type[ProxyError], _Form]] = {
    ProxyError: _Form(500, _SERVER),
    errors.InvalidRequest: _Form(400, _REQUEST),
    errors.ContextTooLong: _Form(400, _REQUEST, "context_length_exceeded"),
    errors.RequestTooLarge: _Form(413, _REQUEST, "request_too_large"),
    errors.Unauthorized: _Form(401, _REQUEST, "invalid_api_key"),
    errors.Forbidden: _Form(403, _REQUEST, "forbidden"),
    errors.MisdirectedRequest: _Form(421, _REQUEST, "misdirected_request"),
    errors.LockedOut: _Form(429, _RATE, "too_many_wrong_tokens"),
    errors.UnknownURL: _Form(404, _REQUEST, "unknown_url"),
    errors.NotFound: _Form(404, _REQUEST),
    errors.Conflict: _Form(409, _REQUEST, "conflict"),
    errors.MethodNotAllowed: _Form(405, _REQUEST, "method_not_allowed"),
    errors.ModelNotFound: _Form(404, _REQUEST, "model_not_found"),
    errors.TooManyInFlight: _Form(429, _RATE, "rate_limit_exceeded"),
    errors.Overloaded: _Form(503, _SERVER, "overloaded"),
    # Used if the upstream's answer had no error status.
    errors.UpstreamRejected: _Form(400, _REQUEST),
    errors.Unavailable: _Form(503, _SERVER),
    errors.QuotaExhausted: _Form(429, _RATE, "rate_limit_exceeded"),
    errors.DailyQuotaExhausted: _Form(429, _RATE, "insufficient_quota"),
    errors.NoHealthyKeys: _Form(503, _SERVER, "no_healthy_keys"),
    errors.ModelUnavailable: _Form(503, _SERVER, "model_unavailable"),
    errors.UpstreamUnavailable: _Form(502, _SERVER, "upstream_error"),
    errors.StreamIncomplete: _Form(502, _SERVER, "stream_incomplete"),
    errors.Draining: _Form(503, _SERVER, "draining"),
    errors.ConfigurationInvalid: _Form(503, _SERVER, "configuration_invalid"),
    errors.InternalError: _Form(500, _SERVER, "internal_error"),
}
_STATUS_OF_TROUBLE: Final = {
    UpstreamTrouble.INTERNAL: 500,
    UpstreamTrouble.BAD_ANSWER: 502,
    UpstreamTrouble.UNAVAILABLE: 503,
    UpstreamTrouble.TIMEOUT: 504,
}


class ErrorObject(msgspec.Struct, frozen=True):
    """The value of ``error`` in the body."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorEnvelope(msgspec.Struct, frozen=True):
    """A whole error body."""

    error: ErrorObject


def encode_error(error: ProxyError) -> EncodedError:
    """The whole answer for ``error``."""
    return EncodedError(_status(error), _headers(error), _body(error))


def encode_error_event(error: ProxyError) -> bytes:
    """The last event of a stream that failed after it had begun.

    The official SDKs raise on an event whose object has an ``error``; no ``[DONE]`` follows it.
    """
    return b"data: %b\n\n" % _body(error)


#: The encoder of this dialect, for routes.
OPENAI_ERRORS: Final = ErrorEncoder(encode_error, encode_error_event)


def _form(error: ProxyError) -> _Form:
    return next(_FORMS[each] for each in type(error).__mro__ if each in _FORMS)


def _status(error: ProxyError) -> int:
    if isinstance(error, errors.UpstreamRejected) and error.upstream_status is not None:
        return error.upstream_status
    if isinstance(error, errors.UpstreamUnavailable):
        return _STATUS_OF_TROUBLE[error.trouble]
    return _form(error).status


def _headers(error: ProxyError) -> list[tuple[bytes, bytes]]:
    """The headers of the error beside the usual ones.

    The official SDKs obey ``x-should-retry``. If the error does not set it and its delay is longer
    than the SDKs wait, it is ``false``.
    """
    headers = []
    if error.retry_after is not None:
        headers.append((b"Retry-After", b"%d" % max(1, math.ceil(error.retry_after))))
    should_retry = error.should_retry
    if should_retry is None and (error.retry_after or 0.0) > LONGEST_RETRY_AFTER:
        should_retry = False
    if should_retry is not None:
        headers.append((b"x-should-retry", b"true" if should_retry else b"false"))
    if isinstance(error, errors.Unauthorized):
        headers.append((b"WWW-Authenticate", b"Bearer"))
    if isinstance(error, errors.MethodNotAllowed):
        headers.append((b"Allow", ", ".join(error.allow).encode("ascii")))
    return headers


def _body(error: ProxyError) -> bytes:
    form = _form(error)
    code = error.reason or form.code
    return _ENCODER.encode(ErrorEnvelope(ErrorObject(error.message, form.type, error.param, code)))


_ENCODER = msgspec.json.Encoder()
