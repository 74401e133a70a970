"""The series of the last hour, summed from the metrics by minute.

The rows are part of the stored state, so the series outlive a restart.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from gemproxy.state.model import MINUTE, MetricsRow

#: Sixty complete minutes and the present one.
MINUTES = 61


@dataclass
class Minute:
    """The requests that ended in one minute from ``start`` (epoch seconds)."""

    start: int
    #: Seconds of the minute that have passed.
    seconds: float
    requests: int = 0
    failures: int = 0
    retries: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    reasoning_tokens: int = 0
    duration_seconds: float = 0.0
    first_chunks: int = 0
    first_chunk_seconds: float = 0.0

    @property
    def avg_duration_ms(self) -> float | None:
        """The mean duration of a whole request; ``None`` without requests."""
        return _mean_ms(self.duration_seconds, self.requests)

    @property
    def avg_first_chunk_ms(self) -> float | None:
        """The mean time to the first chunk of a stream; ``None`` without streams."""
        return _mean_ms(self.first_chunk_seconds, self.first_chunks)

    def add(self, row: MetricsRow) -> None:
        """Add the counts of one row."""
        self.requests += row.requests
        self.failures += row.failures
        self.retries += row.retries
        self.prompt_tokens += row.prompt_tokens
        self.cached_tokens += row.cached_tokens
        self.completion_tokens += row.completion_tokens
        self.reasoning_tokens += row.reasoning_tokens
        self.duration_seconds += row.seconds
        self.first_chunks += row.first_chunks
        self.first_chunk_seconds += row.first_chunk_seconds


class LastHour:
    """The minutes of the hour before ``now``, oldest first, also those without requests.

    Rows may be added in several steps: there can be thirty thousand of them.
    """

    def __init__(self, now: float) -> None:
        self._now = now
        current = int(now // MINUTE.seconds) * MINUTE.seconds
        starts = range(current - (MINUTES - 1) * MINUTE.seconds, current + 1, MINUTE.seconds)
        self._minutes = {start: self._minute(start) for start in starts}

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
