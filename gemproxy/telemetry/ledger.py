"""Count finished requests in rows: of the last hour by minute, of the last day by hour.

The rows (:class:`gemproxy.state.model.MetricsRow`) draw the dashboard's curves and survive a
restart. Times are epoch seconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import fields
from operator import attrgetter
from typing import Final

from gemproxy.core.context import RequestContext
from gemproxy.state.model import MINUTE, PERIODS, MetricsRow, Period, Series
from gemproxy.telemetry.tallies import MOST_TOKENS, OK, Tally, TallyListener
from gemproxy.translate.shared.usage import TokenUsage

#: Label used once the limit of distinct names is reached.
OTHER = "other"
#: The number of models with their own label; a model gets it with its first success.
MAX_MODELS = 256

_SERVED = frozenset({"", "success", "blocked"})

#: The numbers of a row, in its order.
_NUMBERS: Final = tuple(each.name for each in fields(MetricsRow))[len(Series._fields) + 2 :]
_numbers_of: Final = attrgetter(*_NUMBERS)


class MetricsLedger(TallyListener):
    """Counts finished requests into rows; a ``TallyListener``.

    At most ``max_series`` series are distinguished in one minute or hour. Further ones are counted
    under the key ``other``, then under the model ``other``. So neither ten thousand keys nor
    invented model names fill memory or disk.
    """

    def __init__(self, max_series: int = 512) -> None:
        self._max_series = max_series
        self._models: set[str] = set()
        self._spans: dict[Period, dict[int, _Bucket]] = {period: {} for period in PERIODS}
        self._present = _NO_TIME
        #: Minutes and hours whose rows were complete when they were last read.
        self._whole: dict[Period, frozenset[int]] = {period: frozenset() for period in PERIODS}

    def request_ended(self, context: RequestContext, status: int, seconds: float) -> None:
        """Count the request in the minute and hour of its end."""
        now = context.started + context.epoch_offset + seconds
        present = self._present
        if not present.begin <= now < present.end:
            present = self._present_at(now)
        key = context.attempts[-1].key_name if context.attempts else ""
        # A cached bucket exists only under the name that the model is counted under.
        counts = present.counts.get((context.route, context.model, status, key))
        if counts is None:
            model = self._model(context, status)
            counts = present.counts_of((context.route, model, status, key))
        counts.count(context, status, seconds)

    def requests_ended(self, tally: Tally) -> None:
        """See :meth:`gemproxy.telemetry.tallies.TallyListener.requests_ended`."""
        present = self._present
        if not present.begin <= tally.ended < present.end:
            present = self._present_at(tally.ended)
        if tally.model:
            self._know(tally.model)
        model = self._name_of(tally.model)
        present.counts_of((tally.route, model, OK, tally.key_name)).add_tally(tally)

    def rows(self) -> tuple[MetricsRow, ...]:
        """All rows in memory, by period and time; unchanged ones are the same objects again."""
        return tuple(row for period in PERIODS for row in self.rows_of(period))

    def rows_of(self, period: Period) -> tuple[MetricsRow, ...]:
        """The rows of one period, oldest first, the unfinished last one included.

        Includes rows that :meth:`forget` will drop: they may not be stored yet.
        """
        self.settle()
        self._present.flush()
        spans = sorted(self._spans[period].items())
        return tuple(row for _, span in spans for row in span.rows())

    def forget(self, now: float) -> None:
        """Drop old rows after they were read for storing.

        If the clock was set back, later rows are kept for some time: their counts continue when the
        clock reaches them again.
        """
        self.settle()
        for period in PERIODS:
            self._forget(period, now)
        self._now_whole()

    def recall(self, rows: Iterable[MetricsRow], now: float) -> None:
        """The clock was set to ``now``: continue the forgotten counts of that time from ``rows``.

        They come from the store. Otherwise newer, smaller counts would overwrite them there.
        """
        whole = {period.seconds: starts for period, starts in self._whole.items()}
        self.restore((row for row in rows if row.start not in whole.get(row.period, ())), now)

    def restore(self, rows: Iterable[MetricsRow], now: float) -> None:
        """Take back what :meth:`rows` gave; counts of the same minute or hour are added up."""
        self.settle()
        periods = {period.seconds: period for period in PERIODS}
        for row in rows:
            period = periods.get(row.period)
            if period is not None and _is_remembered(period, row.start, now):
                span = self._spans[period].get(row.start) or self._begin(period, row.start)
                span.tally(row.series).add(row)
                self._know(row.model)
        self._now_whole()

    def _now_whole(self) -> None:
        self._whole = {period: frozenset(spans) for period, spans in self._spans.items()}

    def _model(self, context: RequestContext, status: int) -> str:
        """The name under which the request's model is counted."""
        model = context.model
        if model and status < 400 and context.attempts:
            self._know(model)
        return self._name_of(model)

    def _name_of(self, model: str | None) -> str:
        if not model:
            return ""
        return model if model in self._models else OTHER

    def _know(self, model: str) -> None:
        if len(self._models) < MAX_MODELS:
            self._models.add(model)

    def _present_at(self, now: float) -> _CurrentBucket:
        self._present.flush()
        minute = int(now // MINUTE.seconds) * MINUTE.seconds
        spans = [self._span(period, now) for period in PERIODS]
        self._present = _CurrentBucket(minute, minute + MINUTE.seconds, spans)
        return self._present

    def _span(self, period: Period, now: float) -> _Bucket:
        start = int(now // period.seconds) * period.seconds
        span = self._spans[period].get(start)
        if span is None:
            if len(self._spans[period]) >= _MOST_SPANS:
                self._forget(period, now)
            span = self._begin(period, start)
        return span

    def _begin(self, period: Period, start: int) -> _Bucket:
        span = self._spans[period][start] = _Bucket(period.seconds, start, self._max_series)
        return span

    def _forget(self, period: Period, now: float) -> None:
        self._present.flush()
        spans = self._spans[period]
        old = [start for start in spans if not _is_remembered(period, start, now)]
        for start in old:
            del spans[start]
        if old:
            self._present = _NO_TIME


class _CurrentBucket:
    """Counts from ``begin`` to ``end``, before they are added to the ``spans`` of that time.

    A request needs one lookup and is counted once. The counts are flushed into each span when they
    are read or when the time is over. A span may count a series under a wider one; that does not
    change within the span.
    """

    def __init__(self, begin: float, end: float, spans: Sequence[_Bucket]) -> None:
        self.begin = begin
        self.end = end
        self.counts: dict[_Kind, Counts] = {}
        self._spans = spans
        self._tallies: dict[_Kind, list[_Counter]] = {}

    def counts_of(self, kind: _Kind) -> Counts:
        """The counter of such requests until the next flush."""
        found = self.counts.get(kind)
        if found is None:
            if len(self.counts) >= _MOST_REMEMBERED:
                self.flush()
            route, model, status, key = kind
            series = Series(route, model or "", f"{status // 100}xx", key)
            self._tallies[kind] = [span.tally(series) for span in self._spans]
            found = self.counts[kind] = Counts()
        return found

    def flush(self) -> None:
        """Add the counts to the rows of each span."""
        for kind, counts in self.counts.items():
            for tally in self._tallies[kind]:
                tally.add(counts)
        self.counts.clear()
        self._tallies.clear()


#: Route, model, status and key of a request.
_Kind = tuple[str, str | None, int, str]

_NO_TIME: Final = _CurrentBucket(0.0, 0.0, ())
#: Spans of one period; more than twice as many as are kept. More occur only if nobody reads the
#: rows while the clock runs on, or if it is set again and again.
_MOST_SPANS: Final = 160
#: Flushed in a millisecond; only many hundred keys need more.
_MOST_REMEMBERED: Final = 1024


class _Bucket:
    """The series of one minute or hour."""

    def __init__(self, period: int, start: int, max_series: int) -> None:
        self._period = period
        self._start = start
        self._max_series = max_series
        self._tallies: dict[Series, _Counter] = {}
        self._all: tuple[MetricsRow, ...] | None = None

    def tally(self, series: Series) -> _Counter:
        """The counter of ``series``, which is about to change."""
        self._all = None
        present = self._tallies.get(series)
        if present is None:
            series = self._admitted(series)
            present = self._tallies.get(series)
        if present is None:
            present = self._tallies[series] = _Counter(self._period, self._start, series)
        return present

    def rows(self) -> tuple[MetricsRow, ...]:
        """The row of every series, in the order in which they came."""
        if self._all is None:
            self._all = tuple(tally.row() for tally in self._tallies.values())
        return self._all

    def _admitted(self, series: Series) -> Series:
        """``series``, or the wider one that counts it once there are too many."""
        for wider in (series, series._replace(key=OTHER)):
            if wider in self._tallies or len(self._tallies) < self._max_series:
                return wider
        return series._replace(key=OTHER, model=OTHER)


class Counts:
    """The numbers of a :class:`MetricsRow` while they are being counted."""

    __slots__ = _NUMBERS

    def __init__(self) -> None:
        self.requests = self.failures = self.retries = 0
        self.prompt_tokens = self.cached_tokens = 0
        self.completion_tokens = self.reasoning_tokens = 0
        self.seconds = self.first_chunk_seconds = 0.0
        self.first_chunks = 0

    def count(self, context: RequestContext, status: int, seconds: float) -> None:
        """Count one request."""
        self.requests += 1
        self.seconds += seconds
        if status >= 400 or context.outcome not in _SERVED:
            self.failures += _is_failure(context, status)
        if len(context.attempts) > 1:
            self.retries += len(context.retried)
        usage = context.usage
        if usage is not None:
            if (
                usage.input > MOST_TOKENS
                or usage.cached > MOST_TOKENS
                or usage.output > MOST_TOKENS
                or usage.reasoning > MOST_TOKENS
            ):
                usage = _believable(usage)
            self.prompt_tokens += usage.input
            self.cached_tokens += usage.cached
            self.completion_tokens += usage.output
            self.reasoning_tokens += usage.reasoning
        if context.stream and context.first_byte is not None:
            self.first_chunks += 1
            self.first_chunk_seconds += context.first_byte - context.started

    def add_tally(self, tally: Tally) -> None:
        """Count the requests of ``tally``."""
        self.requests += tally.requests
        self.seconds += tally.seconds
        self.prompt_tokens += tally.input
        self.cached_tokens += tally.cached
        self.completion_tokens += tally.output
        self.reasoning_tokens += tally.reasoning

    def add(self, more: Counts | MetricsRow) -> None:
        """Add the counts of ``more``."""
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


class _Counter(Counts):
    """The numbers of one row."""

    __slots__ = ("_period", "_row", "_series", "_start")

    def __init__(self, period: int, start: int, series: Series) -> None:
        super().__init__()
        self._period = period
        self._start = start
        self._series = series
        self._row: MetricsRow | None = None

    def add(self, more: Counts | MetricsRow) -> None:
        """Add the counts of ``more``."""
        self._row = None
        super().add(more)

    def row(self) -> MetricsRow:
        """The row; the same object until something is added."""
        if self._row is None:
            self._row = MetricsRow(self._period, self._start, *self._series, *_numbers_of(self))
        return self._row


def _is_remembered(period: Period, start: int, now: float) -> bool:
    return now - period.remembered < start <= now + period.remembered


def _is_failure(context: RequestContext, status: int) -> bool:
    if status < 400:
        return context.outcome not in _SERVED
    return (status == 429 and not context.over_limit) or status >= 500


def _believable(usage: TokenUsage) -> TokenUsage:
    return TokenUsage(
        input=min(usage.input, MOST_TOKENS),
        cached=min(usage.cached, MOST_TOKENS),
        output=min(usage.output, MOST_TOKENS),
        reasoning=min(usage.reasoning, MOST_TOKENS),
    )
