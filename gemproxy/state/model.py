"""The state that survives a restart, as values.

A :class:`State` holds the whole pool, all signatures and the stored answers. Of metrics, usage and
audit events it holds the latest rows, which a store adds to its own. A row holds absolute counts
and not differences, so writing it twice does no harm.

A row that has not changed is the same object in the next :class:`State`, so a store finds changes
by identity. Times are epoch seconds.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import NamedTuple

from msgspec import Struct

from gemproxy.core.audit import AuditEvent
from gemproxy.core.client_registry import ClientRow
from gemproxy.core.limits import LimitCount
from gemproxy.core.stored_answers import AnswerRow
from gemproxy.pool.resources import Resource
from gemproxy.pool.snapshot import PoolSnapshot
from gemproxy.translate.shared.signatures import RememberedCall

#: Latest audit events that are kept in memory.
MAX_EVENTS = 1_000


class Period(NamedTuple):
    """The seconds that a row of metrics covers, and how long it stays in memory."""

    seconds: int
    remembered: int


MINUTE = Period(60, 62 * 60)
HOUR = Period(3600, 25 * 3600)
#: In memory: the last hour by minute, the last day by hour.
PERIODS = (MINUTE, HOUR)


class Series(NamedTuple):
    """The labels that the requests of one row share; ``""`` without a model or key."""

    route: str
    model: str
    #: ``2xx`` … ``5xx``.
    status_class: str
    #: The name of the key that was tried last.
    key: str


@dataclass(frozen=True, slots=True)
class MetricsRow:
    """Counts of the requests of one series that ended in one minute or hour.

    Requests per second are ``requests / period``, the error share is ``failures / requests``, the
    mean time to the first chunk of a stream is ``first_chunk_seconds / first_chunks``.
    """

    #: Seconds that the row covers, from its ``start``: 60 or 3600.
    period: int
    start: int
    route: str
    model: str
    status_class: str
    key: str
    requests: int = 0
    #: Failures that are not the client's fault: 429 but for its own limits, 5xx, a broken stream.
    failures: int = 0
    #: Attempts beyond the first.
    retries: int = 0
    prompt_tokens: int = 0
    #: Prompt tokens from a cache; a part of the prompt tokens.
    cached_tokens: int = 0
    completion_tokens: int = 0
    #: Tokens for thinking; a part of the completion tokens.
    reasoning_tokens: int = 0
    #: Sum of the durations of the requests.
    seconds: float = 0.0
    #: Streams with a first chunk, and the sum of the times to it.
    first_chunks: int = 0
    first_chunk_seconds: float = 0.0

    @property
    def series(self) -> Series:
        """The series of the row."""
        return Series(self.route, self.model, self.status_class, self.key)

    @property
    def identity(self) -> tuple[int, int, Series]:
        """Unique among the rows of a store."""
        return self.period, self.start, self.series


#: Seconds that a row of usage covers.
USAGE_HOUR = 3600
USAGE_DAY = 86400
#: How long rows of usage stay in memory, by what they cover.
USAGE_REMEMBERED = {USAGE_HOUR: 3 * USAGE_HOUR, USAGE_DAY: 3 * USAGE_DAY}


class UsageSeries(NamedTuple):
    """The dimensions that the requests of one row of usage share; ``""`` without a value."""

    client: str
    endpoint: str
    model: str
    project: str


class UsageRow(Struct, frozen=True, gc=False):
    """What the requests of one series used in an hour, or on a calendar day.

    The garbage collector does not visit it: an answer may need 50,000 of them.

    ``start`` of an hour is its epoch time. ``start`` of a day is that of the day's date in UTC,
    whatever the time zone in which the day was counted, so that it remains the same date.
    """

    #: ``USAGE_HOUR`` or ``USAGE_DAY``.
    period: int
    start: int
    client: str
    endpoint: str
    model: str
    project: str
    requests: int = 0
    #: Failures by whose they are: the client's, this program's or its operator's, the upstream's.
    theirs: int = 0
    ours: int = 0
    upstream: int = 0
    #: Includes ``cached``; ``output`` includes ``reasoning``.
    input: int = 0
    cached: int = 0
    output: int = 0
    reasoning: int = 0
    input_text: int = 0
    input_audio: int = 0
    input_image: int = 0
    input_video: int = 0
    input_document: int = 0
    output_audio: int = 0
    output_image: int = 0
    searches: int = 0
    images: int = 0
    #: US dollars, of the requests whose price is known.
    cost: float = 0.0
    #: Requests whose price is not known.
    unpriced: int = 0

    @property
    def series(self) -> UsageSeries:
        """The series of the row."""
        return UsageSeries(self.client, self.endpoint, self.model, self.project)

    @property
    def identity(self) -> tuple[int, int, UsageSeries]:
        """Unique among the rows of a store."""
        return self.period, self.start, self.series


@dataclass(frozen=True, slots=True)
class State:
    """The state at ``pool.taken_at``."""

    pool: PoolSnapshot
    #: By the key of the call, which consists of its id and a digest, oldest first.
    signatures: Mapping[str, RememberedCall] = field(default_factory=dict)
    metrics: tuple[MetricsRow, ...] = ()
    events: tuple[AuditEvent, ...] = ()
    resources: tuple[Resource, ...] = ()
    usage: tuple[UsageRow, ...] = ()
    #: Those of the requests that ended since the state before.
    records: tuple[RecordRow, ...] = ()
    #: Answers that clients may name, oldest first, and the texts of their histories by digest.
    answers: tuple[AnswerRow, ...] = ()
    answer_texts: Mapping[str, bytes] = field(default_factory=dict)
    #: What clients have used of their own limits.
    client_limits: tuple[LimitCount, ...] = ()
    #: Clients that were made at run time, deleted ones included.
    clients: tuple[ClientRow, ...] = ()
    client_seen: tuple[SeenRow, ...] = ()

    @property
    def taken_at(self) -> float:
        """When the state was taken."""
        return self.pool.taken_at


@dataclass(frozen=True, slots=True)
class RecordRow:
    """A finished request. ``data`` is the rest of it, as :mod:`gemproxy.telemetry.records` has it.

    ``key`` is the name of the last attempt's key, and ``data`` has the others'
    (:func:`gemproxy.state.record_query.earlier_keys`); texts are empty without a value.
    """

    #: When it ended, in microseconds since the epoch; unique.
    number: int
    #: See :func:`gemproxy.state.record_query.digest_of`.
    digest: int
    client: str
    endpoint: str
    model: str
    key: str
    status: int
    outcome: str
    data: str


@dataclass(frozen=True, slots=True)
class SeenRow:
    """When a client has last sent a request, in epoch seconds."""

    client: str
    at: float


class CountedRows(NamedTuple):
    """The counts that ledgers keep in memory."""

    metrics: Sequence[MetricsRow] = ()
    usage: Sequence[UsageRow] = ()


#: The whole numbers of a row of usage, in its order.
USAGE_COUNTS = tuple(
    name for name in UsageRow.__struct_fields__[len(UsageSeries._fields) + 2 :] if name != "cost"
)
usage_counts = attrgetter(*USAGE_COUNTS)


def event_identity(event: AuditEvent) -> tuple[float, str, str, str, str]:
    """Unique among the events of a store."""
    return event.at, event.action, event.target, event.actor.address, event.actor.token


class AuditTrail:
    """The latest audit events, at most ``capacity``."""

    def __init__(self, capacity: int = MAX_EVENTS) -> None:
        self._events: deque[AuditEvent] = deque(maxlen=capacity)

    def keep(self, event: AuditEvent) -> None:
        """Add an event."""
        self._events.append(event)

    def restore(self, events: Iterable[AuditEvent]) -> None:
        """Insert stored events before the later ones."""
        merged = {event_identity(event): event for event in (*events, *self._events)}
        ordered = sorted(merged.values(), key=attrgetter("at"))
        self._events = deque(ordered, maxlen=self._events.maxlen)

    def events(self) -> tuple[AuditEvent, ...]:
        """Oldest first."""
        return tuple(self._events)
