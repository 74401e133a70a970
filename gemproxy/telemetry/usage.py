"""Count what clients use: by client, endpoint, model and project, in hours and calendar days.

Theory of operation. A request is counted once, in a cell for its client, route, model and project.
The cells are added to the rows of the present hour and day when somebody reads them, when the hour
or the day is over, or when there are many. A row holds absolute counts
(:class:`gemproxy.state.model.UsageRow`), is written with each checkpoint, and continues after a
restart from what the store has. So a crash loses at most what was counted since the last
checkpoint, and nothing is counted twice.

The tokens of an attempt whose answer the client did not get are counted for the attempt's project,
because Google charges for them. The listener also prices the request: it sets the context's
``cost``, so it must be the first listener.

Days are those of the operator's time zone; hours are those of UTC. Times are epoch seconds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, date, timedelta, tzinfo
from itertools import islice
from operator import attrgetter
from typing import Final

from msgspec import Struct

from gemproxy.core.context import RequestContext
from gemproxy.core.endpoint_names import endpoint_name
from gemproxy.core.limits import ANONYMOUS
from gemproxy.core.local_days import LocalDays
from gemproxy.pool.outcome import Verdict
from gemproxy.pricing.prices import PriceList
from gemproxy.state.model import (
    MINUTE,
    USAGE_COUNTS,
    USAGE_DAY,
    USAGE_HOUR,
    USAGE_REMEMBERED,
    SeenRow,
    UsageRow,
    UsageSeries,
)
from gemproxy.telemetry.tallies import MOST_TOKENS, Tally, TallyListener
from gemproxy.translate.shared.usage import TokenUsage

#: Label used once the limit of distinct names is reached.
OTHER: Final = "other"
#: The route of a client's question about its own usage, which is not counted.
MY_USAGE: Final = "/v1/usage/me"
#: Models with a label of their own; a model gets it with its first success.
MAX_MODELS: Final = 256
#: Models without a price that are named to the operator.
MAX_UNPRICED: Final = 20

#: Flushed in three milliseconds.
_MOST_CELLS: Final = 1024
#: Rows that are built in one step of :meth:`UsageLedger.prepare`.
_ROWS_AT_ONCE: Final = 200
_SUCCESS: Final = Verdict.SUCCESS.value
_CLIENT_GONE: Final = 499

_UPSTREAMS: Final = frozenset(
    verdict.value
    for verdict in (
        Verdict.QUOTA_MINUTE,
        Verdict.QUOTA_DAY,
        Verdict.KEY,
        Verdict.MODEL_DENIED,
        Verdict.FORBIDDEN,
        Verdict.SERVICE,
        Verdict.NETWORK,
        Verdict.BROKEN_OFF,
        Verdict.UNUSABLE,
    )
) | {"model_unavailable", "upstream_error", "upstream_timeout", "stream_incomplete"}
#: Words of the pool's errors if every key is out of quota.
_QUOTA_REFUSALS: Final = frozenset({"rate_limit_exceeded", "insufficient_quota"})
_OURS: Final = frozenset(
    {
        Verdict.REGION.value,
        Verdict.HOST.value,
        "rate_limit_exceeded",
        "no_healthy_keys",
        "overloaded",
        "draining",
        "internal_error",
        "configuration_invalid",
    }
)
_NO_FAILURE: Final = frozenset({"", _SUCCESS, Verdict.BLOCKED.value, Verdict.CLIENT_GONE.value})


def whose_failure(context: RequestContext, status: int) -> str:
    """``theirs``, ``ours`` or ``upstream``; ``""`` for an answer, or if the client left."""
    outcome = context.outcome
    if context.over_limit:
        return "theirs"
    if status == _CLIENT_GONE or (status < 400 and outcome in _NO_FAILURE):
        return ""
    if outcome in _UPSTREAMS or (context.refused is not None and outcome in _QUOTA_REFUSALS):
        return "upstream"
    if outcome in _OURS or status >= 500:
        return "ours"
    return "theirs"


class UsageCounts(Struct, gc=False):
    """The numbers of a :class:`UsageRow` while they are being counted."""

    requests: int = 0
    theirs: int = 0
    ours: int = 0
    upstream: int = 0
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
    cost: float = 0.0
    unpriced: int = 0

    def add_usage(self, usage: TokenUsage) -> None:
        """Add the tokens of an answer."""
        self.input += usage.input
        self.output += usage.output
        self.input_text += usage.input_text
        # Most answers have none of these.
        if usage.cached:
            self.cached += usage.cached
        if usage.reasoning:
            self.reasoning += usage.reasoning
        if (
            usage.input_audio
            or usage.input_image
            or usage.input_video
            or usage.input_document
            or usage.output_audio
            or usage.output_image
            or usage.searches
            or usage.images
        ):
            self.input_audio += usage.input_audio
            self.input_image += usage.input_image
            self.input_video += usage.input_video
            self.input_document += usage.input_document
            self.output_audio += usage.output_audio
            self.output_image += usage.output_image
            self.searches += usage.searches
            self.images += usage.images

    def add(self, more: UsageCounts | UsageRow) -> None:
        """Add the counts of ``more``."""
        for name in _NUMBERS:
            setattr(self, name, getattr(self, name) + getattr(more, name))


_NUMBERS: Final = (*USAGE_COUNTS, "cost")
_numbers_of: Final = attrgetter(*UsageCounts.__struct_fields__)


class _Span:
    """The series of one hour or day."""

    def __init__(self, period: int, start: int, max_series: int) -> None:
        self._period = period
        self._start = start
        self._max_series = max_series
        self._counts: dict[UsageSeries, UsageCounts] = {}
        #: The rows of series that have not changed since they were built.
        self._rows: dict[UsageSeries, UsageRow] = {}

    def add(self, series: UsageSeries, counts: UsageCounts | UsageRow) -> None:
        """Add ``counts`` to ``series``, or to a wider one once there are too many."""
        series = self._admitted(series)
        present = self._counts.get(series)
        if present is None:
            present = self._counts[series] = UsageCounts()
        present.add(counts)
        self._rows.pop(series, None)

    def changed(self) -> Iterator[UsageSeries]:
        """The series whose row has to be built."""
        return (series for series in list(self._counts) if series not in self._rows)

    def build(self, series: UsageSeries) -> None:
        """Build the row of ``series``."""
        numbers = _numbers_of(self._counts[series])
        self._rows[series] = UsageRow(self._period, self._start, *series, *numbers)

    def rows(self) -> Iterator[UsageRow]:
        """The row of every series; the same objects until something is added."""
        for series in self.changed():
            self.build(series)
        return iter(self._rows.values())

    def _admitted(self, series: UsageSeries) -> UsageSeries:
        for wider in (
            series,
            series._replace(project=OTHER),
            series._replace(project=OTHER, model=OTHER),
        ):
            if wider in self._counts or len(self._counts) < self._max_series:
                return wider
        return UsageSeries(OTHER, OTHER, OTHER, OTHER)


class LastSeen:
    """When each client has last sent a request with its token, in epoch seconds."""

    def __init__(self) -> None:
        #: By the name of the client; the key ``None`` is for requests without one.
        self.times: dict[str | None, float] = {}
        self._rows: dict[str, SeenRow] = {}

    def at(self, client: str) -> float | None:
        """When the client of this name was seen last, if it was."""
        return self.times.get(client)

    def rows(self) -> tuple[SeenRow, ...]:
        """What is kept; unchanged rows are the same objects again."""
        for client, at in self.times.items():
            if client is not None and (client not in self._rows or self._rows[client].at != at):
                self._rows[client] = SeenRow(client, at)
        return tuple(self._rows.values())

    def restore(self, rows: Iterable[SeenRow]) -> None:
        """Take back what :meth:`rows` gave, unless a client was seen since."""
        for row in rows:
            if row.at > self.times.get(row.client, 0.0):
                self.times[row.client] = row.at
                self._rows[row.client] = row


#: Client, route, model and project.
_Cell = tuple[str | None, str, str | None, str]


class UsageLedger(TallyListener):
    """See the module. A ``TallyListener``.

    ``projects`` are the projects of the keys by the key's id. At most ``max_series`` series are
    distinguished in an hour or a day; further ones are counted under the project ``other``, then
    the model, then the client. ``prices`` and ``projects`` may be replaced at any time.
    """

    def __init__(
        self,
        prices: PriceList,
        projects: Mapping[str, str],
        zone: tzinfo = UTC,
        max_series: int = 2000,
    ) -> None:
        self._prices = prices
        self._projects = projects
        self._days = LocalDays(zone)
        self._max_series = max_series
        self._begin = self._end = 0.0
        self._models: set[str] = set()
        self._cells: dict[_Cell, UsageCounts] = {}
        self._spans: dict[tuple[int, int], _Span] = {}
        #: The hour and the day that are counted in.
        self._present: tuple[_Span, ...] = ()
        #: Hours and days whose rows were complete when they were last read.
        self._whole: frozenset[tuple[int, int]] = frozenset()
        self._last_seen = LastSeen()
        self._seen = self._last_seen.times
        #: Since the start, by client and endpoint.
        self._totals: dict[tuple[str, str], UsageCounts] = {}
        #: Requests that clients' own limits refused, by client, endpoint and limit.
        self.limit_refusals: Counter[tuple[str, str, str]] = Counter()
        #: Models without a price; the values are not used.
        self._unpriced: dict[str, None] = {}

    # -- counting --------------------------------------------------------------------------------

    def request_ended(self, context: RequestContext, status: int, seconds: float) -> None:
        """Count the request in the hour and on the day of its end, and set its cost."""
        now = context.started + context.epoch_offset + seconds
        self._seen[context.client] = now
        if not self._begin <= now < self._end:
            self._turn(now)
        attempts, usage = context.attempts, context.usage
        if len(attempts) != 1:
            self._count_unusual(context, status)
            return
        project = self._projects.get(attempts[0].key_id, "")
        cell = self._cell(context, project, served=status < 400)
        cell.requests += 1
        if usage is None:
            usage = attempts[0].usage
        if usage is not None:
            context.cost = self._add_usage(cell, context, usage)
            if context.cost is None:
                cell.unpriced += 1
        if status >= 400 or context.outcome != _SUCCESS:
            _count_failure(cell, whose_failure(context, status))

    def requests_ended(self, tally: Tally) -> None:
        """See :meth:`gemproxy.telemetry.tallies.TallyListener.requests_ended`."""
        # Another request of the client may have ended after these, and been told before.
        if not tally.last < self._seen.get(tally.client, 0.0) < tally.ended + MINUTE.seconds:
            self._seen[tally.client] = tally.last
        if not self._begin <= tally.ended < self._end:
            self._turn(tally.ended)
        cell = self._cell(tally, self._projects.get(tally.key_id, ""), served=True)
        cell.requests += tally.requests
        cell.input += tally.input
        cell.cached += tally.cached
        cell.output += tally.output
        cell.reasoning += tally.reasoning
        cell.input_text += tally.input_text
        cell.cost += tally.cost
        if tally.tariff is None:
            cell.unpriced += tally.requests
            self._note_unpriced(tally.model)

    def _add_usage(
        self, cell: UsageCounts, context: RequestContext, usage: TokenUsage
    ) -> float | None:
        """Add ``usage`` to ``cell`` and return its cost; ``None`` if it is not known."""
        if usage.input > MOST_TOKENS or usage.output > MOST_TOKENS:
            usage = _believable(usage)
        cell.add_usage(usage)
        cost = self._prices.cost(context.model or "", usage)
        # Some embedding models report no tokens.
        if cost is None or (not usage.input and not usage.output and context.outcome == _SUCCESS):
            self._note_unpriced(context.model)
            return None
        cell.cost += cost
        return cost

    def _count_unusual(self, context: RequestContext, status: int) -> None:
        """Count a request that had no attempt, or several."""
        attempts = context.attempts
        if context.over_limit:
            endpoint = endpoint_name(context.route)
            self.limit_refusals[context.client or ANONYMOUS, endpoint, context.over_limit] += 1
        is_unknown = context.turned_away and context.client is None and not context.over_limit
        if context.route == MY_USAGE or is_unknown:
            return
        served = status < 400 and bool(attempts)
        project = ""
        costs: list[float | None] = []
        for attempt in attempts:
            project = self._projects.get(attempt.key_id, "")
            if attempt.usage is not None:
                cell = self._cell(context, project, served=served)
                costs.append(self._add_usage(cell, context, attempt.usage))
        cell = self._cell(context, project, served=served)
        if not costs and context.usage is not None:
            costs.append(self._add_usage(cell, context, context.usage))
        cell.requests += 1
        known = [cost for cost in costs if cost is not None]
        context.cost = sum(known) if len(known) == len(costs) else None
        if context.cost is None:
            cell.unpriced += 1
        _count_failure(cell, whose_failure(context, status))

    def _cell(self, request: RequestContext | Tally, project: str, *, served: bool) -> UsageCounts:
        """The cell of the request. A model has its own cell only after its first success."""
        model = request.model
        if model and model not in self._models:
            if served and len(self._models) < MAX_MODELS:
                self._models.add(model)
            else:
                model = OTHER
        key = (request.client, request.route, model, project)
        cell = self._cells.get(key)
        if cell is None:
            if len(self._cells) >= _MOST_CELLS:
                self._flush()
            cell = self._cells[key] = UsageCounts()
        return cell

    def _note_unpriced(self, model: str | None) -> None:
        if model and len(self._unpriced) < MAX_UNPRICED:
            self._unpriced[model] = None

    # -- reading ---------------------------------------------------------------------------------

    def seen_at(self, client: str) -> float | None:
        """When the client of this name was seen last, if it was."""
        return self.last_seen.at(client)

    @property
    def last_seen(self) -> LastSeen:
        """When each client was seen last, the latest requests included."""
        self.settle()
        return self._last_seen

    @property
    def prices(self) -> PriceList:
        """The prices that requests are counted with."""
        return self._prices

    @prices.setter
    def prices(self, prices: PriceList) -> None:
        self.settle()
        self._prices = prices

    @property
    def projects(self) -> Mapping[str, str]:
        """The projects of the keys, by the key's id."""
        return self._projects

    @projects.setter
    def projects(self, projects: Mapping[str, str]) -> None:
        self.settle()
        self._projects = projects

    @property
    def zone(self) -> tzinfo:
        """The time zone of days."""
        return self._days.zone

    @zone.setter
    def zone(self, zone: tzinfo) -> None:
        self._flush()
        self._days.zone = zone
        self._begin = self._end = 0.0

    @property
    def unpriced_models(self) -> tuple[str, ...]:
        """Models that were asked and have no price, oldest first."""
        self.settle()
        return tuple(model for model in self._unpriced if not self._prices.knows(model))

    def totals(self) -> Mapping[tuple[str, str], UsageCounts]:
        """The counts since the start, by client and endpoint."""
        self._flush()
        return self._totals

    def prepare(self) -> Iterator[None]:
        """Build the rows that have changed, in short steps."""
        self._flush()
        for span in list(self._spans.values()):
            changed = span.changed()
            while some := list(islice(changed, _ROWS_AT_ONCE)):
                for series in some:
                    span.build(series)
                yield

    def rows(self) -> tuple[UsageRow, ...]:
        """All rows in memory; unchanged ones are the same objects again.

        Includes rows that :meth:`forget` will drop: they may not be stored yet.
        """
        self._flush()
        return tuple(row for span in self._spans.values() for row in span.rows())

    def forget(self, now: float) -> None:
        """Drop old rows after they were read for storing."""
        self._flush()
        for key in [key for key in self._spans if not _is_remembered(*key, now)]:
            del self._spans[key]
        self._present = ()
        self._begin = self._end = 0.0
        self._whole = frozenset(self._spans)

    def recall(self, rows: Iterable[UsageRow], now: float) -> None:
        """Load the stored ``rows`` of the time around ``now`` after the clock was set to it.

        Otherwise the smaller counts since then would overwrite these rows in the store.
        """
        self.restore((row for row in rows if (row.period, row.start) not in self._whole), now)

    def restore(self, rows: Iterable[UsageRow], now: float) -> None:
        """Take back what :meth:`rows` gave; counts of the same hour or day are added up."""
        for row in rows:
            if row.period in USAGE_REMEMBERED and _is_remembered(row.period, row.start, now):
                self._span(row.period, row.start).add(row.series, row)
                if row.model and len(self._models) < MAX_MODELS:
                    self._models.add(row.model)
        self._whole = frozenset(self._spans)

    # -- small ones ------------------------------------------------------------------------------

    def _flush(self) -> None:
        """Add the cells to the rows of the present hour and day."""
        self.settle()
        for (client, route, model, project), counts in self._cells.items():
            name, endpoint = client or ANONYMOUS, endpoint_name(route)
            series = UsageSeries(name, endpoint, model or "", project)
            for span in self._present:
                span.add(series, counts)
            total = self._totals.get((name, endpoint))
            if total is None:
                total = self._totals[name, endpoint] = UsageCounts()
            total.add(counts)
        self._cells.clear()

    def _turn(self, now: float) -> None:
        """Begin to count in the hour and on the day of ``now``."""
        self._flush()
        hour = int(now // USAGE_HOUR) * USAGE_HOUR
        today = self._days.at(now)
        self._present = (
            self._span(USAGE_HOUR, hour),
            self._span(USAGE_DAY, day_label(today.day)),
        )
        self._begin = max(float(hour), today.begins)
        self._end = min(float(hour + USAGE_HOUR), today.ends)

    def _span(self, period: int, start: int) -> _Span:
        span = self._spans.get((period, start))
        if span is None:
            span = self._spans[period, start] = _Span(period, start, self._max_series)
        return span


def day_label(day: date) -> int:
    """``UsageRow.start`` of ``day``."""
    return (day - _EPOCH).days * USAGE_DAY


def date_of_label(start: int) -> date:
    """The day of a row's ``start``."""
    return _EPOCH + timedelta(days=start // USAGE_DAY)


def _count_failure(cell: UsageCounts, whose: str) -> None:
    if whose:
        setattr(cell, whose, getattr(cell, whose) + 1)


def _is_remembered(period: int, start: int, now: float) -> bool:
    remembered = USAGE_REMEMBERED[period]
    return now - remembered < start <= now + remembered


def _believable(usage: TokenUsage) -> TokenUsage:
    values = {
        name: min(getattr(usage, name), MOST_TOKENS)
        for name in usage.__struct_fields__
        if name != "tier"
    }
    return TokenUsage(**values, tier=usage.tier)


_EPOCH: Final = date(1970, 1, 1)
