"""The error for a request that no key can serve: out of quota, not healthy, or not allowed.

If the request names a resource of one project, only the keys of that project are meant, and the
error says so. It names the resource and not the project: a project is named by the operator, or
after its key.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TypeVar

from gemproxy.core.errors import (
    Conflict,
    DailyQuotaExhausted,
    ModelNotFound,
    NoHealthyKeys,
    NotFound,
    ProxyError,
    QuotaExhausted,
    Unavailable,
)
from gemproxy.pool.breaker import BreakerState
from gemproxy.pool.eligibility import Eligibility, Group, Ineligible, Marks, Reason
from gemproxy.pool.key import Affinity
from gemproxy.pool.outcome import QUOTA, Outcome, Verdict, quota_returns
from gemproxy.pool.state import KeyState

_WORDS = {
    Reason.DISABLED: "disabled",
    Reason.CIRCUIT_OPEN: "with an open circuit breaker",
    Reason.HALF_OPEN_BUSY: "half-open and waiting for a trial",
    Reason.LOW_HEALTH: "in low health",
    Reason.COOLING_DOWN: "out of quota",
    Reason.OVER_LIMIT: "at their own limits",
    Reason.QUOTA_REACHED: "at a known quota of their project",
    Reason.MODEL_NOT_ALLOWED: "not allowed to use the model",
    Reason.ALREADY_TRIED: "already tried",
}
_QUOTA_REASONS = (Reason.COOLING_DOWN, Reason.OVER_LIMIT, Reason.QUOTA_REACHED)
_OUT_OF_ORDER = (
    Reason.CIRCUIT_OPEN,
    Reason.HALF_OPEN_BUSY,
    Reason.LOW_HEALTH,
    Reason.ALREADY_TRIED,
)
_NOT_FOR_THIS_KEY = frozenset({Verdict.FORBIDDEN, Verdict.MODEL_DENIED})
# A trial takes as long as a request, and a key that was only tried is eligible at once.
_SOON = 1.0


@dataclass
class AvailabilitySummary:
    """How many keys are ineligible for which reason, and until when. Times are monotonic."""

    counts: Counter[Reason] = field(default_factory=Counter)
    out_for_the_day: int = 0
    rejected: int = 0
    soonest_quota: float | None = None
    soonest_health: float | None = None

    @classmethod
    def of(cls, marks: Marks[KeyState]) -> AvailabilitySummary:
        """The marked keys; costs the same for any number of them."""
        return cls(
            marks.counts.copy(),
            marks.out_for_the_day,
            marks.rejected,
            marks.soonest(Group.QUOTA),
            marks.soonest(Group.HEALTH),
        )

    def add(self, ineligible: Ineligible) -> None:
        """Count one more key, which is ineligible for this request only."""
        self.counts[ineligible.reason] += 1
        self.rejected += ineligible.rejected
        if ineligible.reason in _QUOTA_REASONS and ineligible.until is not None:
            self.soonest_quota = _soonest(self.soonest_quota, ineligible.until)

    def add_lasting(self, ineligible: Ineligible) -> None:
        """Count one more key, which is ineligible for all requests."""
        self.add(ineligible)
        self.out_for_the_day += ineligible.for_the_day
        if ineligible.reason in _OUT_OF_ORDER and ineligible.until is not None:
            self.soonest_health = _soonest(self.soonest_health, ineligible.until)

    @property
    def out_of_quota(self) -> int:
        """How many keys are out of quota."""
        return self.number(_QUOTA_REASONS)

    def number(self, reasons: tuple[Reason, ...]) -> int:
        """How many keys are ineligible for one of ``reasons``."""
        return sum(self.counts[reason] for reason in reasons)


def unavailable(
    summary: AvailabilitySummary, model: str, now: float, all_disabled_retry: float
) -> Unavailable | ModelNotFound:
    """The error for a request for ``model`` that no key of ``summary`` can serve.

    If some keys are only out of quota, that is the error, since they recover by themselves. Else,
    if some keys are not healthy, that is the error. A model that no enabled key may use does not
    exist. ``all_disabled_retry`` is the delay if every key is disabled. Waiting does not help then,
    nor if Google rejects all unhealthy keys: a person has to act.
    """
    if summary.out_of_quota:
        return quota_exhausted(summary, model, now)
    if out_of_order := summary.number(_OUT_OF_ORDER):
        should_retry = False if summary.rejected == out_of_order else None
        delay = _delay(summary.soonest_health, now)
        error = no_healthy_keys(summary, delay, should_retry=should_retry)
        error.free_at = summary.soonest_health
        return error
    if summary.counts[Reason.MODEL_NOT_ALLOWED]:
        return ModelNotFound(
            f"The model '{model}' is not available to any of the configured keys.", param="model"
        )
    return no_healthy_keys(summary, all_disabled_retry, should_retry=False)


def project_unavailable(
    affinity: Affinity, summary: AvailabilitySummary, model: str, now: float, retry: float
) -> ProxyError:
    """The error for a request that only the keys of one project could serve.

    ``summary`` has the keys of that project, ``retry`` is as in :func:`unavailable`.
    """
    if not summary.counts:
        return project_without_keys(affinity.resource)
    if summary.counts[Reason.DISABLED] == summary.counts.total():
        return Conflict(
            f"Every key of the project that {affinity.resource} belongs to is disabled, and the"
            " request cannot move to another project.",
            reason="project_disabled",
        )
    error = unavailable(summary, model, now, retry)
    return cannot_move(error, affinity.resource)


def project_without_keys(resource: str) -> NotFound:
    """The error for a resource of a project of which no key is configured any more."""
    return NotFound(
        f"{resource} belongs to a project of which no key is configured any more; no other project"
        " can read it.",
        reason="project_without_keys",
    )


_E = TypeVar("_E", bound=ProxyError)


def cannot_move(error: _E, resource: str) -> _E:
    """``error``, saying that it is about the keys of one project only."""
    error.message += (
        f" Only the keys of the project that {resource} belongs to were considered: the request"
        " cannot move to another project."
    )
    return error


def quota_exhausted(summary: AvailabilitySummary, model: str, now: float) -> QuotaExhausted:
    """Every key that could serve is out of quota. ``model`` is empty for the list of models.

    If all of them are out until midnight, and none recovers from something else before, a client
    need not try again.
    """
    quota = summary.out_of_quota
    soonest = _soonest(summary.soonest_quota, summary.soonest_health)
    error: QuotaExhausted
    if summary.out_for_the_day == quota and not summary.number(_OUT_OF_ORDER):
        error = DailyQuotaExhausted(
            f"The daily quota for {_named(model)} is used up on every key.",
            retry_after=_delay(soonest, now),
            should_retry=False,
        )
    else:
        error = QuotaExhausted(
            f"The rate limit for {_named(model)} is reached on every key.",
            retry_after=_delay(soonest, now),
        )
    error.free_at = soonest
    return error


def no_healthy_keys(
    summary: AvailabilitySummary,
    retry_after: float,
    untried: int = 0,
    *,
    should_retry: bool | None = None,
) -> NoHealthyKeys:
    """No key is healthy, or ``untried`` keys are but the request has no more attempts.

    ``should_retry`` is false if waiting does not help, because a person has to act. The message
    counts the keys by reason.
    """
    numbers = [
        f"{summary.counts[reason]} {words}"
        for reason, words in _WORDS.items()
        if summary.counts[reason]
    ]
    if untried:
        numbers.append(f"{untried} not tried, since the attempts are used up")
    detail = ", ".join(numbers) or "none is configured"
    return NoHealthyKeys(
        f"No API key can serve this request: {detail}.",
        retry_after=retry_after,
        should_retry=should_retry,
    )


def models_unavailable(
    entries: Iterable[KeyState],
    failed: dict[str, Outcome],
    now: float,
    eligibility: Eligibility,
) -> Unavailable | ModelNotFound:
    """See :meth:`~gemproxy.pool.pool.KeyPool.models_unavailable`."""
    summary, untried = AvailabilitySummary(), 0
    for entry in entries:
        outcome = failed.get(entry.id)
        if outcome is not None:
            summary.add_lasting(_after(entry, outcome, now, eligibility))
        elif not entry.enabled:
            summary.add_lasting(Ineligible(Reason.DISABLED))
        elif entry.breaker.state_at(now) is BreakerState.OPEN:
            rejected, until = entry.needs_attention is not None, entry.breaker.until
            summary.add_lasting(Ineligible(Reason.CIRCUIT_OPEN, until, rejected=rejected))
        elif entry.breaker.state_at(now) is BreakerState.HALF_OPEN:
            summary.add_lasting(Ineligible(Reason.HALF_OPEN_BUSY))
        else:
            untried += 1
    if not untried:
        return unavailable(summary, "", now, eligibility.settings.cooldown)
    last = next(reversed(failed.values()), None)
    if last is not None and last.verdict in QUOTA:
        summary.add(Ineligible(Reason.COOLING_DOWN, now))
        return quota_exhausted(summary, "", now)
    return no_healthy_keys(summary, 1.0, untried)


def _after(entry: KeyState, outcome: Outcome, now: float, eligibility: Eligibility) -> Ineligible:
    """The reason why the key would be ineligible if ``outcome`` were recorded."""
    if outcome.verdict in QUOTA:
        until = quota_returns(entry, outcome, now, eligibility)
        for_the_day = outcome.verdict is Verdict.QUOTA_DAY
        return Ineligible(Reason.COOLING_DOWN, until, for_the_day=for_the_day)
    recovered = now + eligibility.settings.recovery_time
    if outcome.verdict is Verdict.KEY:
        return Ineligible(Reason.CIRCUIT_OPEN, recovered, rejected=True)
    if outcome.verdict in _NOT_FOR_THIS_KEY:
        return Ineligible(Reason.ALREADY_TRIED, recovered)
    return Ineligible(Reason.ALREADY_TRIED)


def _named(model: str) -> str:
    return f"the model '{model}'" if model else "the list of models"


def _delay(moment: float | None, now: float) -> float:
    return _SOON if moment is None else max(_SOON, moment - now)


def _soonest(first: float | None, second: float | None) -> float | None:
    if first is None or second is None:
        return second if first is None else first
    return min(first, second)
