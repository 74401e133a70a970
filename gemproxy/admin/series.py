"""The curves of the last hour, added up from the rows that the state keeps by the minute.

The rows outlive a restart, and so do the curves.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from gemproxy.state.model import MINUTE, MetricsRow

#: An hour that is over, and the minute that is not.
MINUTES = 61


@dataclass
class Minute:
    """What all requests came to that ended in one minute, from ``start`` (epoch seconds)."""

    start: int
    #: How much of it has passed.
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
        """Of a whole request; ``None`` where there was none."""
        return _mean_ms(self.duration_seconds, self.requests)

    @property
    def avg_first_chunk_ms(self) -> float | None:
        """From a request's start to its stream's first chunk; ``None`` where there was none."""
        return _mean_ms(self.first_chunk_seconds, self.first_chunks)

    def add(self, row: MetricsRow) -> None:
        """Count the requests of one series."""
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
    """The minutes of the hour before ``now``, oldest first, with those in which nothing happened.

    Rows may be added in several goes: there can be thirty thousand of them.
    """

    def __init__(self, now: float) -> None:
        self._now = now
        current = int(now // MINUTE.seconds) * MINUTE.seconds
        starts = range(current - (MINUTES - 1) * MINUTE.seconds, current + 1, MINUTE.seconds)
        self._minutes = {start: self._minute(start) for start in starts}

    def add(self, rows: Iterable[MetricsRow]) -> None:
        """Count rows; those of another time are left out."""
        for row in rows:
            minute = self._minutes.get(row.start)
            if minute is not None:
                minute.add(row)

    @property
    def minutes(self) -> tuple[Minute, ...]:
        """Oldest first; the last one is not over."""
        return tuple(self._minutes.values())

    def _minute(self, start: int) -> Minute:
        return Minute(start, round(min(self._now - start, MINUTE.seconds), 3))


def _mean_ms(seconds: float, number: int) -> float | None:
    return round(1000 * seconds / number, 1) if number else None
