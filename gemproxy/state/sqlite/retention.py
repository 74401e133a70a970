"""How long the database keeps what. Each call takes a small step, so that no round is long."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass

from gemproxy.state.kinds import KINDS, Kept
from gemproxy.state.model import HOUR, MINUTE, PERIODS, Period

#: How long a daemon does not believe a clock that was set, or that it does not know yet.
SETTLE_SECONDS = 3600.0

_DAY = 86400.0
#: A wall clock that has moved on by so much more or less than time, in seconds, was set.
_STEP = 3600.0
#: How many minutes or hours of metrics are deleted in one step.
_SPANS = 5


@dataclass(frozen=True)
class Retention:
    """Ages in days, sizes in bytes and rows."""

    #: Of metrics, and of what is known of keys that have left the file.
    days: float = 7.0
    #: When the contents take more, the oldest metrics go whatever their age.
    bytes: int = 256 * 1024 * 1024
    event_days: float = 365.0
    events: int = 10_000
    #: For so many seconds after a start, and after the clock was set, nothing is old: a clock that
    #: is wrong for a while must not cost what was kept for years.
    settle: float = 0.0


class SettledClock:
    """Whether the wall clock has gone on evenly for some time. ``seconds`` is monotonic."""

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        self._offset = math.inf
        self._since = math.inf

    def is_settled(self, now: float, settle: float) -> bool:
        """At ``now``, by the wall clock; to be asked at every save."""
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
    """Delete some of what is past its time; ``crowded``: and of the oldest metrics beside.

    ``settled``: ``now`` is to be believed. Then what lies as far in the future goes as well, which
    a clock that was ahead has left: else it would stay for as long as that was.
    """
    for table in _tables(Kept.AS_METRICS):
        # Minutes are worth less than hours: the curves of the last hour need them only.
        if crowded and not _prune_before(connection, table, MINUTE, now - MINUTE.remembered):
            _prune_before(connection, table, HOUR, now - HOUR.remembered)
    if settled:
        _prune_old(connection, now, retention)
    for table in _tables(Kept.AS_EVENTS):
        _prune_surplus(connection, table, retention.events)


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
    oldest = now - retention.event_days * _DAY
    for table in _tables(Kept.AS_EVENTS):
        connection.execute(f"DELETE FROM {table} WHERE at < ?", (oldest,))  # noqa: S608


def _prune_before(connection: sqlite3.Connection, table: str, period: Period, limit: float) -> bool:
    """Delete the oldest few minutes or hours that lie before ``limit``; whether there were any."""
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
