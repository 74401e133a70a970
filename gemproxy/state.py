"""The state that survives a restart, as values; and what counts requests on their way into it.

A :class:`State` is whole as far as the pool and the signatures go. Of metrics and audit events it
holds the latest, which are added to what a store has already; a row is absolute and not a
difference, so writing it twice does no harm.

Whatever has not changed since the last :class:`State` is the very same object in the next one, so
that a store can tell by identity what it has to write. Times are epoch seconds.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from operator import attrgetter
from typing import Final, NamedTuple

from gemproxy.audit import AuditEvent
from gemproxy.dialects.translation.signatures import RememberedCall
from gemproxy.dialects.translation.usage import TokenUsage
from gemproxy.exchange import Exchange
from gemproxy.keys.snapshot import PoolSnapshot

#: Stands for what would be one name too many.
OTHER = "other"
#: A model's own name is counted once the model has served somebody, for so many models.
MAX_MODELS = 256
#: Audit events that are kept in memory, the latest.
MAX_EVENTS = 1_000

_SERVED = frozenset({"", "success", "blocked"})
#: Of one request, whatever an upstream may say; the sums fit the 64 bits of a column.
_MOST_TOKENS = 10**12


class Period(NamedTuple):
    """How long a row of metrics counts, and how long it stays in memory, both in seconds."""

    seconds: int
    remembered: int


MINUTE = Period(60, 62 * 60)
HOUR = Period(3600, 25 * 3600)
#: The memory holds the curves of the last hour by minutes and of the last day by hours.
PERIODS = (MINUTE, HOUR)


class Series(NamedTuple):
    """What the requests of one row have in common; ``""`` where there was no model or no key."""

    route: str
    model: str
    #: ``2xx`` … ``5xx``.
    status_class: str
    #: The name of the key that was tried last.
    key: str


@dataclass(frozen=True, slots=True)
class MetricsRow:
    """What the requests of one series came to that ended in one minute or hour.

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
    #: What a client would call a failure that is not its own: 429, 5xx, a stream that broke off.
    failures: int = 0
    #: Attempts beyond the first.
    retries: int = 0
    prompt_tokens: int = 0
    #: The part of the prompt's that came from a cache.
    cached_tokens: int = 0
    completion_tokens: int = 0
    #: The part of the completion's that was thinking.
    reasoning_tokens: int = 0
    #: The requests' whole durations, added up.
    seconds: float = 0.0
    #: Streams whose first chunk came, and how long that took from the request's start, added up.
    first_chunks: int = 0
    first_chunk_seconds: float = 0.0

    @property
    def series(self) -> Series:
        """Whose row it is."""
        return Series(self.route, self.model, self.status_class, self.key)

    @property
    def identity(self) -> tuple[int, int, Series]:
        """What no two rows of a store have in common."""
        return self.period, self.start, self.series


#: The numbers of a row, in its order.
_NUMBERS: Final = tuple(each.name for each in fields(MetricsRow))[len(Series._fields) + 2 :]
_numbers_of: Final = attrgetter(*_NUMBERS)


@dataclass(frozen=True, slots=True)
class State:
    """Everything that survives, as it was at ``pool.taken_at``."""

    pool: PoolSnapshot
    #: By the id of the call, oldest first.
    signatures: Mapping[str, RememberedCall] = field(default_factory=dict)
    metrics: tuple[MetricsRow, ...] = ()
    events: tuple[AuditEvent, ...] = ()

    @property
    def taken_at(self) -> float:
        """When it was so."""
        return self.pool.taken_at

    def merged_with(self, newer: State) -> State:
        """What a store holds that held this and is given ``newer``."""
        return State(
            _merge_pools(self.pool, newer.pool),
            newer.signatures,
            merge_rows(self.metrics, newer.metrics),
            _merge_events(self.events, newer.events),
        )


def merge_rows(older: Iterable[MetricsRow], newer: Iterable[MetricsRow]) -> tuple[MetricsRow, ...]:
    """The rows of both; of a row that is in both the newer one."""
    merged = {row.identity: row for row in older}
    merged.update((row.identity, row) for row in newer)
    return tuple(merged.values())


def _merge_pools(older: PoolSnapshot, newer: PoolSnapshot) -> PoolSnapshot:
    """Keys and the operator's words on them stay, also of keys that have left the file."""
    keys = {kept.id: kept for kept in older.keys} | {kept.id: kept for kept in newer.keys}
    overrides = dict(older.overrides) | dict(newer.overrides)
    return replace(newer, keys=tuple(keys.values()), overrides=tuple(overrides.items()))


def _merge_events(
    older: Iterable[AuditEvent], newer: Iterable[AuditEvent]
) -> tuple[AuditEvent, ...]:
    merged = {event_identity(event): event for event in older}
    merged.update((event_identity(event), event) for event in newer)
    return tuple(sorted(merged.values(), key=attrgetter("at")))


def event_identity(event: AuditEvent) -> tuple[float, str, str, str, str]:
    """What no two events of a store have in common."""
    return event.at, event.action, event.target, event.actor.address, event.actor.token


