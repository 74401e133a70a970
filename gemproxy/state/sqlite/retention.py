"""Delete old rows, in small steps so that no save takes long."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Callable
from typing import Final

from gemproxy.core.client_registry import MAX_DELETED
from gemproxy.state.kinds import KINDS, Kept, Retention
from gemproxy.state.model import (
    HOUR,
    MINUTE,
    PERIODS,
    USAGE_HOUR,
    USAGE_REMEMBERED,
    Period,
)
from gemproxy.state.record_query import LAST, MICROSECONDS

#: Seconds after a start, or after the clock was set, in which the clock is not trusted.
SETTLE_SECONDS = 3600.0

_DAY = 86400.0
#: A difference of this many seconds to the monotonic clock means that the clock was set.
_STEP = 3600.0
#: Records that one step deletes; more than a save may add.
_RECORDS_AT_ONCE: Final = 20_000
#: Counting a million records takes some ten milliseconds.
_SAVES_BETWEEN_COUNTS: Final = 50
_USAGE_HOURS, _USAGE_DAYS = (Period(each, USAGE_REMEMBERED[each]) for each in USAGE_REMEMBERED)
#: Minutes, hours or days that one step deletes.
_SPANS = 5


class SettledClock:
    """Whether the wall clock has run evenly for some time. ``seconds`` is monotonic."""

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        self._offset = math.inf
        self._since = math.inf

    def is_settled(self, now: float, settle: float) -> bool:
        """Whether it is settled at ``now``, epoch seconds. Call this at every save."""
        seconds = self._seconds()
        previous, self._offset = self._offset, now - seconds
        if not abs(self._offset - previous) < _STEP:
            self._since = seconds
        return seconds - self._since >= settle


def prune(
    connection: sqlite3.Connection,
    retention: Retention,
    now: float,
    *,
    crowded: bool = False,
    settled: bool = True,
) -> None:
    """Delete some old rows; with ``crowded``, also some of the oldest metrics.

    ``settled``: ``now`` can be trusted. Then rows that are as far in the future are deleted as
    well; a clock that was ahead has written them.
    """
    for table in _tables(Kept.AS_METRICS):
        # Rows by minute are worth less than rows by hour: only the last hour is shown by minute.
        if crowded and not _prune_before(connection, table, MINUTE, now - MINUTE.remembered):
            _prune_before(connection, table, HOUR, now - HOUR.remembered)
    for table in _tables(Kept.AS_USAGE):
        if crowded:
            _prune_before(connection, table, _USAGE_HOURS, now - USAGE_REMEMBERED[USAGE_HOUR])
    if settled:
        _prune_old(connection, now, retention)
    for table in _tables(Kept.AS_EVENTS):
        _prune_surplus(connection, table, retention.events)
    for table in _tables(Kept.AS_CLIENTS):
        connection.execute(
            f"DELETE FROM {table} WHERE digest = '' AND changed <="  # noqa: S608
            f" (SELECT changed FROM {table} WHERE digest = '' ORDER BY changed DESC"
            " LIMIT 1 OFFSET ?)",
            (MAX_DELETED,),
        )


def _tables(kept: Kept) -> list[str]:
    return [kind.table.name for kind in KINDS if kind.table.kept is kept]


def _prune_old(connection: sqlite3.Connection, now: float, retention: Retention) -> None:
    first, last = now - retention.days * _DAY, now + retention.days * _DAY
    for table in _tables(Kept.AS_METRICS):
        for period in PERIODS:
            _prune_before(connection, table, period, first)
            _prune_after(connection, table, period, last)
    for table in _tables(Kept.UNTIL_LEFT_LONG_AGO):
        connection.execute(f"DELETE FROM {table} WHERE left_at < ?", (first,))  # noqa: S608
        connection.execute(
            f"UPDATE {table} SET left_at = ? WHERE left_at > ?",  # noqa: S608
            (now, last),
        )
    for table in _tables(Kept.AS_USAGE):
        for period, days in (
            (_USAGE_HOURS, retention.usage_hour_days),
            (_USAGE_DAYS, retention.usage_days),
        ):
            _prune_before(connection, table, period, now - days * _DAY)
            _prune_after(connection, table, period, now + days * _DAY)
    first_record, last_record = (
        max(0, min(int((now + days * _DAY) * MICROSECONDS), LAST))
        for days in (-retention.record_days, retention.record_days)
    )
    for table in _tables(Kept.AS_RECORDS):
        _delete_records(connection, table, "number < ?", first_record)
        _delete_records(connection, table, "number > ?", last_record)
    oldest = now - retention.event_days * _DAY
    for table in _tables(Kept.AS_EVENTS):
        connection.execute(f"DELETE FROM {table} WHERE at < ?", (oldest,))  # noqa: S608
    seen = now - retention.usage_days * _DAY
    for table in _tables(Kept.AS_SEEN):
        connection.execute(f"DELETE FROM {table} WHERE at < ?", (seen,))  # noqa: S608
    for table in _tables(Kept.AS_CLIENTS):
        # The latest one shows that clients were made.
        connection.execute(
            f"DELETE FROM {table} WHERE digest = '' AND changed < ?"  # noqa: S608
            f" AND changed < (SELECT max(changed) FROM {table})",
            (oldest,),
        )


def _prune_before(connection: sqlite3.Connection, table: str, period: Period, limit: float) -> bool:
    """Delete the oldest minutes or hours before ``limit``; returns whether there were any."""
    (oldest,) = connection.execute(
        f"SELECT min(start) FROM {table} WHERE period = ?",  # noqa: S608
        (period.seconds,),
    ).fetchone()
    if oldest is None or oldest >= limit:
        return False
    step = min(limit, oldest + _SPANS * period.seconds)
    connection.execute(
        f"DELETE FROM {table} WHERE period = ? AND start < ?",  # noqa: S608
        (period.seconds, step),
    )
    return True


def _prune_after(connection: sqlite3.Connection, table: str, period: Period, limit: float) -> None:
    (latest,) = connection.execute(
        f"SELECT max(start) FROM {table} WHERE period = ?",  # noqa: S608
        (period.seconds,),
    ).fetchone()
    if latest is not None and latest > limit:
        step = max(limit, latest - _SPANS * period.seconds)
        connection.execute(
            f"DELETE FROM {table} WHERE period = ? AND start > ?",  # noqa: S608
            (period.seconds, step),
        )


def _prune_surplus(connection: sqlite3.Connection, table: str, most: int) -> None:
    connection.execute(
        f"DELETE FROM {table} WHERE at <="  # noqa: S608
        f" (SELECT at FROM {table} ORDER BY at DESC LIMIT 1 OFFSET ?)",
        (most,),
    )


class RecordCounter:
    """Deletes the oldest records beyond a number of them, which is counted now and then only."""

    def __init__(self) -> None:
        self._surplus = 0
        #: Saves until the records are counted again.
        self._countdown = 0

    def prune(self, connection: sqlite3.Connection, most: int) -> None:
        """Call this at every save."""
        for table in _tables(Kept.AS_RECORDS):
            if self._countdown == 0:
                (number,) = connection.execute(f"SELECT count(*) FROM {table}").fetchone()  # noqa: S608
                self._surplus = max(0, number - most)
                self._countdown = _SAVES_BETWEEN_COUNTS
            self._countdown -= 1
            if self._surplus:
                step = min(self._surplus, _RECORDS_AT_ONCE)
                self._surplus -= step
                _delete_records(connection, table, "number >= ?", 0, step)


def _delete_records(
    connection: sqlite3.Connection,
    table: str,
    condition: str,
    limit: int,
    most: int | None = None,
) -> None:
    """Delete the oldest records for which ``condition`` holds, at most ``most``."""
    step = _RECORDS_AT_ONCE if most is None else most
    connection.execute(
        f"DELETE FROM {table} WHERE number IN"  # noqa: S608
        f" (SELECT number FROM {table} WHERE {condition} ORDER BY number LIMIT ?)",
        (limit, step),
    )
