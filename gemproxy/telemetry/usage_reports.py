"""Answer questions about usage, from the ledger and the store.

The present hours and days are in the ledger, the others in the store. A question in whole days is
answered from rows by day, any other from rows by hour, which are kept for a shorter time. Times are
epoch seconds.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from heapq import merge
from math import ceil
from typing import TypeVar

import msgspec

from gemproxy.core.local_days import begin_of_day, local_date
from gemproxy.state.model import USAGE_DAY, USAGE_HOUR, UsageRow
from gemproxy.state.usage_query import DIMENSIONS, MAX_ROWS, UsageQuery
from gemproxy.telemetry.usage import (
    UsageCounts,
    UsageLedger,
    date_of_label,
    day_label,
)

_T = TypeVar("_T")

#: Rows that are summed, and sorted, in about a millisecond.
_SUMMED_AT_ONCE = 200
_SORTED_AT_ONCE = 500
#: Dimensions of time; at most one of them is asked for.
TIMES = ("hour", "day", "month")
#: Tokens for a second of sound, heard and spoken (ai.google.dev, "Audio understanding" and "Native
#: audio output").
_HEARD, _SPOKEN = 32, 25

Read = Callable[[UsageQuery, Sequence[UsageRow]], Awaitable[Sequence[UsageRow]]]
"""Adds what the store has to the rows of the ledger, as ``ResilientStateStore.usage`` does."""


class TooManyRows(Exception):
    """The answer would have more than ``MAX_ROWS`` rows."""


class Failures(msgspec.Struct, frozen=True):
    """Failures by whose they are."""

    theirs: int = 0
    ours: int = 0
    upstream: int = 0


class InputTokens(msgspec.Struct, frozen=True):
    """Tokens of the prompts, as far as Gemini tells what they are."""

    text: int = 0
    audio: int = 0
    image: int = 0
    video: int = 0
    document: int = 0


class OutputTokens(msgspec.Struct, frozen=True):
    """Tokens of the answers; text is what is neither thought nor sound nor image."""

    text: int = 0
    audio: int = 0
    image: int = 0


class TokensByModality(msgspec.Struct, frozen=True):
    """Both directions."""

    input: InputTokens = InputTokens()
    output: OutputTokens = OutputTokens()


class Tokens(msgspec.Struct, frozen=True):
    """``input`` includes ``cached``, ``output`` includes ``reasoning``."""

    input: int = 0
    cached: int = 0
    output: int = 0
    reasoning: int = 0
    by_modality: TokensByModality = TokensByModality()


class Usage(msgspec.Struct, frozen=True):
    """Schema ``Usage``, without its dimensions."""

    requests: int = 0
    failures: Failures = Failures()
    tokens: Tokens = Tokens()
    grounding_calls: int = 0
    images: int = 0
    seconds: float = 0.0
    cost_usd: float | None = 0.0
    unpriced: int = 0


@dataclass(frozen=True)
class UsageRange:
    """From ``begin`` to before ``end``. In ``whole_days`` both are midnights of the time zone."""

    begin: float
    end: float
    whole_days: bool


Counts = UsageCounts | UsageRow
"""The numbers of one row of an answer."""


@dataclass(frozen=True)
class UsageReport:
    """The usage in ``range``, by the dimensions ``by``; ``groups`` are rows, sorted downwards."""

    range: UsageRange
    by: tuple[str, ...]
    groups: Sequence[list[tuple[tuple[str, ...], Counts]]] = ()

    def take(self) -> Iterator[tuple[tuple[str, ...], Usage]]:
        """All rows, sorted, with the values of the dimensions ``by`` in their order.

        Empties ``groups`` meanwhile: to free all rows at once would take long.
        """
        groups = map(_taken, self.groups)
        return ((key, usage_of(counts)) for key, counts in merge(*groups, key=_key))


class UsageReports:
    """See the module. ``read`` asks the store, ``wall`` gives epoch time.

    ``pause`` lets other requests run in the middle of a large answer.
    """

    def __init__(
        self,
        ledger: UsageLedger,
        read: Read,
        wall: Callable[[], float],
        pause: Callable[[], Awaitable[None]],
    ) -> None:
        self._ledger = ledger
        self._read = read
        self._wall = wall
        self._pause = pause

    def now(self) -> datetime:
        """The present time, in the time zone of days."""
        return datetime.fromtimestamp(self._wall(), self._ledger.zone)

    def days(self, first: datetime, last: datetime) -> UsageRange:
        """The range from the day of ``first`` to that of ``last``, both included."""
        zone = self._ledger.zone
        after = last.astimezone(zone).date() + timedelta(days=1)
        begin = begin_of_day(first.astimezone(zone).date(), zone)
        return UsageRange(begin, begin_of_day(after, zone), whole_days=True)

    async def report(
        self, asked: UsageRange, by: tuple[str, ...], filters: Mapping[str, tuple[str, ...]]
    ) -> UsageReport:
        """The usage, sorted by the dimensions. Raises :class:`TooManyRows`."""
        found = list((await self.counts(asked, by, filters)).items())
        groups = []
        for place in range(0, len(found), _SORTED_AT_ONCE):
            some = found[place : place + _SORTED_AT_ONCE]
            groups.append(sorted(some, key=_key, reverse=True))
            await self._pause()
        return UsageReport(asked, by, groups)

    async def counts(
        self, asked: UsageRange, by: tuple[str, ...], filters: Mapping[str, tuple[str, ...]]
    ) -> dict[tuple[str, ...], Counts]:
        """The counts by the values of the dimensions. Raises :class:`TooManyRows`."""
        zone = self._ledger.zone
        by_hour = "hour" in by or not asked.whole_days
        if by_hour:
            period, first = USAGE_HOUR, int(asked.begin // USAGE_HOUR) * USAGE_HOUR
            end = ceil(asked.end)
        else:
            period, first = USAGE_DAY, day_label(local_date(asked.begin, zone))
            end = day_label(local_date(asked.end, zone))
        time = next((name for name in TIMES if name in by), None)
        dimensions = tuple(name for name in by if name in DIMENSIONS)
        query = UsageQuery(period, first, end, dimensions, time is not None, filters)
        rows = await self._read(query, self._ledger.rows())
        if len(rows) > MAX_ROWS:
            raise TooManyRows
        word_of = cache(self._time_word)
        sums: dict[tuple[str, ...], Counts] = {}
        for place in range(0, len(rows), _SUMMED_AT_ONCE):
            if place:
                await self._pause()
            for row in rows[place : place + _SUMMED_AT_ONCE]:
                word = word_of(time, row.period, row.start)
                key = tuple(word if name == time else getattr(row, name) for name in by)
                present = sums.get(key)
                # Most rows are summed already.
                sums[key] = row if present is None else _sum(present, row)
        return sums

    async def total(self, asked: UsageRange, client: str) -> Usage:
        """What one client used."""
        report = await self.report(asked, (), {"client": (client,)})
        return next((usage for _, usage in report.take()), Usage())

    def _time_word(self, time: str | None, period: int, start: int) -> str:
        if time is None:
            return ""
        if time == "hour":
            return f"{datetime.fromtimestamp(start, UTC):%Y-%m-%dT%H:00:00Z}"
        day = date_of_label(start) if period == USAGE_DAY else local_date(start, self._ledger.zone)
        return f"{day:%Y-%m}" if time == "month" else day.isoformat()


def _sum(counts: Counts, more: UsageRow) -> UsageCounts:
    if not isinstance(counts, UsageCounts):
        first, counts = counts, UsageCounts()
        counts.add(first)
    counts.add(more)
    return counts


def _taken(group: list[_T]) -> Iterator[_T]:
    """The last ones first."""
    while group:
        yield group.pop()


def _key(row: tuple[tuple[str, ...], Counts]) -> tuple[str, ...]:
    return row[0]


def usage_of(counts: Counts) -> Usage:
    """The counts in the form of an answer."""
    spoken = counts.output - counts.reasoning - counts.output_audio - counts.output_image
    return Usage(
        counts.requests,
        Failures(counts.theirs, counts.ours, counts.upstream),
        Tokens(
            counts.input,
            counts.cached,
            counts.output,
            counts.reasoning,
            TokensByModality(
                InputTokens(
                    counts.input_text,
                    counts.input_audio,
                    counts.input_image,
                    counts.input_video,
                    counts.input_document,
                ),
                OutputTokens(max(0, spoken), counts.output_audio, counts.output_image),
            ),
        ),
        counts.searches,
        counts.images,
        round(counts.input_audio / _HEARD + counts.output_audio / _SPOKEN, 3),
        None if counts.unpriced else round(counts.cost, 9),
        counts.unpriced,
    )
