"""Whether an upload comes fast enough to be waited for."""

from __future__ import annotations

from collections import deque

#: A kept-alive connection may be silent for so long between two requests.
IDLE_SECONDS = 60.0
#: A body has to come at the least rate over any span of so many seconds.
SPAN_SECONDS = 30.0
#: No body may take longer, at whatever rate.
WHOLE_BODY_SECONDS = 300.0
#: How often the rate is looked at.
STEP_SECONDS = 2.0


class UploadRateGuard:
    """How one body comes in, from ``now`` (monotonic) on, at ``rate`` bytes/s or more."""

    def __init__(self, now: float, rate: float) -> None:
        self._begun = now
        self._rate = rate
        self._size = 0
        #: When how many bytes had come, for the last ``SPAN_SECONDS`` and the step before.
        self._marks = deque([(now, 0)])

    @property
    def deadline(self) -> float:
        """When to ask again, if nothing comes before."""
        return self._marks[-1][0] + STEP_SECONDS

    def brought(self, size: int) -> None:
        """``size`` more bytes have come."""
        self._size += size

    def is_too_slow(self, now: float) -> bool:
        """Whether this upload comes too slowly, or takes too long altogether."""
        marks = self._marks
        while len(marks) > 1 and now - marks[1][0] >= SPAN_SECONDS:
            marks.popleft()
        since, size = marks[0]
        elapsed = now - since
        if elapsed >= SPAN_SECONDS and self._size - size < self._rate * elapsed:
            return True
        if now >= self.deadline:
            marks.append((now, self._size))
        return now - self._begun >= WHOLE_BODY_SECONDS
