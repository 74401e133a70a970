"""The error that a client gets for the final outcome of its request."""

from __future__ import annotations

from collections.abc import Callable

from gemproxy.core.errors import (
    ContextTooLong,
    DailyQuotaExhausted,
    InternalError,
    ModelNotFound,
    NoHealthyKeys,
    ProxyError,
    QuotaExhausted,
    UpstreamRejected,
    UpstreamTrouble,
    UpstreamUnavailable,
)
from gemproxy.pool.outcome import Outcome, Verdict


def error_for(outcome: Outcome) -> ProxyError:
    """The client's error for the last outcome of a request that gets no further attempt.

    For a used-up quota or a rejected key the pool decides (``KeyPool.unavailable``), since the
    error depends on the other keys. A client never gets a 401 or 403 for a rejected key. A
    successful outcome is a defect of the caller and becomes a 500.
    """
    return _ERRORS.get(outcome.verdict, _defect)(outcome)


def _request_error(outcome: Outcome) -> ProxyError:
    if outcome.code == ContextTooLong.kind:
        return ContextTooLong(outcome.message, param=outcome.param)
    if outcome.code == ModelNotFound.kind:
        return ModelNotFound(outcome.message, param=outcome.param)
    return UpstreamRejected(
        outcome.message,
        upstream_status=outcome.status or None,
        param=outcome.param,
        reason=outcome.code,
    )


# By the upstream's status. A lack of capacity becomes a 503 of our own. A status that clients would
# take for their own mistake becomes a bad answer.
_TROUBLES = {
    429: UpstreamTrouble.UNAVAILABLE,
    500: UpstreamTrouble.INTERNAL,
    502: UpstreamTrouble.BAD_ANSWER,
    503: UpstreamTrouble.UNAVAILABLE,
    504: UpstreamTrouble.TIMEOUT,
}


def _service_error(outcome: Outcome) -> ProxyError:
    trouble = _TROUBLES.get(outcome.status or 502, UpstreamTrouble.BAD_ANSWER)
    retry_after = 1.0 if outcome.retry_after is None else outcome.retry_after
    return UpstreamUnavailable(outcome.message, trouble, retry_after=retry_after)


def _network_error(outcome: Outcome) -> ProxyError:
    trouble = UpstreamTrouble.TIMEOUT if outcome.timed_out else UpstreamTrouble.BAD_ANSWER
    return UpstreamUnavailable(outcome.public or outcome.message, trouble)


def _host_error(_outcome: Outcome) -> ProxyError:
    return UpstreamUnavailable(
        "This proxy is out of resources for another connection.",
        UpstreamTrouble.UNAVAILABLE,
        retry_after=1,
    )


def _unusable_error(outcome: Outcome) -> ProxyError:
    message = outcome.message or f"The upstream gave no usable answer: {outcome.reason}."
    return UpstreamUnavailable(message, UpstreamTrouble.BAD_ANSWER)


def _quota_error(outcome: Outcome) -> ProxyError:
    return QuotaExhausted(outcome.message, retry_after=outcome.retry_after or 1.0)


def _daily_quota_error(outcome: Outcome) -> ProxyError:
    return DailyQuotaExhausted(outcome.message, should_retry=False)


def _key_error(_outcome: Outcome) -> ProxyError:
    # The upstream's text is about a key that the client does not know.
    return NoHealthyKeys(
        "The API key that was chosen for this request was rejected.", retry_after=1
    )


def _denied_error(outcome: Outcome) -> ProxyError:
    return ModelNotFound(outcome.message, param="model")


def _defect(outcome: Outcome) -> ProxyError:
    return InternalError(f"An attempt that ended with {outcome.verdict.value} was taken as failed.")


_ERRORS: dict[Verdict, Callable[[Outcome], ProxyError]] = {
    Verdict.REQUEST: _request_error,
    Verdict.REGION: _request_error,
    Verdict.SERVICE: _service_error,
    Verdict.NETWORK: _network_error,
    Verdict.HOST: _host_error,
    Verdict.UNUSABLE: _unusable_error,
    Verdict.QUOTA_MINUTE: _quota_error,
    Verdict.QUOTA_DAY: _daily_quota_error,
    Verdict.KEY: _key_error,
    Verdict.MODEL_DENIED: _denied_error,
    Verdict.FORBIDDEN: _denied_error,
}
