"""Keep finished requests in the state, and search them there and in memory.

A :class:`RecordBuffer` collects the requests that end between two checkpoints and makes rows of
them, in short steps, when a checkpoint begins. What is kept is bounded: at most
:data:`MOST_SUCCESSES` and :data:`MOST_FAILURES` for each checkpoint, and of those that were refused
by their heads :data:`MOST_REFUSED` a minute for each client. No row holds contents, and each passes
the scrubber.

Theory of operation of a search. A record's number is the time of its end in microseconds, unique,
and the same in memory and in the store. Memory has the latest requests, the store those of the
checkpoints so far, so some are in both. :class:`RequestRecords` reads memory first. If that does
not fill the page, it asks the store for numbers below the oldest one in memory, and joins both by
number. The cursor is the number of the last record of the page; the next page ends before it, so
new requests do not shift the pages. Memory keeps the requests that were refused by their heads
apart, and they do not count as the oldest. The store looks at a bounded number of records for each
question: a page may be short although others follow.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from gemproxy.core.endpoint_names import endpoint_name
from gemproxy.state.model import RecordRow
from gemproxy.state.record_query import SUCCESS, FoundRecords, RecordQuery, digest_of
from gemproxy.telemetry.history import (
    AttemptExplanation,
    Finished,
    RequestExplanation,
    RequestHistory,
    RequestRecord,
)

#: Records for one checkpoint. A record takes ten times as long as all else that is counted of a
#: request, so of many requests a second only some are recorded.
MOST_SUCCESSES = 1_000
MOST_FAILURES = 5_000
#: Records of refused requests in a minute, for each client.
MOST_REFUSED = 60

#: Rows that are made in one step, in about a millisecond.
_ROWS_AT_ONCE = 50
_MINUTE = 60.0
#: Clients whose refused requests are counted apart.
_MOST_CLIENTS = 1_000
#: Passed-over keys of an attempt that are kept by name.
_MOST_PASSED_OVER = 3


class _StoredRecord(RequestRecord, frozen=True, array_like=True):
    """A record, encoded as an array. Fields with a column of their own are blank."""


class _StoredAttempt(AttemptExplanation, frozen=True, array_like=True):
    """An attempt, encoded as an array. An omitted field is stored as null."""

    chosen_for: str | None = None  # type: ignore[assignment]


class _Stored(msgspec.Struct, frozen=True, array_like=True):
    request: _StoredRecord
    attempts: tuple[_StoredAttempt, ...]


class RecordBuffer:
    """See the module. ``scrub`` takes secrets out of a text.

    ``success_share`` is the part of the successes that is kept, from 0 to 1.
    """

    def __init__(self, scrub: Callable[[str], str], success_share: float = 1.0) -> None:
        self.success_share = success_share
        self._scrub = scrub
        self._waiting: list[Finished] = []
        self._successes = self._failures = 0
        #: How much of a success the share has left over.
        self._credit = 0.0
        self._refused: dict[str | None, int] = {}
        self._minute = 0.0
        self._rows: list[RecordRow] = []

    def keep(self, finished: Finished) -> None:
        """Keep a request, unless there are too many."""
        context = finished.context
        if context.outcome == SUCCESS:
            if self._successes < MOST_SUCCESSES:
                self._keep_success(finished)
        elif self._failures < MOST_FAILURES and (
            not context.turned_away or self._admits_refused(finished)
        ):
            self._failures += 1
            self._waiting.append(finished)

    def prepare(self) -> Iterator[None]:
        """Make rows of what has ended, in short steps."""
        while self._waiting:
            some, self._waiting = self._waiting[:_ROWS_AT_ONCE], self._waiting[_ROWS_AT_ONCE:]
            self._rows += map(self._row, some)
            yield

    def take(self) -> tuple[RecordRow, ...]:
        """The rows; each is returned once."""
        for _ in self.prepare():
            pass
        rows, self._rows = tuple(self._rows), []
        self._successes = self._failures = 0
        return rows

    def _keep_success(self, finished: Finished) -> None:
        if self.success_share < 1.0:
            self._credit += self.success_share
            if self._credit < 1.0:
                return
            self._credit -= 1.0
        self._successes += 1
        self._waiting.append(finished)

    def _admits_refused(self, finished: Finished) -> bool:
        context = finished.context
        now = context.started + finished.seconds
        if not self._minute <= now < self._minute + _MINUTE or len(self._refused) > _MOST_CLIENTS:
            self._minute = now
            self._refused.clear()
        number = self._refused[context.client] = self._refused.get(context.client, 0) + 1
        return number <= MOST_REFUSED

    def _row(self, finished: Finished) -> RecordRow:
        explained = finished.explanation()
        request = explained.request
        scrub = self._scrub
        model = request.model and scrub(request.model)
        stored = _stored_request(request), list(map(_stored_attempt, explained.attempts))
        return RecordRow(
            finished.number,
            digest_of(request.id),
            request.client or "",
            request.endpoint,
            model or "",
            request.key or "",
            request.status,
            request.outcome,
            scrub(_encode(stored).decode()),
        )


def _stored_request(request: RequestRecord) -> tuple[object, ...]:
    """What is decoded as :class:`_StoredRecord`. A tuple takes a third of the time of a Struct."""
    return (
        request.id,
        request.time,
        request.route,
        None,  # model
        request.stream,
        0,  # status
        "",  # outcome
        None,  # key
        request.attempts,
        request.duration_ms,
        request.first_byte_ms,
        request.prompt_tokens,
        request.completion_tokens,
        request.retries,
        None,  # client
        "",  # endpoint
        request.cached_tokens,
        request.reasoning_tokens,
        request.cost_usd,
        request.queue_ms,
    )


def _stored_attempt(attempt: AttemptExplanation) -> tuple[object, ...]:
    """What is decoded as :class:`_StoredAttempt`."""
    chosen_for = attempt.chosen_for
    return (
        attempt.key,
        attempt.outcome,
        attempt.status,
        attempt.charged_to,
        attempt.duration_ms,
        attempt.passed_over[:_MOST_PASSED_OVER],
        attempt.reason,
        attempt.google_status,
        attempt.google_reason,
        attempt.quota_id,
        attempt.message,
        attempt.passed_over_counts,
        None if chosen_for is msgspec.UNSET else chosen_for,
    )


def _attempt(stored: _StoredAttempt) -> AttemptExplanation:
    values = msgspec.structs.asdict(stored)
    if stored.chosen_for is None:
        values["chosen_for"] = msgspec.UNSET
    return AttemptExplanation(**values)


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Stored).decode


def explanation_of(row: RecordRow) -> RequestExplanation:
    """The request that was kept as ``row``. Raises what damaged data raises."""
    stored = _decode(row.data)
    request = msgspec.structs.replace(
        RequestRecord(*msgspec.structs.astuple(stored.request)),
        model=row.model or None,
        status=row.status,
        outcome=row.outcome,
        key=row.key or None,
        client=row.client or None,
        endpoint=row.endpoint,
    )
    return RequestExplanation(request, tuple(map(_attempt, stored.attempts)))


class RecordReader(Protocol):
    """Reads the stored records; see :class:`gemproxy.core.interfaces.ResilientStateStore`."""

    def search(self, query: RecordQuery) -> FoundRecords:
        """The records that ``query`` asks for, newest first."""

    def find(self, digest: int) -> Sequence[RecordRow]:
        """The records whose id has ``digest``, newest first."""


class StoredRecords:
    """The stored records, which are read and decoded with ``in_thread``."""

    def __init__(self, in_thread: Callable[..., Awaitable[Any]], reader: RecordReader) -> None:
        self._in_thread = in_thread
        self._reader = reader

    async def search(
        self, query: RecordQuery
    ) -> tuple[list[tuple[int, RequestRecord]], int | None]:
        """The records with their numbers, newest first, and where what is left ends."""

        def read() -> tuple[list[tuple[int, RequestRecord]], int | None]:
            found = self._reader.search(query)
            return [(row.number, explanation_of(row).request) for row in found.rows], found.rest

        result: tuple[list[tuple[int, RequestRecord]], int | None] = await self._in_thread(read)
        return result

    async def find(self, request_id: str) -> RequestExplanation | None:
        """The newest request with this id."""

        def read() -> RequestExplanation | None:
            for row in self._reader.find(digest_of(request_id)):
                explained = explanation_of(row)
                if explained.request.id == request_id:
                    return explained
            return None

        result: RequestExplanation | None = await self._in_thread(read)
        return result


@dataclass(frozen=True)
class RequestPage:
    """Requests, newest first, and where to go on; ``None`` at the end.

    Those of memory are no records yet.
    """

    found: Sequence[Finished | RequestRecord]
    next_cursor: str | None = None

    @property
    def requests(self) -> Iterator[RequestRecord]:
        """The records, made one by one, because 500 take milliseconds."""
        for each in self.found:
            yield each if isinstance(each, RequestRecord) else each.record()


class RequestRecords:
    """Searches the latest requests in memory and older ones in the store."""

    def __init__(self, history: RequestHistory, store: StoredRecords) -> None:
        self._history = history
        self._store = store

    async def search(self, query: RecordQuery) -> RequestPage:
        """At most ``query.limit`` requests. A page may have fewer although others follow."""
        limit = query.limit
        recent = self._history.latest(limit + 1, None if query.is_everything else _admission(query))
        found: dict[int, Finished | RequestRecord] = {each.number: each for each in recent}
        rest = None
        first = self._history.first_number
        end = query.end if first is None else min(query.end, first)
        if len(found) <= limit and query.first < end:
            stored, rest = await self._store.search(_until(query, end, limit + 1))
            found = {**dict(stored), **found}
        numbers = sorted(found, reverse=True)
        if len(numbers) > limit:
            rest = numbers[limit - 1]
        page = [found[number] for number in numbers[:limit]]
        return RequestPage(page, None if rest is None else str(rest))

    async def find(self, request_id: str) -> RequestExplanation | None:
        """The newest request with this id and its decisions."""
        recent = self._history.find(request_id)
        if recent is not None and not recent.context.turned_away:
            return recent.explanation()
        stored = await self._store.find(request_id)
        if stored is not None or recent is None:
            return stored
        return recent.explanation()


def _until(query: RecordQuery, end: int, limit: int) -> RecordQuery:
    return RecordQuery(limit, query.first, end, query.filters, query.statuses, query.failed)


def _admission(query: RecordQuery) -> Callable[[Finished], bool]:
    """Whether a request in memory is asked for."""

    def admits(finished: Finished) -> bool:
        context = finished.context
        if not query.first <= finished.number < query.end:
            return False
        return query.is_unfiltered or query.admits(
            RecordRow(
                finished.number,
                0,
                context.client or "",
                endpoint_name(context.route),
                context.model or "",
                context.key_name or "",
                finished.status,
                context.outcome,
                "",
            ),
            (attempt.key_name for attempt in context.attempts),
        )

    return admits
