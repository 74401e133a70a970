"""Calendar days and months of a time zone.

A day begins once, at its first midnight, also where a clock that is set back repeats it: a moment
belongs to the latest day that has begun. Times are epoch seconds.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, tzinfo
from math import inf
from typing import NamedTuple

_DAY = timedelta(days=1)


class Today(NamedTuple):
    """A day, and the days on which the next day and the next month begin, with their times."""

    day: date
    begins: float
    ends: float
    month_ends: float

    @property
    def next_day(self) -> date:
        """The day after it."""
        return self.day + _DAY

    @property
    def next_month(self) -> date:
        """The first day of the month after it."""
        return first_of_next_month(self.day)


_NEVER = Today(date.min, inf, -inf, -inf)


class LocalDays:
    """The present day in a time zone, which is computed once a day."""

    def __init__(self, zone: tzinfo = UTC) -> None:
        self._zone = zone
        self._today = _NEVER

    @property
    def zone(self) -> tzinfo:
        """The time zone; may be changed at any time."""
        return self._zone

    @zone.setter
    def zone(self, zone: tzinfo) -> None:
        self._zone = zone
        self._today = _NEVER

    def at(self, now: float) -> Today:
        """The day of ``now``."""
        today = self._today
        if not today.begins <= now < today.ends:
            today = self._today = _today(now, self._zone)
        return today


def local_date(now: float, zone: tzinfo) -> date:
    """The calendar day of ``now``."""
    return datetime.fromtimestamp(now, zone).date()


def begin_of_day(day: date, zone: tzinfo) -> float:
    """When ``day`` begins."""
    return datetime(day.year, day.month, day.day, tzinfo=zone).timestamp()


def first_of_next_month(day: date) -> date:
    """The first day of the month after that of ``day``."""
    return (day.replace(day=28) + timedelta(days=4)).replace(day=1)


def _today(now: float, zone: tzinfo) -> Today:
    day = local_date(now, zone)
    ends = begin_of_day(day + _DAY, zone)
    if now >= ends:  # The clock was set back over midnight, and the next day had begun.
        day += _DAY
        ends = begin_of_day(day + _DAY, zone)
    return Today(day, begin_of_day(day, zone), ends, begin_of_day(first_of_next_month(day), zone))
