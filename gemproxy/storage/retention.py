"""How long the database keeps what. Each call takes a small step, so that no round is long."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from gemproxy.state import HOUR, MINUTE, Period

_DAY = 86400.0
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


def prune(
    connection: sqlite3.Connection, retention: Retention, now: float, *, crowded: bool = False
) -> None:
    """Delete some of what is past its time; ``crowded``: and of the oldest metrics beside."""
    limit = now - retention.days * _DAY
    for period in (MINUTE, HOUR):
        _prune_metrics(connection, period, limit)
    if crowded and not _prune_metrics(connection, MINUTE, now - MINUTE.remembered):
        _prune_metrics(connection, HOUR, now - HOUR.remembered)
    connection.execute("DELETE FROM keys WHERE left_at < ?", (limit,))
    connection.execute("DELETE FROM overrides WHERE left_at < ?", (limit,))
    _prune_events(connection, now - retention.event_days * _DAY, retention.events)


def _prune_metrics(connection: sqlite3.Connection, period: Period, limit: float) -> bool:
    """Delete the oldest few minutes or hours that lie before ``limit``; whether there were any."""
    (oldest,) = connection.execute(
        "SELECT min(start) FROM request_metrics WHERE period = ?", (period.seconds,)
    ).fetchone()
    if oldest is None or oldest >= limit:
        return False
    step = min(limit, oldest + _SPANS * period.seconds)
    connection.execute(
        "DELETE FROM request_metrics WHERE period = ? AND start < ?", (period.seconds, step)
    )
    return True


def _prune_events(connection: sqlite3.Connection, limit: float, most: int) -> None:
    connection.execute("DELETE FROM audit_events WHERE at < ?", (limit,))
    connection.execute(
        "DELETE FROM audit_events WHERE at <="
        " (SELECT at FROM audit_events ORDER BY at DESC LIMIT 1 OFFSET ?)",
        (most,),
    )
