"""Decide whether an upload is fast enough to wait for.

The rate is measured over a sliding span: marks of (time, bytes so far) are set every two seconds,
and marks older than the span are dropped. With a single average, a fast start would allow a body to
become very slow afterwards.
"""

from __future__ import annotations

from collections import deque

#: Seconds that a kept-alive connection may be silent between two requests.
IDLE_SECONDS = 60.0
#: Seconds: the minimum rate holds over any span of this length.
SPAN_SECONDS = 30.0
#: Seconds that a body may take at most, at any rate.
WHOLE_BODY_SECONDS = 300.0
#: Seconds between two marks.
STEP_SECONDS = 2.0


class UploadRateGuard:
    """Watches one body from ``now`` (monotonic) on; it must reach ``rate`` bytes/s.

    ``whole_seconds`` is how long it may take in total.
    """

    def __init__(
        self, now: float, rate: float, *, whole_seconds: float = WHOLE_BODY_SECONDS
    ) -> None:
        self._begun = now
        self._rate = rate
        self._whole_seconds = whole_seconds
        self._size = 0
        #: (time, bytes so far) for the last ``SPAN_SECONDS`` and one mark before them.
        self._marks = deque([(now, 0)])

    @property
    def deadline(self) -> float:
        """When to call :meth:`is_too_slow` next if no bytes arrive before."""
        return self._marks[-1][0] + STEP_SECONDS

    def brought(self, size: int) -> None:
        """Count ``size`` more bytes."""
        self._size += size

    def restart(self, now: float) -> None:
        """Measure from ``now`` on: the time before was not the client's."""
        self._marks.clear()
        self._marks.append((now, self._size))

    def is_too_slow(self, now: float) -> bool:
        """Whether the upload is below the rate, or has taken too long in total."""
        marks = self._marks
        while len(marks) > 1 and now - marks[1][0] >= SPAN_SECONDS:
            marks.popleft()
        since, size = marks[0]
        elapsed = now - since
        if elapsed >= SPAN_SECONDS and self._size - size < self._rate * elapsed:
            return True
        if now >= self.deadline:
            marks.append((now, self._size))
        return now - self._begun >= self._whole_seconds