class AuditTrail:
    """The latest audit events, at most ``capacity``."""

    def __init__(self, capacity: int = MAX_EVENTS) -> None:
        self._events: deque[AuditEvent] = deque(maxlen=capacity)

    def keep(self, event: AuditEvent) -> None:
        """Take the latest event."""
        self._events.append(event)

    def restore(self, events: Iterable[AuditEvent]) -> None:
        """Take back what :meth:`events` gave, before whatever has come since."""
        self._events = deque(_merge_events(events, self._events), maxlen=self._events.maxlen)

    def events(self) -> tuple[AuditEvent, ...]:
        """Oldest first."""
        return tuple(self._events)


class MetricsLedger:
    """Counts finished requests into rows; a ``Telemetry``.

    At most ``max_series`` series are told apart in one minute or hour. What comes beyond is counted
    under the key ``other``, then under the model ``other``, so that neither ten thousand keys nor
    clients who invent models fill memory or disk.
    """

    def __init__(self, max_series: int = 512) -> None:
        self._max_series = max_series
        self._models: set[str] = set()
        self._spans: dict[Period, dict[int, _Span]] = {period: {} for period in PERIODS}
        self._present = _NO_TIME

    def request_finished(self, exchange: Exchange, status: int, seconds: float) -> None:
        """See :class:`gemproxy.interfaces.Telemetry`. Counts where the request ended."""
        now = exchange.started + seconds
        present = self._present
        if not present.begin <= now < present.end:
            present = self._present_at(now)
        key = exchange.attempts[-1].key_name if exchange.attempts else ""
        # By the model's own name there are only counts where that is the name it is counted under.
        counts = present.counts.get((exchange.route, exchange.model, status, key))
        if counts is None:
            model = self._model(exchange, status)
            counts = present.counts_of((exchange.route, model, status, key))
        counts.count(exchange, status, seconds)

    def rows(self, now: float) -> tuple[MetricsRow, ...]:
        """All rows in memory, by period and time; unchanged ones are the same objects again."""
        return tuple(row for period in PERIODS for row in self.rows_of(period, now))

    def rows_of(self, period: Period, now: float) -> tuple[MetricsRow, ...]:
        """The rows of one period, oldest first, the unfinished last one included."""
        self._present.pour()
        self._forget(period, now)
        spans = sorted(self._spans[period].items())
        return tuple(row for _, span in spans for row in span.rows())

    def restore(self, rows: Iterable[MetricsRow], now: float) -> None:
        """Take back what :meth:`rows` gave; counts of the same minute or hour are added up."""
        periods = {period.seconds: period for period in PERIODS}
        for row in rows:
            period = periods.get(row.period)
            if period is not None and _is_remembered(period, row.start, now):
                span = self._spans[period].get(row.start) or self._begin(period, row.start)
                span.tally(row.series).add(row)
                self._know(row.model)

    def _model(self, exchange: Exchange, status: int) -> str:
        """The name under which the request's model is counted."""
        model = exchange.model
        if model in self._models:
            return model
        if not model:
            return ""
        if status < 400 and exchange.attempts:
            self._know(model)
        return model if model in self._models else OTHER

    def _know(self, model: str) -> None:
        if len(self._models) < MAX_MODELS:
            self._models.add(model)

    def _present_at(self, now: float) -> _Present:
        self._present.pour()
        minute = int(now // MINUTE.seconds) * MINUTE.seconds
        spans = [self._span(period, now) for period in PERIODS]
        self._present = _Present(minute, minute + MINUTE.seconds, spans)
        return self._present

    def _span(self, period: Period, now: float) -> _Span:
        start = int(now // period.seconds) * period.seconds
        span = self._spans[period].get(start)
        if span is None:
            self._forget(period, now)
            span = self._begin(period, start)
        return span

    def _begin(self, period: Period, start: int) -> _Span:
        span = self._spans[period][start] = _Span(period.seconds, start, self._max_series)
        return span

    def _forget(self, period: Period, now: float) -> None:
        """Drop what is too old, and what a clock that was set back has left in the future."""
        spans = self._spans[period]
        old = [start for start in spans if not _is_remembered(period, start, now)]
        for start in old:
            del spans[start]
        if old:
            self._present = _NO_TIME


class _Present:
    """What is counted from ``begin`` to ``end``, on its way into the ``spans`` of that time.

    A request is found with one look and counted once. When somebody asks, or the time is over, the
    counts are poured into each span. A series may have been admitted there under a wider one, and
    stays there.
    """

    def __init__(self, begin: float, end: float, spans: Sequence[_Span]) -> None:
        self.begin = begin
        self.end = end
        self.counts: dict[_Kind, _Counts] = {}
        self._spans = spans
        self._tallies: dict[_Kind, list[_Tally]] = {}

    def counts_of(self, kind: _Kind) -> _Counts:
        """Where such requests are counted until they are poured."""
        found = self.counts.get(kind)
        if found is None:
            if len(self.counts) >= _MOST_REMEMBERED:
                self.pour()
            route, model, status, key = kind
            series = Series(route, model or "", f"{status // 100}xx", key)
            self._tallies[kind] = [span.tally(series) for span in self._spans]
            found = self.counts[kind] = _Counts()
        return found

    def pour(self) -> None:
        """Add what was counted to the rows of each span."""
        for kind, counts in self.counts.items():
            for tally in self._tallies[kind]:
                tally.add(counts)
        self.counts.clear()
        self._tallies.clear()


#: Route, model, status and key of a request.
_Kind = tuple[str, str | None, int, str]

_NO_TIME: Final = _Present(0.0, 0.0, ())
#: Poured in a millisecond; there are more than that only with many hundred keys.
_MOST_REMEMBERED: Final = 1024


class _Span:
    """The series of one minute or hour."""

    def __init__(self, period: int, start: int, max_series: int) -> None:
        self._period = period
        self._start = start
        self._max_series = max_series
        self._tallies: dict[Series, _Tally] = {}
        self._all: tuple[MetricsRow, ...] | None = None

    def tally(self, series: Series) -> _Tally:
        """Where ``series`` is counted; it is about to change."""
        self._all = None
        present = self._tallies.get(series)
        if present is None:
            series = self._admitted(series)
            present = self._tallies.get(series)
        if present is None:
            present = self._tallies[series] = _Tally(self._period, self._start, series)
        return present

    def rows(self) -> tuple[MetricsRow, ...]:
        """The row of every series, in the order in which they came."""
        if self._all is None:
            self._all = tuple(tally.row() for tally in self._tallies.values())
        return self._all

    def _admitted(self, series: Series) -> Series:
        """``series``, or the wider one in which it is counted because there are too many."""
        for wider in (series, series._replace(key=OTHER)):
            if wider in self._tallies or len(self._tallies) < self._max_series:
                return wider
        return series._replace(key=OTHER, model=OTHER)


class _Counts:
    """The numbers of a :class:`MetricsRow` while they are being counted."""

    __slots__ = _NUMBERS

    def __init__(self) -> None:
        self.requests = self.failures = self.retries = 0
        self.prompt_tokens = self.cached_tokens = 0
        self.completion_tokens = self.reasoning_tokens = 0
        self.seconds = self.first_chunk_seconds = 0.0
        self.first_chunks = 0

    def count(self, exchange: Exchange, status: int, seconds: float) -> None:
        """Count one request."""
        self.requests += 1
        self.seconds += seconds
        if status >= 400 or exchange.outcome not in _SERVED:
            self.failures += _is_failure(exchange, status)
        if len(exchange.attempts) > 1:
            self.retries += len(exchange.attempts) - 1
        usage = exchange.usage
        if usage is not None:
            if (
                usage.input > _MOST_TOKENS
                or usage.cached > _MOST_TOKENS
                or usage.output > _MOST_TOKENS
                or usage.reasoning > _MOST_TOKENS
            ):
                usage = _believable(usage)
            self.prompt_tokens += usage.input
            self.cached_tokens += usage.cached
            self.completion_tokens += usage.output
            self.reasoning_tokens += usage.reasoning
        if exchange.stream and exchange.first_byte is not None:
            self.first_chunks += 1
            self.first_chunk_seconds += exchange.first_byte - exchange.started

    def add(self, more: _Counts | MetricsRow) -> None:
        """Count what ``more`` counts."""
        self.requests += more.requests
        self.failures += more.failures
        self.retries += more.retries
        self.prompt_tokens += more.prompt_tokens
        self.cached_tokens += more.cached_tokens
        self.completion_tokens += more.completion_tokens
        self.reasoning_tokens += more.reasoning_tokens
        self.seconds += more.seconds
        self.first_chunks += more.first_chunks
        self.first_chunk_seconds += more.first_chunk_seconds


class _Tally(_Counts):
    """The numbers of one row."""

    __slots__ = ("_period", "_row", "_series", "_start")

    def __init__(self, period: int, start: int, series: Series) -> None:
        super().__init__()
        self._period = period
        self._start = start
        self._series = series
        self._row: MetricsRow | None = None

    def add(self, more: _Counts | MetricsRow) -> None:
        """Count what ``more`` counts."""
        self._row = None
        super().add(more)

    def row(self) -> MetricsRow:
        """What was counted; the same object while nothing has been added."""
        if self._row is None:
            self._row = MetricsRow(self._period, self._start, *self._series, *_numbers_of(self))
        return self._row


def _is_remembered(period: Period, start: int, now: float) -> bool:
    return now - period.remembered < start <= now


def _is_failure(exchange: Exchange, status: int) -> bool:
    if status < 400:
        return exchange.outcome not in _SERVED
    return status == 429 or status >= 500


def _believable(usage: TokenUsage) -> TokenUsage:
    return TokenUsage(
        input=min(usage.input, _MOST_TOKENS),
        cached=min(usage.cached, _MOST_TOKENS),
        output=min(usage.output, _MOST_TOKENS),
        reasoning=min(usage.reasoning, _MOST_TOKENS),
    )
