"""Keep the latest requests and their decisions in memory, for ``explain`` and the dashboard."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import chain, islice

from msgspec import UNSET, Struct, UnsetType

from gemproxy.core.context import Attempt, Refusal, RequestContext
from gemproxy.core.events import RequestListener
from gemproxy.core.sentences import first_sentence
from gemproxy.pool.outcome import Charge
from gemproxy.pool.status import SkippedKey


class RequestRecord(Struct, frozen=True):
    """A finished request (schema ``RequestRecord`` of the admin API).

    ``attempts`` is their number, ``key`` the name of the last one's,
    ``retries`` how many attempts failed and were followed by another.
    """

    id: str
    time: datetime
    route: str
    model: str | None
    stream: bool
    status: int
    outcome: str
    key: str | None
    attempts: int
    duration_ms: float
    first_byte_ms: float | None
    prompt_tokens: int | None
    completion_tokens: int | None
    retries: int = 0


class AttemptExplanation(Struct, frozen=True):
    """One attempt; if ``key`` is ``None``, no key was eligible for another one.

    ``status`` is the upstream's. ``reason`` is this program's word for the failure; the next three
    are Google's. ``message`` is Google's first sentence, or why there was no answer. Each is
    ``None`` if absent. ``passed_over`` are the skipped keys, at most 20.
    """

    key: str | None
    outcome: str
    status: int | None
    charged_to: Charge
    duration_ms: float
    passed_over: tuple[SkippedKey, ...]
    reason: str | None = None
    google_status: str | None = None
    google_reason: str | None = None
    quota_id: str | None = None
    message: str | None = None
    #: Why the key was chosen out of turn: ``conversation``, or the resource that only keys of its
    #: project can read. Omitted if it was in turn.
    chosen_for: str | UnsetType = UNSET


class RequestExplanation(Struct, frozen=True):
    """One request (schema ``RequestExplanation``) with its decisions, in the order of time."""

    request: RequestRecord
    attempts: tuple[AttemptExplanation, ...]


#: The request, the status that the client got, how many seconds it took.
_Finished = tuple[RequestContext, int, float]


class RequestHistory(RequestListener):
    """The latest ``capacity`` requests; a ``RequestListener``.

    Requests that were refused by their heads are kept separately, at most ``turned_away`` of them:
    anybody can send them at any rate and with any id, and they must not evict other requests.
    Records are kept as they are and converted when they are read.
    """

    def __init__(self, capacity: int = 500, turned_away: int = 100) -> None:
        self._finished: deque[_Finished] = deque(maxlen=capacity)
        self._turned_away: deque[_Finished] = deque(maxlen=turned_away)

    def request_ended(self, context: RequestContext, status: int, seconds: float) -> None:
        """See :meth:`gemproxy.core.events.RequestListener.request_ended`."""
        kept = self._turned_away if context.turned_away else self._finished
        kept.append((context, status, seconds))

    def latest(self, limit: int = 100) -> list[RequestRecord]:
        """At most ``limit`` requests, newest first, at most a fifth refused by their heads."""
        served = list(islice(reversed(self._finished), limit))
        refused = list(islice(reversed(self._turned_away), limit // 5))
        every = sorted(served + refused, key=_end, reverse=True)[:limit] if refused else served
        return [_record(*finished) for finished in every]

    def find(self, request_id: str) -> RequestExplanation | None:
        """The newest request with this id, since clients may use one twice.

        A request that was refused by its head is returned only if there is no other.
        """
        for context, status, seconds in chain(
            reversed(self._finished), reversed(self._turned_away)
        ):
            if context.id == request_id:
                return RequestExplanation(
                    _record(context, status, seconds), tuple(_attempts(context))
                )
        return None


def _end(finished: _Finished) -> float:
    context, _, seconds = finished
    return context.started + seconds


def _record(context: RequestContext, status: int, seconds: float) -> RequestRecord:
    first_byte, usage = context.first_byte, context.usage
    return RequestRecord(
        id=context.id,
        time=datetime.fromtimestamp(context.started_at, UTC),
        route=context.route,
        model=context.model,
        stream=context.stream,
        status=status,
        outcome=context.outcome,
        key=context.key_name,
        attempts=len(context.attempts),
        duration_ms=_ms(seconds),
        first_byte_ms=None if first_byte is None else _ms(first_byte - context.started),
        prompt_tokens=usage.input if usage else None,
        completion_tokens=usage.output if usage else None,
        retries=len(context.retried),
    )


def _attempts(context: RequestContext) -> Iterator[AttemptExplanation]:
    resource = None if context.affinity is None else context.affinity.resource
    for attempt in context.attempts:
        yield _attempt(attempt, resource)
    if context.refused is not None:
        yield _refusal(context.refused)


def _attempt(attempt: Attempt, resource: str | None) -> AttemptExplanation:
    outcome = attempt.outcome
    return AttemptExplanation(
        key=attempt.key_name,
        outcome=outcome.verdict.value,
        status=outcome.status,
        charged_to=attempt.charge,
        duration_ms=_ms(attempt.seconds),
        passed_over=tuple(attempt.skipped_keys),
        reason=outcome.reason or None,
        google_status=outcome.google_status or None,
        google_reason=outcome.google_reason or None,
        quota_id=outcome.quota_id or None,
        message=first_sentence(outcome.message) or None,
        chosen_for=resource or ("conversation" if attempt.sticky else UNSET),
    )


def _refusal(refused: Refusal) -> AttemptExplanation:
    return AttemptExplanation(
        key=None,
        outcome=refused.outcome,
        status=None,
        charged_to=Charge.NOBODY,
        duration_ms=0.0,
        passed_over=tuple(refused.skipped_keys),
    )


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 1)
