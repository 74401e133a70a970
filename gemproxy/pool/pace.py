"""How fast something is used, and when it is used up at that pace."""

from __future__ import annotations

from collections import deque

HOUR = 3600.0
_SLICE = 300.0
#: Seconds; the shortest time that a use is divided by, so that one first request is no high pace.
_LEAST = 60.0


class Pace:
    """The requests and tokens of the last hour, in slices of five minutes. Times are monotonic."""

    __slots__ = ("_began", "_slices")

    def __init__(self, began: float | None = None) -> None:
        """It is measured from ``began`` on, by default from the first request."""
        self._began = began
        self._slices: deque[list[float]] = deque()  # begin, requests, tokens

    def add(self, now: float, requests: int, tokens: int) -> None:
        """Count so many more; ``tokens`` is negative where an estimate was too high."""
        slices = self._slices
        if self._began is None:
            self._began = now
        if not slices or now >= slices[-1][0] + _SLICE:
            while slices and slices[0][0] < now - HOUR:
                slices.popleft()
            slices.append([now, 0, 0])
        slices[-1][1] += requests
        slices[-1][2] += tokens

    def rate(self, now: float, *, tokens: bool) -> float:
        """Requests or tokens a second."""
        if self._began is None:
            return 0.0
        place = 2 if tokens else 1
        used = sum(each[place] for each in self._slices if each[0] >= now - HOUR)
        return max(0.0, used) / min(max(now - self._began, _LEAST), HOUR)


def exhausted_at(limit: int, used: int, rate: float, now: float, horizon: float) -> float | None:
    """When ``limit`` is used up at ``rate`` a second; ``None`` if that is after ``horizon``."""
    if used >= limit:
        return now
    if rate <= 0.0:
        return None
    moment = now + (limit - used) / rate
    return moment if moment < horizon else None
