"""The series of the last hour, summed from the metrics by minute.

The rows are part of the stored state, so the series outlive a restart.
"""

from __future__ import annotations

from collections.abc import Iterable

from gemproxy.state.model import MINUTE, MetricsRow
from gemproxy.telemetry.ledger import Counts

#: Sixty complete minutes and the present one.
MINUTES = 61


class Minute(Counts):
    """The requests that ended in one minute from ``start`` (epoch seconds)."""

    __slots__ = ("passed", "start")

    def __init__(self, start: int, passed: float) -> None:
        super().__init__()
        self.start = start
        #: Seconds of the minute that have passed.
        self.passed = passed

    @property
    def avg_duration_ms(self) -> float | None:
        """The mean duration of a whole request; ``None`` without requests."""
        return _mean_ms(self.seconds, self.requests)

    @property
    def avg_first_chunk_ms(self) -> float | None:
        """The mean time to the first chunk of a stream; ``None`` without streams."""
        return _mean_ms(self.first_chunk_seconds, self.first_chunks)


class LastHour:
    """The minutes of the hour before ``now``, oldest first, also those without requests.

    Only those that begin at ``since`` (epoch seconds) or later. Rows may be added in several steps:
    there can be thirty thousand of them.
    """

    def __init__(self, now: float, since: float = 0.0) -> None:
        self._now = now
        current = int(now // MINUTE.seconds) * MINUTE.seconds
        starts = range(current - (MINUTES - 1) * MINUTE.seconds, current + 1, MINUTE.seconds)
        self._minutes = {start: self._minute(start) for start in starts if start >= since}

    def add(self, rows: Iterable[MetricsRow]) -> None:
        """Add rows; those outside the hour are ignored."""
        for row in rows:
            minute = self._minutes.get(row.start)
            if minute is not None:
                minute.add(row)

    @property
    def minutes(self) -> tuple[Minute, ...]:
        """Oldest first; the last minute is incomplete."""
        return tuple(self._minutes.values())

    def _minute(self, start: int) -> Minute:
        return Minute(start, round(min(self._now - start, MINUTE.seconds), 3))


def _mean_ms(seconds: float, number: int) -> float | None:
    return round(1000 * seconds / number, 1) if number else None
