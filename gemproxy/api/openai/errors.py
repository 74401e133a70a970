"""Errors as OpenAI's clients know them (platform.openai.com ``guides/error-codes``).

One table gives each type of error the ``type`` and ``code`` of the envelope.
All four keys of the envelope are always there; the official SDKs read them as ``e.message``,
``e.type``, ``e.param`` and ``e.code``. The admin API answers in the same form.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec

from gemproxy.api.dialects import OPENAI_NAME, Dialect, EncodedError
from gemproxy.api.errors import headers_of, status_of
from gemproxy.core import errors
from gemproxy.core.errors import ProxyError


class _Form(NamedTuple):
    type: str
    #: Used if the error has no ``reason``.
    code: str | None = None


_REQUEST: Final = "invalid_request_error"
_RATE: Final = "rate_limit_error"
_SERVER: Final = "server_error"

_FORMS: Final[dict[type[ProxyError], _Form]] = {
    ProxyError: _Form(_SERVER),
    errors.InvalidRequest: _Form(_REQUEST),
    errors.ContextTooLong: _Form(_REQUEST, "context_length_exceeded"),
    errors.RequestTooLarge: _Form(_REQUEST, "request_too_large"),
    errors.Unauthorized: _Form(_REQUEST, "invalid_api_key"),
    errors.Forbidden: _Form(_REQUEST, "forbidden"),
    errors.MisdirectedRequest: _Form(_REQUEST, "misdirected_request"),
    errors.LockedOut: _Form(_RATE, "too_many_wrong_tokens"),
    errors.UnknownURL: _Form(_REQUEST, "unknown_url"),
    errors.NotFound: _Form(_REQUEST),
    errors.Conflict: _Form(_REQUEST, "conflict"),
    errors.MethodNotAllowed: _Form(_REQUEST, "method_not_allowed"),
    errors.ModelNotFound: _Form(_REQUEST, "model_not_found"),
    errors.TooManyInFlight: _Form(_RATE, "rate_limit_exceeded"),
    errors.Overloaded: _Form(_SERVER, "overloaded"),
    errors.ClientLimitReached: _Form(_RATE, "rate_limit_exceeded"),
    errors.BudgetSpent: _Form(_RATE, "insufficient_quota"),
    errors.UpstreamRejected: _Form(_REQUEST),
    errors.Unavailable: _Form(_SERVER),
    errors.QuotaExhausted: _Form(_RATE, "rate_limit_exceeded"),
    errors.DailyQuotaExhausted: _Form(_RATE, "insufficient_quota"),
    errors.NoHealthyKeys: _Form(_SERVER, "no_healthy_keys"),
    errors.ModelUnavailable: _Form(_SERVER, "model_unavailable"),
    errors.UpstreamUnavailable: _Form(_SERVER, "upstream_error"),
    errors.StreamIncomplete: _Form(_SERVER, "stream_incomplete"),
    errors.Draining: _Form(_SERVER, "draining"),
    errors.ConfigurationInvalid: _Form(_SERVER, "configuration_invalid"),
    errors.InternalError: _Form(_SERVER, "internal_error"),
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
    return EncodedError(status_of(error), headers_of(error), _body(error))


def encode_error_event(error: ProxyError) -> bytes:
    """The last event of a stream that failed after it had begun.

    The official SDKs raise on an event whose object has an ``error``; no ``[DONE]`` follows it.
    """
    return b"data: %b\n\n" % _body(error)


#: The dialect, for routes.
OPENAI: Final = Dialect(
    OPENAI_NAME,
    lambda error, _: encode_error(error),
    lambda error, _: encode_error_event(error),
)


def _form(error: ProxyError) -> _Form:
    return next(_FORMS[each] for each in type(error).__mro__ if each in _FORMS)


def _body(error: ProxyError) -> bytes:
    form = _form(error)
    code = error.reason or form.code
    return _ENCODER.encode(ErrorEnvelope(ErrorObject(error.message, form.type, error.param, code)))


_ENCODER = msgspec.json.Encoder()
