"""Limit repeated events: a few lines in each interval, then a count."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

#: Lines of one event at warn or above in each interval, and the interval in seconds.
REPEATS: Final = 20
INTERVAL: Final = 60.0


@dataclass(frozen=True)
class Suppressed:
    """The number of events of one kind that were not written."""

    logger: str
    event: str
    count: int


class RepeatLimiter:
    """Lets ``burst`` of one event through in each ``interval`` and counts the rest.

    ``now`` is epoch seconds. An interval begins with the first event of its kind. At most
    ``MOST`` kinds are told apart at a time; further kinds share one count.
    """

    MOST = 1000

    def __init__(self, burst: int = REPEATS, interval: float = INTERVAL) -> None:
        self._burst = burst
        self._interval = interval
        self._windows: dict[tuple[str, str], _Window] = {}
        self._next_end = float("inf")

    def admit(self, logger: str, event: str, now: float) -> bool:
        """Whether to write this event."""
        kind = (logger, event)
        if kind not in self._windows and len(self._windows) >= self.MOST:
            kind = ("", "other events")
        window = self._windows.setdefault(kind, _Window(now + self._interval))
        self._next_end = min(self._next_end, window.end)
        window.count += 1
        return window.count <= self._burst

    def is_due(self, now: float) -> bool:
        """Whether an interval may be over."""
        if not self._windows:
            return False
        # If the clock was set back, do not suppress a kind for hours.
        return not self._next_end - self._interval <= now < self._next_end

    def ended(self, now: float) -> list[Suppressed]:
        """The counts of ended intervals; cheap if there is none."""
        if not self.is_due(now):
            return []
        over = [
            kind
            for kind, window in self._windows.items()
            if not window.end - self._interval <= now < window.end
        ]
        counts = [(kind, self._windows.pop(kind).count - self._burst) for kind in over]
        self._next_end = min((w.end for w in self._windows.values()), default=float("inf"))
        return [Suppressed(*kind, count) for kind, count in counts if count > 0]


@dataclass
class _Window:
    end: float
    count: int = 0
