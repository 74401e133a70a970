"""The status and the headers of each type of error, which are the same in every dialect.

An encoder adds the words and the envelope of its dialect
(``gemproxy.api.openai.errors``, ``.gemini.errors``, ``.anthropic.errors``).
"""

from __future__ import annotations

import math
from typing import Final

from gemproxy.core import errors
from gemproxy.core.errors import ProxyError, UpstreamTrouble

#: Seconds of a ``Retry-After`` that openai-node still obeys; it ignores longer ones and asks again
#: at once. (openai-python gives up above 120 seconds.) Anthropic's SDKs have the same code.
LONGEST_RETRY_AFTER: Final = 60.0

STATUSES: Final[dict[type[ProxyError], int]] = {
    ProxyError: 500,
    errors.InvalidRequest: 400,
    errors.ContextTooLong: 400,
    errors.RequestTooLarge: 413,
    errors.Unauthorized: 401,
    errors.Forbidden: 403,
    errors.MisdirectedRequest: 421,
    errors.LockedOut: 429,
    errors.UnknownURL: 404,
    errors.NotFound: 404,
    errors.Conflict: 409,
    errors.MethodNotAllowed: 405,
    errors.ModelNotFound: 404,
    errors.TooManyInFlight: 429,
    errors.Overloaded: 503,
    errors.ClientLimitReached: 429,
    errors.BudgetSpent: 429,
    # Used if the upstream's answer had no error status.
    errors.UpstreamRejected: 400,
    errors.Unavailable: 503,
    errors.QuotaExhausted: 429,
    errors.DailyQuotaExhausted: 429,
    errors.NoHealthyKeys: 503,
    errors.ModelUnavailable: 503,
    errors.UpstreamUnavailable: 502,
    errors.StreamIncomplete: 502,
    errors.Draining: 503,
    errors.ConfigurationInvalid: 503,
    errors.InternalError: 500,
}
_STATUS_OF_TROUBLE: Final = {
    UpstreamTrouble.INTERNAL: 500,
    UpstreamTrouble.BAD_ANSWER: 502,
    UpstreamTrouble.UNAVAILABLE: 503,
    UpstreamTrouble.TIMEOUT: 504,
}


def status_of(error: ProxyError) -> int:
    """Return the HTTP status of ``error``."""
    if isinstance(error, errors.UpstreamRejected) and error.upstream_status is not None:
        return error.upstream_status
    if isinstance(error, errors.UpstreamUnavailable):
        return _STATUS_OF_TROUBLE[error.trouble]
    return next(STATUSES[each] for each in type(error).__mro__ if each in STATUSES)


def headers_of(error: ProxyError) -> list[tuple[bytes, bytes]]:
    """Return the headers of ``error`` beside the usual ones.

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
