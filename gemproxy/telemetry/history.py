"""Keep the latest requests and their decisions in memory, for ``explain`` and the dashboard."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import chain, islice
from operator import attrgetter
from typing import NamedTuple

from msgspec import UNSET, Struct, UnsetType, field

from gemproxy.core.context import Attempt, Refusal, RequestContext
from gemproxy.core.endpoint_names import endpoint_name
from gemproxy.core.events import RequestListener
from gemproxy.core.sentences import first_sentence
from gemproxy.pool.outcome import Charge
from gemproxy.pool.status import SkippedKey
from gemproxy.state.record_query import MICROSECONDS


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
    client: str | None = None
    #: Its short name (:mod:`gemproxy.core.endpoint_names`).
    endpoint: str = ""
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None
    #: An estimate; ``None`` if a price is unknown.
    cost_usd: float | None = 0.0
    #: How long it waited for a key.
    queue_ms: float = 0.0


class AttemptExplanation(Struct, frozen=True):
    """One attempt; if ``key`` is ``None``, no key was eligible for another one.

    ``status`` is the upstream's. ``reason`` is this program's word for the failure; the next three
    are Google's. ``message`` is Google's first sentence, or why there was no answer. Each is
    ``None`` if absent. ``passed_over`` are the skipped keys, at most 20, and of older requests the
    first three; ``passed_over_counts`` counts them by reason.
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
    passed_over_counts: dict[str, int] = field(default_factory=dict)
    #: Why the key was chosen out of turn: ``conversation``, or the resource that only keys of its
    #: project can read. Omitted if it was in turn.
    chosen_for: str | UnsetType = UNSET


class RequestExplanation(Struct, frozen=True):
    """One request (schema ``RequestExplanation``) with its decisions, in the order of time."""

    request: RequestRecord
    attempts: tuple[AttemptExplanation, ...]


class Finished(NamedTuple):
    """A request that has ended; ``number`` is unique, and the time in microseconds."""

    number: int
    context: RequestContext
    status: int
    seconds: float

    def record(self) -> RequestRecord:
        """The record of the request."""
        return _record(self.context, self.status, self.seconds)

    def explanation(self) -> RequestExplanation:
        """The record with the decisions."""
        return RequestExplanation(self.record(), tuple(_attempts(self.context)))


class RequestHistory(RequestListener):
    """The latest ``capacity`` requests; a ``RequestListener``.

    Requests that were refused by their heads are kept separately, at most ``turned_away`` of them:
    anybody can send them at any rate and with any id, and they must not evict other requests.
    Records are kept as they are and converted when they are read. ``keep`` gets each request.
    """

    def __init__(
        self,
        capacity: int = 500,
        turned_away: int = 100,
        keep: Callable[[Finished], None] | None = None,
    ) -> None:
        self._finished: deque[Finished] = deque(maxlen=capacity)
        self._turned_away: deque[Finished] = deque(maxlen=turned_away)
        self._keep = keep
        self._number = 0

    def request_ended(self, context: RequestContext, status: int, seconds: float) -> None:
        """See :meth:`gemproxy.core.events.RequestListener.request_ended`."""
        number = int((context.started + context.epoch_offset + seconds) * MICROSECONDS)
        # Also if the clock was set back by a little; by more, another number is hardly the same.
        if self._number - MICROSECONDS < number <= self._number:
            number = self._number + 1
        self._number = number
        # Without the Python code of a named tuple: every request passes this.
        finished = tuple.__new__(Finished, (number, context, status, seconds))
        kept = self._turned_away if context.turned_away else self._finished
        kept.append(finished)
        if self._keep is not None:
            self._keep(finished)

    @property
    def first_number(self) -> int | None:
        """The number of the oldest request here that was not refused by its head."""
        return self._finished[0].number if self._finished else None

    def latest(
        self, limit: int = 100, admits: Callable[[Finished], bool] | None = None
    ) -> list[Finished]:
        """At most ``limit`` requests, newest first.

        Without ``admits``, at most a fifth of them were refused by their heads.
        """
        served = list(islice(filter(admits, reversed(self._finished)), limit))
        most = limit // 5 if admits is None else limit
        refused = list(islice(filter(admits, reversed(self._turned_away)), most))
        if not refused:
            return served
        return sorted(served + refused, key=_number, reverse=True)[:limit]

    def find(self, request_id: str) -> Finished | None:
        """The newest request with this id, since clients may use one twice.

        A request that was refused by its head is returned only if there is no other.
        """
        for finished in chain(reversed(self._finished), reversed(self._turned_away)):
            if finished.context.id == request_id:
                return finished
        return None


_number = attrgetter("number")


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
        client=context.client,
        endpoint=endpoint_name(context.route),
        cached_tokens=usage.cached if usage else None,
        reasoning_tokens=usage.reasoning if usage else None,
        cost_usd=None if context.cost is None else round(context.cost, 9),
        queue_ms=_ms(context.queued),
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
        passed_over_counts=_counts(attempt.skipped_keys),
    )


def _refusal(refused: Refusal) -> AttemptExplanation:
    return AttemptExplanation(
        key=None,
        outcome=refused.outcome,
        status=None,
        charged_to=Charge.NOBODY,
        duration_ms=0.0,
        passed_over=tuple(refused.skipped_keys),
        passed_over_counts=_counts(refused.skipped_keys),
    )


def _counts(skipped_keys: Sequence[SkippedKey]) -> dict[str, int]:
    return dict(Counter(skipped.reason.value for skipped in skipped_keys)) if skipped_keys else {}


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 1)
